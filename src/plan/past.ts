/** Which rows of a policy's table are past their time, and which of those must stay. Only reads. */
import { sql } from 'kysely'

import { gatherAlong, gatheringOf, type Along } from './children.ts'
import type { Config } from '../config/config.ts'
import type { Policy } from '../config/policy.ts'
import { rangeWhere, type Range } from './cut.ts'
import { cutoffOf, earlier, type Cutoff } from '../cutoff.ts'
import type { Database, Db, InspectRequest, Inspection, RowSelection, Sql } from '../database/database.ts'
import { wherePredicate } from '../database/where.ts'
import type { HoldOnRows } from '../ledger/holds.ts'
import type { Ledger } from '../ledger/ledger.ts'

/** What a plan depends on beside the policy. */
export interface PlanContext {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
  /** Only rows before this, where it is earlier than the policy's own cutoff. */
  readonly before: Cutoff | undefined
}

/** A policy's cutoff in this run. */
export function policyCutoff(policy: Policy, context: PlanContext): Cutoff {
  const own = cutoffOf(policy.days, policy.timezone, context.now)
  return context.before === undefined ? own : earlier(own, context.before)
}

/** What to ask of the policy's table. */
export function inspectRequest(policy: Policy, cutoff: Cutoff): InspectRequest {
  const { table, column, where, columnTimezone, children, set } = policy
  return { table, column, where, columnTimezone, cutoff, children, set }
}

/** Rows of a table that are past their time. */
export interface PastRows {
  /** Those that may go. */
  readonly due: RowSelection
  /** Those that must stay for now; undefined where nothing makes any stay. */
  readonly held: RowSelection | undefined
  readonly holds: readonly HoldOnRows[]
}

/**
 * The rows before the cutoff that match the policy's `where`: those that may go, or be redacted, and those that are held or
 * kept. What holds nothing but what it would be overwritten with is neither.
 * @param range leaves out rows elsewhere
 */
export async function pastRows(
  db: Db,
  inspection: Inspection,
  policy: Policy,
  cutoff: Cutoff,
  context: Pick<PlanContext, 'ledger' | 'now'>,
  range?: Range,
): Promise<PastRows | undefined> {
  const { table, time, order, redaction } = inspection
  if (table === undefined || time === undefined || order.length === 0) return undefined
  // The range first: see `also` in cut.ts.
  const past: Sql[] = range === undefined ? [time.due(cutoff)] : [rangeWhere(order, range), time.due(cutoff)]
  if (policy.where !== undefined) past.push(wherePredicate(policy.where))
  if (redaction !== undefined) past.push(redaction.isOpen)
  const holds = await context.ledger.holds.onRows(db, table, policy.name, context.now)
  const staying = [...holds, ...(table.kept === undefined ? [] : [table.kept])].map(({ where }) => where)
  const select = (conditions: readonly Sql[]): RowSelection => ({
    table,
    order,
    where: sql<boolean>`(${sql.join(conditions, sql` and `)})`,
  })
  return {
    due: select([...past, ...staying.map((where) => sql`not ${where}`)]),
    held: staying.length === 0 ? undefined : select([...past, sql`(${sql.join(staying, sql` or `)})`]),
    holds,
  }
}

/** What goes along with past rows; undefined for a policy without children. @param range leaves out rows elsewhere */
export async function along(
  db: Db,
  inspection: Inspection,
  rows: PastRows,
  policy: Policy,
  cutoff: Cutoff,
  context: PlanContext,
  range?: Range,
): Promise<Along | undefined> {
  const all = range === undefined ? rows : await pastRows(db, inspection, policy, cutoff, context)
  const request = gatheringOf(inspection, rows.due, all?.due ?? rows.due, policy, context)
  return request === undefined ? undefined : gatherAlong(db, context.database, request, context)
}

/** Whether a predicate may depend on other rows than the one that it is about. */
export function asksOthers(where: string | null | undefined): boolean {
  return /\bselect\b/i.test(where ?? '')
}
