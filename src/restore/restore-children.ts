/** Puts an archive with children back: all its files in one transaction, parents first, then references. */
import { metered, Meter, readCsv } from '../archive/store.ts'
import { commit } from '../commit.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type { Finding, RestoreTransaction } from '../database/database.ts'
import { refusalOf } from '../database/findings.ts'
import { RetentionError, type ErrorCode } from '../errors.ts'
import { checkBytes, checkHeader, type FoundArchive } from '../stored/find-archive.ts'
import {
  checkRead,
  compare,
  mayBeThere,
  mismatch,
  placeStaged,
  placeStraight,
  type Placed,
  type Placing,
} from './placing.ts'
import { formOf, isPartial } from './placing-reshaped.ts'
import type { RestoredPart, RestoreReport } from '../report.ts'
import { planShape, shapeOrThrow, type Reshaping, type Shape } from '../reshape.ts'
import { outcomeOf } from './restore-outcome.ts'
import { checkKey, heldRows, lostPartitions, newEntry, noSuchTable, type RestoreOrder } from './restore-runner.ts'

/** A file of an archive, and the table that it goes back into. */
interface File {
  readonly archive: FoundArchive
  readonly into: RestoreTransaction
}

/** One whose rows go into their table. */
interface RowFile extends File {
  readonly shape: Shape
}

/** What became of a file. */
interface Restored extends RestoredPart {
  /** Whether all that it holds is in its table again. */
  readonly isWhole: boolean
}

/** A way to put the rows of all files back; tells of each as soon as it is there. */
type Way = (
  files: readonly RowFile[],
  order: RestoreOrder,
  tell: (file: RowFile, placed: Placed) => Promise<void>,
) => Promise<boolean>

/** Errors that another way would not be spared. */
const final: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'RESTORE_CONFLICT',
  'ARCHIVE_CHANGED',
  'DATABASE_UNREACHABLE',
  'DATABASE_BUSY',
  'COMMIT_UNKNOWN',
  'ALREADY_RESTORED',
])

/** One restore of an archive with children. All of it comes back with the ledger's word for it, or nothing does. */
export async function downWhole(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
  if (order.into !== undefined) throw notInto(archive)
  if (isPartial(order.selection)) throw notInPart(archive)
  if (!mayBeThere(archive) && order.onConflict === 'error') {
    const report = await attempt(archive, order, oneByOne(placeStraight)).catch(unlessFinal)
    if (report !== undefined) return report
  }
  await checkBytes(archive)
  const report = await attempt(archive, order, oneByOne(placeStaged)).catch((error: unknown) => {
    // Rows that refer to each other in a circle can only go in together.
    if (order.database.kind === 'postgres') return unlessFinal(error)
    throw error
  })
  const whole = report ?? (await attempt(archive, order, together))
  if (whole === undefined) throw new TypeError('no way is left')
  return whole
}

function unlessFinal(error: unknown): undefined {
  if (!(error instanceof RetentionError) || final.has(error.code)) throw error
}

/** One table after the other. */
function oneByOne(place: Placing): Way {
  return async (files, order, tell) => {
    for (const file of files) {
      const placed = await place(file.archive, file.into, { ...order, shape: file.shape })
      if (placed === undefined) return false
      await tell(file, placed)
    }
    return true
  }
}

/** All tables at once. */
const together: Way = async (files, { onConflict }, tell) => {
  // What has to be reshaped is put in by itself.
  if (files.some(({ shape }) => shape.isReshaped || shape.isConverted)) return false
  const meters = files.map(() => new Meter())
  const parts = []
  for (const [at, { archive, into }] of files.entries()) {
    const csv = metered(meters[at] ?? new Meter(), await readCsv(archive))
    parts.push({ into, columns: archive.columns, csv })
  }
  const placed = await files[0]?.into.loadTogether(parts, onConflict)
  if (placed === undefined) return false
  for (const [at, file] of files.entries()) {
    const { archive, into } = file
    const one = placed[at]
    const meter = meters[at]
    if (one === undefined || meter === undefined) throw new TypeError('each file has its rows')
    const expected = archive.rows - (onConflict === 'skip' ? one.conflicts.count : 0)
    if (one.rows.rows !== expected) throw mismatch(archive, into.table)
    checkRead(archive, archive.rows, meter)
    await compare(archive, into.table, one.readBack(), archive.sha256)
    const { conflicts } = one
    await tell(file, { rows: one.rows, conflicts, selected: archive.rows, missing: [], rewritten: [] })
  }
  return true
}

