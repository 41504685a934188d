/** Puts one archive back: the order of events of a restore, as apply/runner.ts has that of a step. */
import { commit } from '../commit.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type {
  Database,
  Finding,
  LostPartitions,
  OnConflict,
  PlacedRows,
  RestoreTable,
  RestoreTransaction,
  Selection,
} from '../database/database.ts'
import { refusalOf } from '../database/findings.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { checkBytes, type FoundArchive } from '../stored/find-archive.ts'
import type { HeldRows } from '../ledger/holds.ts'
import type { ArchiveState, Ledger, LedgerEntry } from '../ledger/ledger.ts'
import { migrate } from '../migrate.ts'
import { incomingRows, mayBeThere, placeStaged, placeStraight, type Placing } from './placing.ts'
import { formOf, isPartial } from './placing-reshaped.ts'
import { adoptedEntry, restoredEntry, told } from '../stored/records.ts'
import type { RestoreReport } from '../report.ts'
import { shapeOf, type Reshaping, type Shape } from '../reshape.ts'
import { outcomeOf } from './restore-outcome.ts'

/** How an archive is to be put back. */
export interface RestoreOrder {
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
  /** Another table than the archive's own. */
  readonly into: TableName | undefined
  /** Until when the rows are held; undefined: not at all. */
  readonly hold: Date | 'forever' | undefined
  readonly onConflict: OnConflict
  readonly reshaping: Reshaping
  readonly selection: Selection
  readonly dryRun: boolean
  /** Whether one that was restored before is to be restored again. */
  readonly again: boolean
}

/** Puts an archive's rows back, in one transaction. */
export type Down = (archive: FoundArchive, order: RestoreOrder) => Promise<RestoreReport>

/** Puts an archive back: the down of the migration that made it, unless the rows go elsewhere or nowhere. */
export async function restoreArchive(
  archive: FoundArchive,
  order: RestoreOrder,
  down: Down = downOne,
): Promise<RestoreReport> {
  if (order.dryRun || order.into !== undefined) return down(archive, order)
  const { database, ledger } = order
  const inState = async (state: ArchiveState): Promise<string[]> =>
    database.read((db) => ledger.namesIn(db, [archive.name], state))
  let report: RestoreReport | undefined
  const migration = {
    name: archive.name,
    up: () => Promise.reject(new TypeError('an archive is not made by restoring it')),
    down: async (): Promise<void> => {
      report = await down(archive, order)
    },
  }
  try {
    await migrate('down', migration, {
      // An archive that the ledger does not know was executed all the same: its manifest says so.
      executed: async () => (archive.entry === undefined ? [archive.name] : inState(archive.entry.state)),
      assert: async () => {
        // While it has anything that the table has not, it stays archived.
        if (report?.state !== 'restored' || (await inState('restored')).length > 0) return
        throw new RetentionError('LEDGER_INVALID', `${archive.name} is not marked as restored in the ledger`)
      },
    })
  } catch (error) {
    // Once it is committed, a ledger that cannot be asked again changes nothing about it.
    if (report === undefined || hasCode(error, 'LEDGER_INVALID')) throw error
  }
  if (report === undefined) throw new RetentionError('LEDGER_INVALID', `${archive.name} was not restored`)
  return report
}

/** One restore, in its order. All rows come back with the ledger's word for it, or none does. */
async function downOne(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
  if (!mayBeThere(archive) && order.onConflict === 'error' && !isPartial(order.selection)) {
    const report = await attempt(archive, order, placeStraight)
    if (report !== undefined) return report
  }
  // What is not certain, or was in the way, is looked at in turn; first whether the archive is what it was.
  await checkBytes(archive)
  const report = await attempt(archive, order, placeStaged)
  if (report === undefined) throw new TypeError('staging has an answer to everything')
  return report
}

