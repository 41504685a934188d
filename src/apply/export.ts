/** What a step takes out of the database: rows of the policy's table, and with children all that hangs on them. */
import { sql } from 'kysely'

import { gatheringOf } from '../plan/children.ts'
import { formatTableName } from '../config/fields.ts'
import { countRows, firstTime, lastTime, rangeWhere } from '../plan/cut.ts'
import type { Column, Partition, Redacted, RowSelection, StepTransaction, Table } from '../database/database.ts'
import { referencesOf, type Link, type Reference } from '../database/tree.ts'
import { pastRows } from '../plan/past.ts'
import type { RunContext, StepOrder } from '../plan/step.ts'

/** One CSV of a step, on its way. */
interface ExportedPart {
  readonly table: Table
  readonly columns: readonly Column[]
  readonly ddl: readonly string[]
  /** Where it holds references instead of rows that go. */
  readonly link: Link | undefined
  /** What its rows refer to in the step's other files. */
  readonly references: readonly Reference[]
  /** What the file is called after, beside the archive itself. */
  readonly label: string
  /** To be read once, to the end, one part after the other. */
  readonly csv: AsyncIterable<Buffer>
  /** To be asked once the CSV has been read. */
  count(): Promise<number>
  /** As `ExportedRows.records`. */
  readonly records: (() => number) | undefined
}

/** What a step takes out. */
export interface ExportedStep {
  /** The policy's own table first. */
  readonly parts: readonly ExportedPart[]
  /** Known beforehand to take nothing. */
  readonly isEmpty: boolean
  /** Rows of the policy's table that are not in the step's range: they hang on some that are. */
  readonly beyond: number
  /** The times that no row lies outside of, ISO 8601. */
  readonly from: string
  readonly to: string
  /** The partition that all of its rows are. */
  readonly partition: Partition | undefined
  /** What its rows were overwritten with; undefined where they go. */
  readonly redacted: Redacted | undefined
  /** Makes sure that exactly these rows are gone, or redacted, once all parts are stored. */
  remove(): Promise<void>
}

/** Begins to take a step's rows out of the database. @param due those in its range */
export async function exportStep(
  transaction: StepTransaction,
  due: RowSelection,
  order: StepOrder,
  context: RunContext,
  skipLocked: boolean,
): Promise<ExportedStep> {
  const { step, policy, cutoff } = order
  const { db, inspection } = transaction
  const { from, to } = step
  if (inspection.tree === undefined) {
    // First: from then on the connection takes no other command until the rows have been read.
    const ddl = await context.database.ddl(db, due.table.name)
    const rows = transaction.export(due, skipLocked, context.rollbackSignal)
    const { columns, csv, records, partition } = rows
    const { holds } = context.ledger
    const held = (): ReturnType<typeof holds.where> =>
      holds.where(transaction.db, due.table, policy.name, context.now, order.step.partition)
    const own = { table: due.table, columns, ddl, link: undefined, references: [], label: '' }
    const part = { ...own, csv, records, count: () => rows.count() }
    const { redaction } = inspection
    const redacted = redaction === undefined ? undefined : { key: due.table.key, set: redaction.set }
    return { parts: [part], isEmpty: false, beyond: 0, from, to, partition, redacted, remove: () => rows.remove(held) }
  }
  const all = await pastRows(db, inspection, policy, cutoff, context)
  const request = gatheringOf(inspection, due, all?.due ?? due, policy, context)
  if (request === undefined) throw new TypeError('a tree was asked for')
  const gathered = await transaction.gather(request, skipLocked, context.rollbackSignal)
  const going: RowSelection = { ...due, where: gathered.going }
  const outside = sql<boolean>`(${gathered.going} and not ${rangeWhere(due.order, step.range)})`
  const beyond = await countRows(db, { table: due.table, where: outside })
  const times = beyond === 0 ? { from, to } : await timesOf(transaction, going)
  const own = due.table.name
  const parts: ExportedPart[] = []
  for (const { table, link, columns, csv, rows } of gathered.parts) {
    const { schema, name } = table.name
    const ddl = await context.database.ddl(db, table.name)
    const label = `${formatTableName({ schema: schema === own.schema ? undefined : schema, name })}${link === undefined ? '' : '.links'}`
    const references = referencesOf(inspection.tree, table, link)
    parts.push({ table, link, references, columns, ddl, csv, label, records: undefined, count: async () => rows })
  }
  const isEmpty = (gathered.rows[0] ?? 0) === 0
  const none = { partition: undefined, redacted: undefined }
  return { parts, isEmpty, beyond, ...times, ...none, remove: () => gathered.remove() }
}

/** The times of the first and last row of a selection, of which there is one at least. */
async function timesOf({ db, inspection }: StepTransaction, rows: RowSelection): Promise<{ from: string; to: string }> {
  const { time } = inspection
  const [first, last] = [await firstTime(db, rows), await lastTime(db, rows)]
  return { from: time?.format(first ?? null) ?? '', to: time?.format(last ?? null) ?? '' }
}