/** One transaction; undefined where its way was not the right one, and everything is as it was. */
async function attempt(archive: FoundArchive, order: RestoreOrder, way: Way): Promise<RestoreReport | undefined> {
  const { database, ledger, now, hold, onConflict, dryRun } = order
  // 1. Lock all tables against changes of their form, and look whether they can take the rows.
  const transaction = await database.restore(archive.table, await lostPartitions(archive, order))
  if (transaction === undefined) throw noSuchTable(archive, archive.table, false)
  let report: RestoreReport
  try {
    const files = await openAll(archive, transaction)
    const withRows = files.filter((file) => file.archive.link === undefined)
    const tables = withRows.map((file) => file.archive.table)
    const rowFiles = withRows.map((file) => shaped(file, order, file.archive === archive, tables))
    // 2. Put all rows in, hold them, and let sequences go on behind them.
    const restored: Restored[] = []
    const warnings: Finding[] = []
    const tell = async (file: RowFile, placed: Placed): Promise<void> => {
      const { rows, conflicts } = placed
      const same = onConflict === 'skip' ? conflicts.same : 0
      const table = formatTableName(file.into.table.name)
      const outcome = outcomeOf(file.archive, file.shape, placed, order)
      const isWhole = outcome.state !== 'archived' && rows.rows + same === file.archive.rows
      if (!isWhole) warnings.push(...outcome.warnings)
      const counts = { rows: file.archive.rows, restored: rows.rows, conflicts: conflicts.count }
      restored.push({ table, ...counts, references: false, isWhole })
      if (dryRun) return
      const notes = await rows.advanceSequences()
      warnings.push(...notes.map((text): Finding => ({ level: 'warning', text })))
      // What hangs on a held row stays with it; a hold of its own keeps other policies off.
      const isHeld = hold !== undefined && rows.rows > 0 && (file.archive === archive || file.into.table.key.length > 0)
      if (!isHeld) return
      const held = await heldRows(file.archive, file.into.table, file.shape, rows)
      warnings.push(...held.warnings)
      if (held.rows === undefined) return
      const until = hold === 'forever' ? null : hold
      const placing = { table, policy: archive.policy, archive: archive.name, reason: 'restored', until, now }
      await ledger.holds.place(transaction.db, held.rows, placing)
    }
    if (!(await way(rowFiles, order, tell))) {
      await transaction.rollback()
      return undefined
    }
    const state = stateOf(archive, restored)
    // 3. Set references again, now that the rows they are to are there.
    for (const file of files) if (file.archive.link !== undefined) restored.push(await relink(file, warnings))
    // 4. Mark the archive, in the same transaction.
    if (!dryRun && archive.entry !== undefined && state === 'restored')
      await ledger.markRestored(transaction.db, archive.entry, now)
    else if (!dryRun && archive.entry?.state === 'restored' && state === 'archived')
      await ledger.markArchived(transaction.db, archive.entry)
    else if (!dryRun && archive.entry === undefined && state !== null)
      await ledger.record(transaction.db, newEntry(archive, state, now))
    const [first] = restored
    const held = dryRun || hold === undefined || restored.every((file) => file.restored === 0) ? null : hold
    report = {
      archive: archive.name,
      location: archive.target.locate(archive.path),
      table: formatTableName(transaction.table.name),
      dryRun,
      columns: rowFiles[0]?.shape.columns ?? [],
      rows: archive.rows,
      selected: archive.rows,
      restored: first?.restored ?? 0,
      conflicts: first?.conflicts ?? 0,
      heldUntil: held === null || held === 'forever' ? held : held.toISOString(),
      state,
      partitions: (transaction.made?.tables ?? []).map(formatTableName),
      warnings,
      children: restored.slice(1).map(({ isWhole: _isWhole, ...part }) => part),
    }
  } catch (error) {
    await transaction.rollback()
    throw error
  }
  // 5. Commit: everything is back and the ledger knows, or nothing.
  if (dryRun) {
    await transaction.rollback()
    return report
  }
  const isDone = (): Promise<boolean> => {
    if (report.state !== 'restored')
      return Promise.reject(new RetentionError('LEDGER_INVALID', 'The ledger has no record of this'))
    return archive.entry === undefined
      ? ledger.isRecorded(newEntry(archive, 'restored', now))
      : ledger.isRestored(archive.entry, now)
  }
  await commit(transaction, `the rows of ${archive.name}`, isDone, async () => {})
  return report
}

