/** How a policy's run ended, as its report says it. */
import { formatTableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { warningsOf } from '../database/findings.ts'
import { hasCode, messageOf, RetentionError, type ErrorCode } from '../errors.ts'
import { policyCutoff } from '../plan/past.ts'
import type { PolicyPlan } from '../plan/plan.ts'
import type { LegallyHeld } from '../plan/survey.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { reported, type ArchiveReport, type HoldReport, type PolicyReport, type PolicyStatus } from '../report.ts'
import { isInterrupted, type RunContext } from '../plan/step.ts'

/** An error, and how it ends a policy. */
export interface Failure {
  readonly error: RetentionError
  readonly status: PolicyStatus
}

/** What stops a policy before anything is touched. */
const refusals: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'REFUSED',
  'PLAN_TOO_LARGE',
  'TARGET_UNUSABLE',
  'KEY_MISSING',
  'PACKAGE_MISSING',
  'CONFIG_INVALID',
])

/**
 * What an error means for the policy that it ended.
 * @param begun whether a step had been begun
 */
export function failureOf(error: unknown, context: RunContext, begun: boolean): Failure {
  const known = error instanceof RetentionError ? error : undefined
  if (context.rollbackSignal?.aborted === true && known === undefined) {
    const text = 'Interrupted; the running step was rolled back'
    return { error: new RetentionError('INTERRUPTED', text, { cause: error }), status: 'interrupted' }
  }
  if (known === undefined) {
    return { error: new RetentionError('UNEXPECTED', messageOf(error), { cause: error }), status: 'failed' }
  }
  // Told to stop, it did not go on waiting for others.
  const waited = hasCode(known, 'DATABASE_BUSY') || hasCode(known, 'ROWS_CHANGED')
  if (isInterrupted(context) && waited) return { error: known, status: 'interrupted' }
  // Refused is what has been stopped before anything was touched.
  return { error: known, status: refusals.has(known.code) && !begun ? 'refused' : 'failed' }
}

/** A report in which nothing has been archived. @param remaining due rows that are left */
export function reportOf(
  policy: Policy,
  context: RunContext,
  planned: PolicyPlan | undefined,
  remaining: number,
  failure?: Failure,
): PolicyReport {
  return {
    policy: policy.name,
    table: formatTableName(planned?.table?.name ?? policy.table),
    action: policy.action,
    ...(policy.set === undefined ? {} : { redacts: Object.keys(policy.set) }),
    cutoff: (planned?.cutoff ?? policyCutoff(policy, context)).instant,
    due: planned?.due ?? 0,
    archived: 0,
    skipped: 0,
    waits: [],
    held: planned?.held ?? 0,
    holds: (planned?.legal ?? []).map(holdReport),
    undated: planned?.undated ?? 0,
    remaining,
    status: failure?.status ?? statusOf(planned, remaining, context),
    ...(failure === undefined ? {} : { error: reported(failure.error) }),
    warnings: warningsOf(planned?.findings ?? []),
    archives: [],
    ...(planned?.children === undefined ? {} : { children: planned.children }),
  }
}

/** A legal hold, as the report of a policy names it. */
export function holdReport({ hold: { id, reason, createdBy, until, where }, rows }: LegallyHeld): HoldReport {
  return { id, reason, createdBy, until, where, rows }
}

/** An archive that was made, as reports tell of it. */
export function archiveReport(entry: LedgerEntry): ArchiveReport {
  const { name, location, rows, bytes, sha256, from, to, partition } = entry
  const dropped = partition === null ? {} : { partition: formatTableName(partition.table) }
  return { name, location, rows, bytes, sha256, from, to, ...dropped }
}

/** The report of a policy that was not begun, because the run had been interrupted before. */
export function notBegunReport(policy: Policy, context: RunContext): PolicyReport {
  const error = new RetentionError('INTERRUPTED', `Interrupted before policy "${policy.name}" was begun`)
  return reportOf(policy, context, undefined, 0, { error, status: 'interrupted' })
}

/** The report of a policy that another run holds. */
export function lockedReport(policy: Policy, context: RunContext): PolicyReport {
  const error = new RetentionError('POLICY_LOCKED', `Another run holds policy "${policy.name}"`, {
    hint: 'Let it finish; what it leaves, the next run takes.',
  })
  return reportOf(policy, context, undefined, 0, { error, status: 'locked' })
}

function statusOf(planned: PolicyPlan | undefined, remaining: number, context: RunContext): PolicyStatus {
  if (isInterrupted(context) && remaining > 0) return 'interrupted'
  if (remaining > 0) return 'partial'
  return planned === undefined || planned.due === 0 ? 'nothing-due' : 'applied'
}
