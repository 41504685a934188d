/** Puts one archive back: the order of events of a restore, as runner.ts has that of a step. */
import { byteOrderMark } from './archive/csv.ts'
import { metered, Meter } from './archive/store.ts'
import { commit } from './commit.ts'
import { formatTableName, type TableName } from './config/fields.ts'
import type { Database, Finding, OnConflict, RestoreTable, RestoreTransaction } from './database/database.ts'
import { refusalOf } from './database/findings.ts'
import { hasCode, RetentionError } from './errors.ts'
import type { FoundArchive } from './find-archive.ts'
import type { HeldRows } from './ledger/holds.ts'
import type { ArchiveState, Ledger, LedgerEntry } from './ledger/ledger.ts'
import { migrate } from './migrate.ts'
import { restoredEntry } from './records.ts'
import type { RestoreReport } from './report.ts'

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
  readonly dryRun: boolean
}

/** Puts an archive back: the down of the migration that made it, unless the rows go elsewhere or nowhere. */
export async function restoreArchive(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
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
      executed: async () => (archive.entry === undefined ? [archive.name] : inState('archived')),
      assert: async () => {
        if (report === undefined || !isWhole(report) || (await inState('restored')).length > 0) return
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

/** Whether all of an archive's rows are in the table again. */
function isWhole({ rows, restored }: Pick<RestoreReport, 'rows' | 'restored'>): boolean {
  return rows === restored
}

/** One restore, in its order. All rows come back with the ledger's word for it, or none does. */
async function down(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
  const { database, onConflict, dryRun } = order
  // 1. Lock the table against changes of its form, and look whether it can take the rows.
  const name = order.into ?? archive.table
  const transaction = await database.restore(name)
  if (transaction === undefined) throw noSuchTable(archive, name)
  const { table } = transaction
  let report: RestoreReport
  try {
    checkTable(table, archive)
    // 2. Load the archive beside the table, once more through its checksum: no byte is used that was not checked.
    await stage(archive, transaction)
    const conflicts = await transaction.conflicts()
    if (conflicts.count > 0 && onConflict === 'error') throw conflict(archive, table, conflicts)
    // 3. Put the rows in, and read them back from there.
    const restored = await transaction.insert(onConflict)
    const expected = archive.rows - (onConflict === 'skip' ? conflicts.count : 0)
    if (restored !== expected) throw mismatch(archive, table)
    await compare(archive, table, transaction.readBack())
    // 4. Hold them and mark the archive, in the same transaction.
    const notes = dryRun ? [] : await transaction.advanceSequences()
    const done = { rows: archive.rows, restored }
    const recorded = order.into === undefined && !dryRun ? await record(archive, order, transaction, done) : undefined
    report = {
      archive: archive.name,
      location: archive.target.locate(archive.name),
      table: formatTableName(table.name),
      dryRun,
      ...done,
      conflicts: conflicts.count,
      heldUntil: recorded?.heldUntil ?? null,
      warnings: [...notes.map((text): Finding => ({ level: 'warning', text })), ...(recorded?.warnings ?? [])],
    }
  } catch (error) {
    await transaction.rollback()
    throw error
  }
  // 5. Commit: the rows are back and the ledger knows, or neither.
  if (dryRun) await transaction.rollback()
  else await commitRestore(archive, order, transaction, report)
  return report
}

function noSuchTable(archive: FoundArchive, name: TableName): RetentionError {
  const ddl = archive.manifest?.files[0]?.ddl ?? []
  return new RetentionError('REFUSED', `There is no table "${formatTableName(name)}" to restore ${archive.name} into`, {
    hint: `Make it first${ddl.length === 0 ? '' : `; this is how it was made:\n${ddl.join('\n')}`}`,
  })
}

function checkTable(table: RestoreTable, archive: FoundArchive): void {
  const refusal = refusalOf(table.findings)
  if (refusal !== undefined) throw refusal
  const missing = archive.columns.filter((column) => !table.columns.some((candidate) => candidate.name === column))
  if (missing.length > 0) {
    throw new RetentionError(
      'REFUSED',
      `"${formatTableName(table.name)}" has no column ${list(missing)}, which ${archive.name} has`,
      {
        hint: 'Add it again, or restore --into a table that has it.',
      },
    )
  }
  const generated = archive.columns.filter((column) =>
    table.columns.some((candidate) => candidate.name === column && candidate.generated),
  )
  if (generated.length > 0) {
    throw new RetentionError(
      'REFUSED',
      `Column ${list(generated)} of "${formatTableName(table.name)}" is generated now, and cannot take the values of ${archive.name}`,
      {
        hint: 'Restore --into a table where it is an ordinary column.',
      },
    )
  }
}

async function stage(archive: FoundArchive, transaction: RestoreTransaction): Promise<void> {
  const meter = new Meter()
  const csv = await archive.target.read(archive.name)
  const rows = await transaction.stage(archive.columns, metered(meter, csv))
  if (rows !== archive.rows || meter.digest().sha256 !== archive.sha256) {
    throw new RetentionError('ARCHIVE_CHANGED', `${archive.name} changed while it was read`)
  }
}

async function compare(archive: FoundArchive, table: RestoreTable, csv: AsyncIterable<Buffer>): Promise<void> {
  // The archive may begin with a byte order mark, which databases do not write.
  const [marked, plain] = [new Meter(), new Meter()]
  marked.update(byteOrderMark)
  for await (const chunk of csv) {
    marked.update(chunk)
    plain.update(chunk)
  }
  if (![marked.digest().sha256, plain.digest().sha256].includes(archive.sha256)) throw mismatch(archive, table)
}

function mismatch(archive: FoundArchive, table: RestoreTable): RetentionError {
  const triggers = table.insertTriggers.join(', ')
  const types = (archive.manifest?.files[0]?.columns ?? []).map(({ name, type }) => `${name} ${type}`).join(', ')
  return new RetentionError(
    'RESTORE_MISMATCH',
    `Rows of ${archive.name} came out of "${formatTableName(table.name)}" other than they went in; nothing has been restored`,
    {
      hint:
        triggers === ''
          ? `A column's type may have changed since. The archive's are: ${types}.`
          : `These triggers run on insert, and one may change the rows: ${triggers}. Disable it for the time of the restore.`,
    },
  )
}

/** What was written down of a restore. */
interface Recorded {
  /** As in the report. */
  readonly heldUntil: string | null
  readonly warnings: readonly Finding[]
}

/** Writes down what was done, in the transaction that does it. */
async function record(
  archive: FoundArchive,
  order: RestoreOrder,
  transaction: RestoreTransaction,
  done: { readonly rows: number; readonly restored: number },
): Promise<Recorded> {
  const { ledger, now, hold } = order
  const { db } = transaction
  const warnings: Finding[] = []
  if (!isWhole(done)) {
    warnings.push({
      level: 'warning',
      text: `${archive.name} stays archived: ${done.rows - done.restored} of its rows are nowhere else as they were then`,
    })
  }
  const state = isWhole(done) ? 'restored' : 'archived'
  if (archive.entry === undefined) await ledger.record(db, newEntry(archive, state, now))
  else if (state === 'restored') await ledger.markRestored(db, archive.name, now)
  const held = hold === undefined ? undefined : await heldRows(archive, transaction)
  if (hold === undefined || held === undefined) return { heldUntil: null, warnings }
  warnings.push(...held.warnings)
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
async function heldRows(
  archive: FoundArchive,
  transaction: RestoreTransaction,
): Promise<{ rows: HeldRows | undefined; warnings: Finding[] }> {
  const { table } = transaction
  if (table.key.length > 0) return { rows: { keys: transaction.placedKeys(), columns: table.key }, warnings: [] }
  const { column } = archive
  if (column === undefined || !table.columns.some(({ name }) => name === column)) {
    const text = 'No hold was placed: the table has no key, and the column that ages its rows is not known'
    return { rows: undefined, warnings: [{ level: 'warning', text }] }
  }
  const text = `"${formatTableName(table.name)}" has no key: every row whose ${column} lies between those of the restored rows is held`
  const hint = 'A primary key would let a hold be on the restored rows alone.'
  return { rows: await transaction.placedRange(column), warnings: [{ level: 'warning', text, hint }] }
}

async function commitRestore(
  archive: FoundArchive,
  { ledger, now, into }: RestoreOrder,
  transaction: RestoreTransaction,
  report: RestoreReport,
): Promise<void> {
  const nothing = async (): Promise<void> => {}
  // The ledger knows only of rows that have gone back to where they were from, and all of them.
  if (into !== undefined || !isWhole(report)) {
    return transaction.commit().catch(async (error: unknown) => {
      await transaction.rollback()
      throw error
    })
  }
  const isDone = (): Promise<boolean> =>
    archive.entry === undefined
      ? ledger.isRecorded(newEntry(archive, 'restored', now))
      : ledger.isRestored(archive.name, now)
  return commit(transaction, archive.name, isDone, nothing)
}

function newEntry(
  { name, manifest, manifestSha256, target }: FoundArchive,
  state: ArchiveState,
  now: Date,
): LedgerEntry {
  if (manifest === undefined) throw new RetentionError('MANIFEST_INVALID', `${name} has no manifest`)
  const entry = restoredEntry(name, manifest, manifestSha256 ?? '', target, now)
  return state === 'restored' ? entry : { ...entry, state, restoredAt: null }
}

function conflict(
  archive: FoundArchive,
  table: RestoreTable,
  { count, keys }: { count: number; keys: string[] },
): RetentionError {
  const more = count > keys.length ? ` and ${count - keys.length} more` : ''
  return new RetentionError(
    'RESTORE_CONFLICT',
    `${count} of the ${archive.rows} rows of ${archive.name} have a key that is in "${formatTableName(table.name)}" already: (${table.key.join(', ')}) = ${keys.map((key) => `(${key})`).join(', ')}${more}`,
    { hint: 'Use --on-conflict skip to keep the rows of the table, or --on-conflict overwrite to replace them.' },
  )
}

function list(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ')
}
