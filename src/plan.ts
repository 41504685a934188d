/** From policies, the time and the ledger to steps. Only reads. */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import type { Config } from './config/config.ts'
import { countRows, cut, firstTime, rangeWhere, type Cut, type Range } from './cut.ts'
import { cutoffOf, earlier, type Cutoff } from './cutoff.ts'
import type {
  Database,
  Db,
  Finding,
  InspectRequest,
  Inspection,
  RowSelection,
  Sql,
  SqlValue,
  Table,
  TimeColumn,
} from './database/database.ts'
import { wherePredicate } from './database/where.ts'
import { formatTableName } from './config/fields.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { Policy } from './config/policy.ts'

/** One archive that apply is about to make. */
export interface PlannedStep {
  readonly range: Range
  readonly rows: number
  /** The times of the first and last row, ISO 8601. */
  readonly from: string
  readonly to: string
  readonly estimatedBytes: number
}

/** What a policy finds in its table now. */
export interface Survey {
  readonly policy: Policy
  readonly cutoff: Cutoff
  readonly table: Table | undefined
  readonly time: TimeColumn | undefined
  readonly findings: readonly Finding[]
  /** Rows before the cutoff that may go. */
  readonly due: number
  /** Rows before the cutoff that must stay for now. */
  readonly held: number
  /** Rows without a usable time. */
  readonly undated: number
  /** The time of the oldest row of all, ISO 8601. */
  readonly oldest: string | undefined
  /** The time of the oldest due row, ISO 8601. */
  readonly oldestDue: string | undefined
}

/** What apply would do for a policy. */
export interface PolicyPlan extends Survey {
  readonly steps: readonly PlannedStep[]
  /** Why more is due than the policy allows at once; undefined where it is not. */
  readonly tooLarge: string | undefined
}

/** What a plan depends on beside the policy. */
export interface PlanContext {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
  /** Only rows before this, where it is earlier than the policy's own cutoff. */
  readonly before: Cutoff | undefined
}

/** Whether something was found that stops the policy. */
export function isRefused(survey: Pick<Survey, 'findings'>): boolean {
  return survey.findings.some(({ level }) => level === 'refusal')
}

/** A policy's cutoff in this run. */
export function policyCutoff(policy: Policy, context: PlanContext): Cutoff {
  const own = cutoffOf(policy.days, context.config.timezone, context.now)
  return context.before === undefined ? own : earlier(own, context.before)
}

/** What to ask of the policy's table. */
export function inspectRequest(policy: Policy, cutoff: Cutoff): InspectRequest {
  const { table, column, where, columnTimezone } = policy
  return { table, column, where, columnTimezone, cutoff }
}

/**
 * The due rows of a table: before the cutoff, matching the policy's `where`, neither held nor to be kept.
 * @param range leaves out rows elsewhere
 */
export async function dueRows(
  db: Db,
  inspection: Inspection,
  policy: Policy,
  cutoff: Cutoff,
  context: Pick<PlanContext, 'ledger' | 'now'>,
  range?: Range,
): Promise<{ due: RowSelection; held: RowSelection } | undefined> {
  const { table, time, order } = inspection
  const [timePart] = order
  if (table === undefined || time === undefined || timePart === undefined) return undefined
  const past: Sql[] = [time.due(cutoff)]
  if (policy.where !== undefined) past.push(wherePredicate(policy.where))
  if (range !== undefined) past.push(rangeWhere(order, range))
  const heldNow = await context.ledger.heldWhere(db, table, timePart, context.now)
  const staying = [heldNow, table.kept?.where].filter((where) => where !== undefined)
  const select = (conditions: readonly Sql[]): RowSelection => ({
    table,
    order,
    where: sql<boolean>`(${sql.join(conditions, sql` and `)})`,
  })
  const stays = staying.length === 0 ? sql`false` : sql`(${sql.join(staying, sql` or `)})`
  return { due: select([...past, ...staying.map((where) => sql`not ${where}`)]), held: select([...past, stays]) }
}

/** Looks at what a policy finds due, without planning steps. */
export async function surveyPolicy(policy: Policy, context: PlanContext): Promise<Survey> {
  return context.database.read(async (db) => (await surveyTable(db, policy, context)).survey)
}

/** Plans a policy's steps. @param limit the most rows to take */
export async function planPolicy(policy: Policy, context: PlanContext, limit: number): Promise<PolicyPlan> {
  return context.database.read(async (db) => {
    const { survey: found, due } = await surveyTable(db, policy, context)
    if (due === undefined || isRefused(found)) return { ...found, steps: [], tooLarge: undefined }
    const bytes = found.due === 0 ? 0 : await context.database.averageRowBytes(db, due)
    const cuts: Cut[] = []
    let left = limit
    for await (const next of cut(db, due, () => Math.min(policy.batch, left))) {
      cuts.push(next)
      left -= next.rows
    }
    const format = (value: SqlValue): string => found.time?.format(value) ?? ''
    return {
      ...found,
      steps: cuts.map(({ range, rows }) => ({
        range,
        rows,
        from: format(range.from[0] ?? null),
        to: format(range.through),
        estimatedBytes: Math.round(rows * bytes),
      })),
      tooLarge: await tooLarge(db, policy, found),
    }
  })
}

/** Changes when the rows that a policy takes, or the way it takes them, change. */
export function fingerprint(policy: Policy, config: Config): string {
  const { table, column, days, where, columnTimezone } = policy
  const what = [formatTableName(table), column, days, where ?? null, columnTimezone, config.timezone]
  return createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 16)
}

async function surveyTable(
  db: Db,
  policy: Policy,
  context: PlanContext,
): Promise<{ survey: Survey; due: RowSelection | undefined }> {
  const cutoff = policyCutoff(policy, context)
  const inspection = await context.database.inspect(db, inspectRequest(policy, cutoff))
  const { table, time, findings } = inspection
  const nothing: Survey = {
    policy,
    cutoff,
    table,
    time,
    findings,
    due: 0,
    held: 0,
    undated: 0,
    oldest: undefined,
    oldestDue: undefined,
  }
  const rows = await (isRefused(inspection) ? undefined : dueRows(db, inspection, policy, cutoff, context))
  if (rows === undefined || time === undefined) return { survey: nothing, due: undefined }
  const shown = (value: SqlValue | undefined): string | undefined =>
    value === undefined ? undefined : time.format(value)
  const all = wherePredicate(policy.where)
  const held = await countRows(db, rows.held)
  const undated = { ...rows.due, where: sql<boolean>`(${all} and ${time.undated})` }
  const dated = { ...rows.due, where: sql<boolean>`(${all} and not ${time.undated})` }
  const kept = table?.kept
  const keptNow =
    kept === undefined
      ? 0
      : await countRows(db, { ...rows.held, where: sql<boolean>`(${rows.held.where} and ${kept.where})` })
  return {
    due: rows.due,
    survey: {
      ...nothing,
      findings:
        keptNow === 0 || kept === undefined
          ? findings
          : [...findings, { level: 'warning', text: `1 row is past its time but not due: ${kept.why}` }],
      due: await countRows(db, rows.due),
      held,
      undated: await countRows(db, undated),
      oldest: shown(await firstTime(db, dated)),
      oldestDue: shown(await firstTime(db, rows.due)),
    },
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