/** One transaction; undefined where its way was not the right one, and everything is as it was. */
async function attempt(archive: FoundArchive, order: RestoreOrder, place: Placing): Promise<RestoreReport | undefined> {
  const { database, onConflict, dryRun } = order
  // 1. Lock the table against changes of its form, and look whether it can take the rows.
  const name = order.into ?? archive.table
  const transaction = await database.restore(name, await lostPartitions(archive, order))
  if (transaction === undefined) throw noSuchTable(archive, name, true)
  const { table } = transaction
  let report: RestoreReport
  try {
    const refusal = refusalOf(table.findings)
    if (refusal !== undefined) throw refusal
    if (order.into !== undefined && formatTableName(table.name) === formatTableName(archive.table))
      throw ownTable(archive)
    const shaped = { name: formatTableName(table.name), columns: table.columns }
    const shape = shapeOf(archive.name, formOf(archive), shaped, order.reshaping)
    if (onConflict !== 'error') checkKey(table, archive, shape, onConflict)
    // 2. Put the rows in, in one of two ways. No byte is used that is not checked.
    const placed = await place(archive, transaction, { ...order, shape })
    if (placed === undefined) {
      await transaction.rollback()
      return undefined
    }
    // 3. Hold them and mark the archive, in the same transaction.
    const { rows, conflicts } = placed
    const notes = dryRun ? [] : await rows.advanceSequences()
    const outcome = outcomeOf(archive, shape, placed, order)
    const recorded =
      order.into === undefined && !dryRun
        ? await record(archive, order, transaction, {
            rows,
            state: outcome.state,
            held: () => heldRows(archive, table, shape, rows),
          })
        : undefined
    report = {
      archive: archive.name,
      location: archive.target.locate(archive.path),
      table: formatTableName(table.name),
      dryRun,
      columns: shape.columns,
      rows: archive.rows,
      selected: placed.selected,
      restored: rows.rows,
      conflicts: conflicts.count,
      partitions: (transaction.made?.tables ?? []).map(formatTableName),
      heldUntil: recorded?.heldUntil ?? null,
      state: outcome.state,
      warnings: [
        ...(transaction.made?.warnings ?? []),
        ...notes.map((text): Finding => ({ level: 'warning', text })),
        ...outcome.warnings,
        ...(recorded?.warnings ?? []),
      ],
    }
  } catch (error) {
    await transaction.rollback()
    throw withWhy(error, transaction.made?.warnings ?? [])
  }
  // 4. Commit: the rows are back and the ledger knows, or neither.
  if (dryRun) await transaction.rollback()
  else await commitRestore(archive, order, transaction, report)
  return report
}

/** Rows that find no place may do so because their partition could not be made again: the error says why. */
function withWhy(error: unknown, warnings: readonly Finding[]): unknown {
  if (!(error instanceof RetentionError) || !error.message.includes('no partition of relation')) return error
  const lines = [...warnings.map(({ text }) => text), ...(error.hint === undefined ? [] : [error.hint])]
  return new RetentionError(error.code, error.message, { hint: lines.join('\n'), cause: error })
}

/** The partition that the rows were; or those that they were in, and that have been dropped since with what was left. */
export async function lostPartitions(
  archive: FoundArchive,
  { database, ledger, into }: RestoreOrder,
): Promise<LostPartitions | undefined> {
  if (into !== undefined || database.partitioning === undefined) return undefined
  const { entry, manifest } = archive
  const [file] = manifest?.files ?? []
  const own = entry === undefined ? file?.partition && told(file.partition) : entry.partition
  const { time } = incomingRows(archive)
  if (own !== undefined && own !== null) return { partitions: [own], time }
  const archivedAt = entry?.archivedAt ?? manifest?.createdAt
  if (archivedAt === undefined) return undefined
  // What had been dropped before had none of these rows.
  const table = formatTableName(archive.table)
  return { partitions: await database.read((db) => ledger.dropped(db, table, archivedAt)), time }
}

/** @param isAlone whether the archive has rows of one table */
export function noSuchTable(archive: FoundArchive, name: TableName, isAlone: boolean): RetentionError {
  const ddl = archive.manifest?.files[0]?.ddl ?? []
  const isOwn = formatTableName(name) === formatTableName(archive.table)
  const way = isAlone
    ? '--into takes that; apply will not leave the rows alone there.'
    : 'give it the old one for the restore: rows of several tables go back to where they were from.'
  const renamed = isOwn ? `If it has another name now, ${way}\n` : ''
  return new RetentionError('REFUSED', `There is no table "${formatTableName(name)}" to restore ${archive.name} into`, {
    hint: `${renamed}Make it first${ddl.length === 0 ? '' : `; this is how it was made:\n${ddl.join('\n')}`}`,
  })
}

/** What was written down of a restore. */
interface Recorded {
  /** As in the report. */
  readonly heldUntil: string | null
  readonly warnings: readonly Finding[]
}

