/** From policies, the time and the ledger to steps. Only reads. */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { look, type ChildRows } from './children.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { countRows, cut, type Cut, type Range } from './cut.ts'
import type { Cutoff } from '../cutoff.ts'
import type { Database, Db, Inspection, RowSelection, TimeColumn } from '../database/database.ts'
import { asksOthers, inspectRequest, pastRows, type PlanContext } from './past.ts'
import { survey, type Survey } from './survey.ts'
import { cutWholes, type WholeCut } from './whole.ts'

/** One archive that apply is about to make. */
export interface PlannedStep {
  readonly range: Range
  readonly rows: number
  /** The times of the first and last row, ISO 8601. */
  readonly from: string
  readonly to: string
  readonly estimatedBytes: number
  /** The partition that it archives whole and drops; undefined where it takes rows. */
  readonly partition?: TableName
}

/** What apply would do for a policy. */
export interface PolicyPlan extends Survey {
  readonly steps: readonly PlannedStep[]
  /** How many of them may be under way at a time. */
  readonly lanes: number
  /** Whether nothing but time, and what others write, can make more rows due. */
  readonly isSteady: boolean
  /** The most rows of a step, as the policy says and as its bytes allow by a sample of the rows. */
  readonly size: number
  /** Why more is due than the policy allows at once; undefined where it is not. */
  readonly tooLarge: string | undefined
}

/** Plans a policy's steps. @param limit the most rows to take */
export async function planPolicy(policy: Policy, context: PlanContext, limit: number): Promise<PolicyPlan> {
  return look(context.database, policy, async (db) => {
    const { found, due, holds, time, inspection, sideBySide } = await survey(db, policy, context)
    if (due === undefined || time === undefined)
      return { ...found, steps: [], lanes: 1, isSteady: false, size: policy.batch, tooLarge: undefined }
    // Where nothing is due, a sample would look for it in the whole table.
    const bytes =
      found.oldestDue === undefined ? 0 : await rowBytes(db, due, found.children, inspection, context.database)
    const size = Math.max(1, Math.floor(Math.min(policy.batch, policy.batchBytes / bytes)))
    const request = inspectRequest(policy, found.cutoff)
    const { database } = context
    const wholes =
      // What hangs on rows goes with them one by one.
      found.oldestDue === undefined || policy.children !== undefined
        ? { cuts: [], rest: due, findings: [] }
        : await cutWholes(db, { policy, database }, inspection, request, due, holds, limit)
    const taken = rowsIn(wholes.cuts)
    const cuts = [...wholes.cuts, ...(await cutUpTo(db, wholes.rest, size, limit - taken))]
    // Cut to the end, the steps have counted all rows.
    const counted = limit === Infinity ? rowsIn(cuts) : await countRows(db, due)
    return {
      ...found,
      findings: [...found.findings, ...wholes.findings],
      due: counted,
      // A predicate that asks other rows must see what the step before has taken.
      lanes: sideBySide && !asksOthers(policy.where) ? policy.concurrency : 1,
      isSteady: sideBySide && policy.where === undefined,
      size,
      steps: cuts.map((next) => plannedStep(next, time, bytes)),
      tooLarge: await tooLarge(db, policy, { ...found, due: counted }),
    }
  })
}

/**
 * Cuts the rows in a planned step's range anew, as they are now, into steps of about equal size.
 * @param storage as it was found when the run was planned
 * @param size the most rows of one
 * @param limit the most rows of all
 */
export async function cutAnew(
  { policy, cutoff, storage }: { policy: Policy; cutoff: Cutoff; storage: string | undefined },
  step: PlannedStep,
  size: number,
  limit: number,
  context: PlanContext,
): Promise<PlannedStep[]> {
  return context.database.read(async (db) => {
    const inspection = await context.database.inspect(db, { ...inspectRequest(policy, cutoff), storage })
    const rows = await pastRows(db, inspection, policy, cutoff, context, step.range)
    if (rows === undefined || inspection.time === undefined) return []
    const { time } = inspection
    const count = Math.min(limit, await countRows(db, rows.due))
    if (count === 0) return []
    const even = Math.ceil(count / Math.ceil(count / size))
    const bytes = step.estimatedBytes / Math.max(1, step.rows)
    return (await cutUpTo(db, rows.due, even, limit)).map((next) => plannedStep(next, time, bytes))
  })
}

/** The average size of a due row as CSV, with what goes along with it, in bytes. */
async function rowBytes(
  db: Db,
  due: RowSelection,
  children: readonly ChildRows[] | undefined,
  { tree }: Inspection,
  database: Database,
): Promise<number> {
  const own = await database.averageRowBytes(db, due)
  if (children === undefined || tree === undefined) return own
  const rows = Math.max(1, await countRows(db, due))
  let bytes = own
  for (const [at, { table }] of tree.tables.entries()) {
    const share = (children[at - 1]?.rows ?? 0) / rows
    if (share > 0)
      bytes += share * (await database.averageRowBytes(db, { table, where: sql<boolean>`true`, order: [] }))
  }
  return bytes
}

function rowsIn(cuts: readonly Cut[]): number {
  return cuts.reduce((sum, { rows }) => sum + rows, 0)
}

/** Cuts until so many rows are in the ranges together. */
async function cutUpTo(db: Db, due: RowSelection, size: number, limit: number): Promise<Cut[]> {
  const cuts: Cut[] = []
  let left = limit
  for await (const next of cut(db, due, () => Math.min(size, left))) {
    cuts.push(next)
    left -= next.rows
  }
  return cuts
}

function plannedStep({ range, rows, partition }: WholeCut, time: TimeColumn, bytes: number): PlannedStep {
  return {
    ...(partition === undefined ? {} : { partition }),
    range,
    rows,
    from: time.format(range.from[0] ?? null),
    to: time.format(range.through),
    estimatedBytes: Math.round(rows * bytes),
  }
}

async function tooLarge(db: Db, policy: Policy, found: Survey): Promise<string | undefined> {
  if (policy.maxRows !== undefined && found.due > policy.maxRows) {
    return `${found.due} rows are due, and "maxRows" allows ${policy.maxRows}`
  }
  if (policy.maxPercent === undefined || found.table === undefined || found.due === 0) return undefined
  const all = await countRows(db, { table: found.table, where: sql<boolean>`true` })
  const share = (100 * found.due) / all
  return share > policy.maxPercent
    ? `${found.due} rows are due, ${share.toFixed(1)} % of the table, and "maxPercent" allows ${policy.maxPercent} %`
    : undefined
}

/** Changes when the rows that a policy takes, or the way it takes them, change. */
export function fingerprint(policy: Policy): string {
  const { table, column, days, where, columnTimezone, children, set } = policy
  const names = children === undefined || children === 'archive' ? children : children.map(formatTableName)
  const what: unknown[] = [formatTableName(table), column, days, where ?? null, columnTimezone, policy.timezone, names]
  if (set !== undefined) what.push(set)
  return createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 16)
}
