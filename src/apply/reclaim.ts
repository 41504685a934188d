/** What a policy's deleted rows have left behind in the database, and giving it back where the policy asks for it. */
import type { TableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import type { Finding, Space } from '../database/database.ts'
import { messageOf, type RetentionError } from '../errors.ts'
import type { SpaceReport } from '../report.ts'
import { isInterrupted, type RunContext } from '../plan/step.ts'

/** How a policy's steps have ended. */
export interface Ended {
  readonly policy: Policy
  /** As it was found; undefined where it was not. */
  readonly table: TableName | undefined
  /** Rows that were archived, and deleted one by one. */
  readonly deleted: number
  readonly failure: RetentionError | undefined
  /** When to begin nothing more; milliseconds since 1970. */
  readonly deadline: number
}

/** What is left behind, and what stood in the way of giving it back. */
export interface Afterwards {
  readonly space: SpaceReport | undefined
  readonly warnings: readonly Finding[]
}

/** Looks at what archived rows have left behind, and reclaims it. Never throws: the rows are archived, whatever comes. */
export async function spaceAfter(ended: Ended, context: RunContext): Promise<Afterwards> {
  const { policy, table, deleted, failure, deadline } = ended
  if (deleted === 0 || table === undefined || isOfDatabase(failure)) return { space: undefined, warnings: [] }
  const before = await context.database.space(table, deleted).catch(() => undefined)
  if (before === undefined || !policy.reclaim) return { space: before, warnings: [] }
  if (isInterrupted(context) || Date.now() >= deadline) {
    return { space: before, warnings: [unfinished('was not begun: the run was to end first')] }
  }
  const warnings = await reclaim(table, context)
  const after = await context.database.space(table, 0).catch(() => undefined)
  const reclaimed = after === undefined ? undefined : difference(before, after)
  // What was skipped, or cancelled at once, is as it was.
  const isDone =
    reclaimed !== undefined && (warnings.length === 0 || reclaimed.bytes > 0 || (reclaimed.deadRows ?? 0) > 0)
  return { space: { ...(after ?? before), ...(isDone ? { reclaimed } : {}) }, warnings }
}

async function reclaim(table: TableName, { database, signal, rollbackSignal }: RunContext): Promise<Finding[]> {
  const signals = [signal, rollbackSignal].filter((one) => one !== undefined)
  return database
    .reclaim(table, AbortSignal.any(signals))
    .catch((error: unknown) => [unfinished(`did not come to its end: ${messageOf(error)}`)])
}

/** Others are at work too, and may fill in the meantime what was given back. */
function difference(before: Space, after: Space): NonNullable<SpaceReport['reclaimed']> {
  const bytes = Math.max(0, before.bytes - after.bytes)
  if (before.deadRows === undefined || after.deadRows === undefined) return { bytes }
  return { bytes, deadRows: Math.max(0, before.deadRows - after.deadRows) }
}

function unfinished(what: string): Finding {
  return {
    level: 'warning',
    text: `"reclaim" ${what}`,
    hint: 'What was archived is archived; a later run reclaims it.',
  }
}

/** Whether a policy ended with a failure after which the database is better left alone. */
function isOfDatabase(failure: RetentionError | undefined): boolean {
  return failure !== undefined && /^(DATABASE_|COMMIT_|UNEXPECTED)/.test(failure.code)
}
