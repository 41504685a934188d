/** From policies, the time and the ledger to steps. Only reads. */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { gatherAlong, gatheringOf, look, type Along, type ChildRows } from './children.ts'
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
import { formatTableName, type TableName } from './config/fields.ts'
import type { Hold } from './ledger/hold.ts'
import type { HoldOnRows } from './ledger/holds.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { Policy } from './config/policy.ts'
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
  /** The legal holds among what makes them stay, and how many rows each is on. */
  readonly legal: readonly LegallyHeld[]
  /** Rows without a usable time. */
  readonly undated: number
  /** The time of the oldest row of all, ISO 8601. */
  readonly oldest: string | undefined
  /** The time of the oldest due row, ISO 8601. */
  readonly oldestDue: string | undefined
  /** What goes along with the due rows; undefined for a policy without children. */
  readonly children?: readonly ChildRows[]
}

/** A legal hold, and how many rows it keeps that are past their time. */
export interface LegallyHeld {
  readonly hold: Hold
  readonly rows: number
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
function isRefused({ findings }: Pick<Survey, 'findings'>): boolean {
  return findings.some(({ level }) => level === 'refusal')
}

/** A policy's cutoff in this run. */
export function policyCutoff(policy: Policy, context: PlanContext): Cutoff {
  const own = cutoffOf(policy.days, context.config.timezone, context.now)
  return context.before === undefined ? own : earlier(own, context.before)
}

/** What to ask of the policy's table. */
export function inspectRequest(policy: Policy, cutoff: Cutoff): InspectRequest {
  const { table, column, where, columnTimezone, children } = policy
  return { table, column, where, columnTimezone, cutoff, children }
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
 * The rows before the cutoff that match the policy's `where`: those that may go, and those that are held or kept.
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
  const { table, time, order } = inspection
  if (table === undefined || time === undefined || order.length === 0) return undefined
  // The range first: see `also` in cut.ts.
  const past: Sql[] = range === undefined ? [time.due(cutoff)] : [rangeWhere(order, range), time.due(cutoff)]
  if (policy.where !== undefined) past.push(wherePredicate(policy.where))
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
async function along(
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
  return request === undefined ? undefined : gatherAlong(db, context.database, request)
}

/** Looks at what a policy finds due, without planning steps. */
export async function surveyPolicy(policy: Policy, context: PlanContext): Promise<Survey> {
  return look(context.database, policy, async (db) => {
    const { found, due } = await survey(db, policy, context)
    return due === undefined ? found : { ...found, due: await countRows(db, due) }
  })
}

/** Plans a policy's steps. @param limit the most rows to take */
export async function planPolicy(policy: Policy, context: PlanContext, limit: number): Promise<PolicyPlan> {
  return look(context.database, policy, async (db) => {
    const { found, due, time, inspection, sideBySide } = await survey(db, policy, context)
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
        : await cutWholes(db, { policy, database }, inspection, request, due, limit)
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

/**
 * Counts the rows that are due at the end of a run, or of a step.
 * @param storage as it was found when the run was planned
 * @param range leaves out rows elsewhere
 */
export async function countDue(
  policy: Policy,
  cutoff: Cutoff,
  storage: string | undefined,
  context: PlanContext,
  range?: Range,
): Promise<number> {
  return look(context.database, policy, async (db) => {
    const inspection = await context.database.inspect(db, { ...inspectRequest(policy, cutoff), storage })
    const rows = await pastRows(db, inspection, policy, cutoff, context, range)
    if (rows === undefined) return 0
    return countRows(db, (await along(db, inspection, rows, policy, cutoff, context, range))?.due ?? rows.due)
  })
}

/** Counts the rows that are past their time at the end of a run, and stay. @param storage as for `countDue` */
export async function countHeld(
  policy: Policy,
  cutoff: Cutoff,
  storage: string | undefined,
  context: PlanContext,
): Promise<Pick<Survey, 'held' | 'legal'>> {
  return look(context.database, policy, async (db) => {
    const inspection = await context.database.inspect(db, { ...inspectRequest(policy, cutoff), storage })
    const rows = await pastRows(db, inspection, policy, cutoff, context)
    const held = await heldOf(db, rows)
    return rows === undefined ? held : withStaying(held, await along(db, inspection, rows, policy, cutoff, context))
  })
}

/** Counts among what is held what stays because of what hangs on it. */
function withStaying(
  held: Pick<Survey, 'held' | 'legal'>,
  hanging: Pick<Along, 'stays'> | undefined,
): Pick<Survey, 'held' | 'legal'> {
  return { ...held, held: held.held + (hanging?.stays ?? 0) }
}

async function heldOf(db: Db, rows: PastRows | undefined): Promise<Pick<Survey, 'held' | 'legal'>> {
  const legal: LegallyHeld[] = []
  if (rows?.held === undefined) return { held: 0, legal }
  const { table, where: past } = rows.held
  for (const { hold, where } of rows.holds) {
    if (hold.kind !== 'legal') continue
    const held = await countRows(db, { table, where: sql<boolean>`(${past} and ${where})` })
    if (held > 0) legal.push({ hold, rows: held })
  }
  return { held: await countRows(db, rows.held), legal }
}

/** Whether a predicate may depend on other rows than the one that it is about. */
function asksOthers(where: string | null | undefined): boolean {
  return /\bselect\b/i.test(where ?? '')
}

/** Changes when the rows that a policy takes, or the way it takes them, change. */
export function fingerprint(policy: Policy, config: Config): string {
  const { table, column, days, where, columnTimezone, children } = policy
  const names = children === undefined || children === 'archive' ? children : children.map(formatTableName)
  const what = [formatTableName(table), column, days, where ?? null, columnTimezone, config.timezone, names]
  return createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 16)
}

interface Surveyed {
  /** Without the number of due rows, which planning counts in its own way. */
  readonly found: Survey
  /** Undefined where the policy cannot work. */
  readonly due: RowSelection | undefined
  readonly time: TimeColumn | undefined
  readonly inspection: Inspection
  readonly sideBySide: boolean
}

async function survey(db: Db, policy: Policy, context: PlanContext): Promise<Surveyed> {
  const cutoff = policyCutoff(policy, context)
  const { lastAppliedAt } = await context.ledger.summary(db, policy.name)
  const request = { ...inspectRequest(policy, cutoff), hasWorked: lastAppliedAt !== null }
  const inspection = await context.database.inspect(db, request)
  const { table, time } = inspection
  const findings = [...inspection.findings, ...ownFindings(policy, table, context)]
  const none = { due: 0, held: 0, legal: [], undated: 0, oldest: undefined, oldestDue: undefined }
  const nothing: Survey = { policy, cutoff, table, time, findings, ...none }
  const rows = await (isRefused(nothing) ? undefined : pastRows(db, inspection, policy, cutoff, context))
  if (rows === undefined || time === undefined || table === undefined)
    return { found: nothing, due: undefined, time, inspection, sideBySide: false }

  const shown = (value: SqlValue | undefined): string | undefined =>
    value === undefined ? undefined : time.format(value)
  const all = wherePredicate(policy.where)
  const undated = { table, where: sql<boolean>`(${all} and ${time.undated})` }
  const hanging = await along(db, inspection, rows, policy, cutoff, context)
  const due = hanging?.due ?? rows.due
  const dated = { ...rows.due, where: sql<boolean>`(${all} and not ${time.undated})` }
  const found: Survey = {
    ...nothing,
    findings: [...findings, ...(await keptFindings(db, table, rows.held)), ...(hanging?.findings ?? [])],
    ...withStaying(await heldOf(db, rows), hanging),
    undated: inspection.undated ?? (await countRows(db, undated)),
    oldest: shown(await firstTime(db, dated)),
    oldestDue: shown(await firstTime(db, due)),
    ...(hanging === undefined ? {} : { children: hanging.children }),
  }
  return {
    found,
    due,
    time,
    inspection,
    sideBySide: inspection.sideBySide && !rows.holds.some(({ hold }) => asksOthers(hold.where)),
  }
}

/** What the policy asks for in vain; and archiving what the ledger knows would be forgetting it. */
function ownFindings(policy: Policy, table: Table | undefined, { ledger, database }: PlanContext): Finding[] {
  if (policy.partitions === 'drop' && database.partitioning === undefined) {
    const text = `"partitions" is "drop", and tables of ${database.kind} have no partitions`
    return [{ level: 'refusal', text, hint: 'Leave it out of the policy.' }]
  }
  if (policy.partitions === 'drop' && policy.children !== undefined) {
    const text = '"partitions" is "drop", and what "children" archives along hangs on single rows'
    return [{ level: 'refusal', text, hint: 'Leave one of them out of the policy.' }]
  }
  if (table === undefined || !ledger.owns(table.name)) return []
  const text = `${formatTableName(table.name)} is one of the ledger's own tables`
  return [{ level: 'refusal', text, hint: 'What has been archived must stay known.' }]
}

async function keptFindings(db: Db, table: Table, held: RowSelection | undefined): Promise<Finding[]> {
  const { kept } = table
  if (kept === undefined || held === undefined) return []
  const rows = await countRows(db, { table, where: sql<boolean>`(${held.where} and ${kept.where})` })
  return rows === 0 ? [] : [{ level: 'warning', text: `1 row is past its time but not due: ${kept.why}` }]
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