/** A file of rows, and how its columns fit its table as it is now. @throws RetentionError `REFUSED`, `USAGE` where it cannot */
function shaped(file: File, order: RestoreOrder, isOwn: boolean, tables: readonly TableName[]): RowFile {
  const { archive, into } = file
  const { table } = into
  const refusal = refusalOf(table.findings)
  if (refusal !== undefined) throw refusal
  const now = { name: formatTableName(table.name), columns: table.columns }
  const wanted = reshapingOf(archive.table, isOwn, tables, order.reshaping)
  const plan = planShape(archive.name, formOf(archive), now, wanted)
  // Options are told as they would be written for this table.
  const shape = shapeOrThrow(plan, isOwn ? '' : `${archive.table.name}.`)
  if (order.onConflict !== 'error') checkKey(table, archive, shape, order.onConflict)
  return { ...file, shape }
}

/**
 * What of a wish is about one table: the policy's own table has its columns as they are, each other one with its name before them,
 * as in `order_items.sku`.
 */
function reshapingOf(
  table: TableName,
  isOwn: boolean,
  tables: readonly TableName[],
  { map, drop, set }: Reshaping,
): Reshaping {
  const prefixes = (one: TableName): string[] => [`${formatTableName(one)}.`, `${one.name}.`]
  const columnOf = (name: string): string | undefined => {
    const own = prefixes(table).find((prefix) => name.startsWith(prefix))
    if (own !== undefined) return name.slice(own.length)
    return isOwn && !tables.flatMap(prefixes).some((prefix) => name.startsWith(prefix)) ? name : undefined
  }
  const ours = <T>(entries: Iterable<readonly [string, T]>): [string, T][] =>
    [...entries].flatMap(([name, value]): [string, T][] => {
      const column = columnOf(name)
      return column === undefined ? [] : [[column, value]]
    })
  return {
    map: new Map(ours(map).map(([column, target]) => [column, columnOf(target) ?? target])),
    drop: drop.flatMap((name) => columnOf(name) ?? []),
    set: new Map(ours(set)),
  }
}

/** What the ledger is to say of the archive; null where it does not know it and has no reason to. */
function stateOf({ entry }: FoundArchive, restored: readonly Restored[]): 'restored' | 'archived' | null {
  if (entry === undefined && restored.every((file) => file.restored === 0)) return null
  return restored.every(({ isWhole }) => isWhole) ? 'restored' : 'archived'
}

/** The archive's files with their tables: the policy's own first. */
async function openAll(archive: FoundArchive, transaction: RestoreTransaction): Promise<File[]> {
  const files: File[] = [{ archive, into: transaction }]
  for (const part of archive.parts) {
    const into = await transaction.also(part.table)
    if (into === undefined) throw noSuchTable(part, part.table, false)
    files.push({ archive: part, into })
  }
  return files
}

async function relink({ archive, into }: File, warnings: Finding[]): Promise<Restored> {
  const { link, columns, rows } = archive
  if (link === undefined) throw new TypeError('no file of references')
  await checkHeader(archive)
  const meter = new Meter()
  const done = await into.relink(link, columns, metered(meter, await readCsv(archive)))
  checkRead(archive, done.rows, meter)
  const table = formatTableName(into.table.name)
  if (done.set < rows) {
    const text = `${rows - done.set} references of ${table} (${link.columns.join(', ')}) were not set again: their rows are gone, or have been changed since`
    warnings.push({ level: 'warning', text })
  }
  return { table, rows, restored: done.set, conflicts: 0, references: true, isWhole: true }
}

function notInPart(archive: FoundArchive): RetentionError {
  return new RetentionError(
    'USAGE',
    `${archive.name} holds rows of several tables, which come back together: --where and --keys are for one`,
    { hint: 'For a part of them, load its CSV files into tables of your own.' },
  )
}

function notInto(archive: FoundArchive): RetentionError {
  return new RetentionError(
    'USAGE',
    `${archive.name} holds rows of several tables that refer to each other; --into names one`,
    {
      hint: 'Restore it without --into; or load its CSV files into tables of your own.',
    },
  )
}
