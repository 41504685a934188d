/** What a policy finds in its table: rows due, held, undated; and what is wrong. Only reads. */
import { sql } from 'kysely'

import { look, type Along, type ChildRows } from './children.ts'
import { formatTableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { countRows, firstTime, type Range } from './cut.ts'
import { expiryAt, type Cutoff } from '../cutoff.ts'
import type { Db, Finding, Inspection, RowSelection, SqlValue, Table, TimeColumn } from '../database/database.ts'
import { wherePredicate } from '../database/where.ts'
import { failsOnRows, type Hold } from '../ledger/hold.ts'
import type { HoldOnRows } from '../ledger/holds.ts'
import { along, asksOthers, inspectRequest, pastRows, policyCutoff, type PastRows, type PlanContext } from './past.ts'

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

/** Looks at what a policy finds due, without planning steps. */
export async function surveyPolicy(policy: Policy, context: PlanContext): Promise<Survey> {
  return look(context.database, policy, async (db) => {
    const { found, due } = await survey(db, policy, context)
    return due === undefined ? found : { ...found, due: await countRows(db, due) }
  })
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

interface Surveyed {
  /** Without the number of due rows, which planning counts in its own way. */
  readonly found: Survey
  /** Undefined where the policy cannot work. */
  readonly due: RowSelection | undefined
  readonly holds: readonly HoldOnRows[]
  readonly time: TimeColumn | undefined
  readonly inspection: Inspection
  readonly sideBySide: boolean
}

export async function survey(db: Db, policy: Policy, context: PlanContext): Promise<Surveyed> {
  const cutoff = policyCutoff(policy, context)
  const { lastAppliedAt } = await context.ledger.summary(db, policy.name)
  const request = { ...inspectRequest(policy, cutoff), hasWorked: lastAppliedAt !== null }
  const inspection = await context.database.inspect(db, request)
  const { table, time } = inspection
  const findings = [...inspection.findings, ...ownFindings(policy, table, context), ...lockFindings(policy, context)]
  const none = { due: 0, held: 0, legal: [], undated: 0, oldest: undefined, oldestDue: undefined }
  const nothing: Survey = { policy, cutoff, table, time, findings, ...none }
  const rows = await (isRefused(nothing) ? undefined : pastRows(db, inspection, policy, cutoff, context))
  if (rows === undefined || time === undefined || table === undefined)
    return { found: nothing, due: undefined, holds: [], time, inspection, sideBySide: false }

  const shown = (value: SqlValue | undefined): string | undefined =>
    value === undefined ? undefined : time.format(value)
  const all = wherePredicate(policy.where)
  const undated = { table, where: sql<boolean>`(${all} and ${time.undated})` }
  const held = await heldOf(db, rows)
  const hanging = await along(db, inspection, rows, policy, cutoff, context)
  const due = hanging?.due ?? rows.due
  const dated = { ...rows.due, where: sql<boolean>`(${all} and not ${time.undated})` }
  const found: Survey = {
    ...nothing,
    findings: [...findings, ...(await keptFindings(db, table, rows.held)), ...(hanging?.findings ?? [])],
    ...withStaying(held, hanging),
    undated: inspection.undated ?? (await countRows(db, undated)),
    oldest: shown(await firstTime(db, dated)),
    oldestDue: shown(await firstTime(db, due)),
    ...(hanging === undefined ? {} : { children: hanging.children }),
  }
  return {
    found,
    due,
    holds: rows.holds,
    time,
    inspection,
    sideBySide: inspection.sideBySide && !rows.holds.some(({ hold }) => asksOthers(hold.where)),
  }
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
    const held = await countRows(db, { table, where: sql<boolean>`(${past} and ${where})` }).catch((error: unknown) => {
      throw failsOnRows(hold, error)
    })
    if (held > 0) legal.push({ hold, rows: held })
  }
  return { held: await countRows(db, rows.held), legal }
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

/** An archive that is locked for longer than it is kept cannot be pruned in time. */
function lockFindings(policy: Policy, { config, now }: PlanContext): Finding[] {
  const { objectLock, expiry, expireAfter = config.archive.expireAfter } = policy.archive ?? config.archive
  if (objectLock?.days === undefined || expiry === undefined) return []
  const day = 24 * 60 * 60 * 1000
  if (Date.parse(expiryAt(now.toISOString(), expiry)) >= now.getTime() + objectLock.days * day) return []
  const text = `Archives are locked for ${objectLock.days} days and expire after ${expireAfter}: until the lock has ended, none can be pruned`
  return [
    { level: 'warning', text, hint: 'Leave "days" out of "objectLock": the lock then ends as the archive expires.' },
  ]
}

async function keptFindings(db: Db, table: Table, held: RowSelection | undefined): Promise<Finding[]> {
  const { kept } = table
  if (kept === undefined || held === undefined) return []
  const rows = await countRows(db, { table, where: sql<boolean>`(${held.where} and ${kept.where})` })
  return rows === 0 ? [] : [{ level: 'warning', text: `1 row is past its time but not due: ${kept.why}` }]
}

/** Whether something was found that stops the policy. */
function isRefused({ findings }: Pick<Survey, 'findings'>): boolean {
  return findings.some(({ level }) => level === 'refusal')
}