/**
 * Writes down what was done, in the transaction that does it.
 * @param done the rows that were put back, what the ledger is to say of the archive, and what a hold can be placed on
 */
export async function record(
  archive: FoundArchive,
  order: RestoreOrder,
  transaction: RestoreTransaction,
  done: {
    readonly rows: PlacedRows
    readonly state: ArchiveState | null
    readonly held: () => Promise<{ rows: HeldRows | undefined; warnings: readonly Finding[] }>
  },
): Promise<Recorded> {
  const { ledger, now, hold } = order
  const { db } = transaction
  const { state, rows } = done
  if (archive.entry !== undefined && state === 'restored') await ledger.markRestored(db, archive.entry, now)
  else if (archive.entry?.state === 'restored' && state === 'archived') await ledger.markArchived(db, archive.entry)
  else if (archive.entry === undefined && state !== null) await ledger.record(db, newEntry(archive, state, now))
  if (hold === undefined || rows.rows === 0) return { heldUntil: null, warnings: [] }
  const { warnings, ...held } = await done.held()
  if (held.rows === undefined) return { heldUntil: null, warnings }
  await ledger.holds.place(db, held.rows, {
    table: formatTableName(transaction.table.name),
    policy: archive.policy,
    archive: archive.name,
    reason: 'restored',
    until: hold === 'forever' ? null : hold,
    now,
  })
  return { heldUntil: hold === 'forever' ? 'forever' : hold.toISOString(), warnings }
}

/** What a hold on the restored rows can be placed on: their keys, or without a key the range of their times. */
export async function heldRows(
  archive: FoundArchive,
  table: RestoreTable,
  shape: Shape,
  rows: PlacedRows,
): Promise<{ rows: HeldRows | undefined; warnings: Finding[] }> {
  if (table.key.length > 0) return { rows: await rows.known(), warnings: [] }
  const source = shape.sources.find((one) => 'archive' in one && one.archive === archive.column)
  if (source === undefined) {
    const text =
      'No hold was placed: the table has no key, and the column that aged its rows is not known, or not there'
    return { rows: undefined, warnings: [{ level: 'warning', text }] }
  }
  const { column } = source
  const text = `"${formatTableName(table.name)}" has no key: every row whose ${column} lies between those of the restored rows is held`
  const hint = 'A primary key would let a hold be on the restored rows alone.'
  return { rows: { column, ...(await rows.range(column)) }, warnings: [{ level: 'warning', text, hint }] }
}

/** Commits a restore; where the connection breaks, the ledger is asked what became of it. */
export async function commitRestore(
  archive: FoundArchive,
  { ledger, now, into }: RestoreOrder,
  transaction: RestoreTransaction,
  report: RestoreReport,
): Promise<void> {
  const isDone = (): Promise<boolean> => {
    // The ledger knows only of rows that have gone back to where they were from, and all of them.
    if (report.state !== 'restored' || into !== undefined)
      return Promise.reject(new RetentionError('LEDGER_INVALID', 'The ledger has no record of this'))
    return archive.entry === undefined
      ? ledger.isRecorded(newEntry(archive, 'restored', now))
      : ledger.isRestored(archive.entry, now)
  }
  return commit(transaction, `the rows of ${archive.name} in ${report.table}`, isDone, async () => {})
}

export function newEntry(archive: FoundArchive, state: ArchiveState, now: Date): LedgerEntry {
  return state === 'restored' ? restoredEntry(archive, now) : adoptedEntry(archive)
}

function ownTable(archive: FoundArchive): RetentionError {
  return new RetentionError('USAGE', `--into names ${formatTableName(archive.table)}, which ${archive.name} is from`, {
    hint: 'Without --into its rows go there, are held, and the ledger knows.',
  })
}

/** Only by a key can a row be known to be there already. */
export function checkKey(table: RestoreTable, archive: FoundArchive, { sources }: Shape, onConflict: OnConflict): void {
  if (table.key.length > 0 && table.key.every((name) => sources.some(({ column }) => column === name))) return
  const key =
    table.key.length === 0 ? 'has no key' : `has the key (${table.key.join(', ')}), which ${archive.name} has not`
  throw new RetentionError('REFUSED', `"${formatTableName(table.name)}" ${key}: there is nothing to ${onConflict} by`, {
    hint: 'Restore --into a table of its own, and copy the rows from there.',
  })
}
