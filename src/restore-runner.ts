/** Puts one archive back: the order of events of a restore, as runner.ts has that of a step. */
import { byteOrderMark } from './archive/csv.ts'
import { metered, Meter } from './archive/store.ts'
import type { Database, Finding, OnConflict, RestoreTable, RestoreTransaction } from './database/database.ts'
import { hasCode, RetentionError } from './errors.ts'
import { formatTableName, type TableName } from './config/fields.ts'
import type { FoundArchive } from './find-archive.ts'
import type { Ledger, LedgerEntry } from './ledger/ledger.ts'
import { restoredEntry } from './records.ts'
import type { RestoreReport } from './report.ts'
import { migrate, outcome } from './runner.ts'

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
  let report: RestoreReport | undefined
  await migrate(
    'down',
    {
      name: archive.name,
      up: () => Promise.reject(new TypeError('an archive is not made by restoring it')),
      down: async () => {
        report = await down(archive, order)
      },
    },
    {
      // An archive that the ledger does not know was executed all the same: its manifest says so.
      executed: async () =>
        archive.entry === undefined
          ? [archive.name]
          : database.read((db) => ledger.namesIn(db, [archive.name], 'archived')),
      // The state was written with the rows. Here it is only asserted.
      logged: async () => {
        const restored = await database.read((db) => ledger.namesIn(db, [archive.name], 'restored'))
        if (restored.length === 0)
          throw new RetentionError('LEDGER_INVALID', `${archive.name} is not marked as restored in the ledger`)
      },
    },
  )
  if (report === undefined)
    throw new RetentionError('ALREADY_RESTORED', `${archive.name} has been restored by somebody else`)
  return report
}

/** One restore, in its order. All rows come back with the ledger's word for it, or none does. */
async function down(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
  const { database, onConflict } = order
  const transaction = await database.restore()
  try {
    // 1. Lock the table against changes of its form, and look whether it can take the rows.
    const name = order.into ?? archive.table
    const table = await transaction.begin(name)
    checkTable(table, name, archive)
    // 2. Load the archive beside the table, once more through its checksum: no byte is used that was not checked.
    await stage(archive, transaction)
    const conflicts = await transaction.conflicts()
    if (conflicts.count > 0 && onConflict === 'error') throw conflict(archive, table, conflicts)
    // 3. Put the rows in, and read them back from there.
    const restored = await transaction.insert(onConflict)
    await compare(archive, table, transaction.readBack())
    const notes = order.dryRun ? [] : await transaction.advanceSequences()
    // 4. Hold them and mark the archive, in the same transaction.
    const warnings: Finding[] = notes.map((text) => ({ level: 'warning', text }))
    if (order.into === undefined) warnings.push(...(await record(archive, order, transaction, table)))
    const report: RestoreReport = {
      archive: archive.name,
      location: archive.target.locate(archive.name),
      table: formatTableName(table.name),
      dryRun: order.dryRun,
      rows: archive.rows,
      restored,
      conflicts: conflicts.count,
      heldUntil:
        order.into !== undefined || order.hold === undefined
          ? null
          : order.hold === 'forever'
            ? 'forever'
            : order.hold.toISOString(),
      warnings,
    }
    // 5. Commit: the rows are back and the ledger knows, or neither.
    if (order.dryRun) await transaction.rollback()
    else await commit(archive, order, transaction)
    return report
  } catch (error) {
    await transaction.rollback()
    throw error
  }
}

function checkTable(
  table: RestoreTable | undefined,
  name: TableName,
  archive: FoundArchive,
): asserts table is RestoreTable {
  if (table === undefined) {
    const ddl = archive.manifest?.files[0]?.ddl[0]
    throw new RetentionError(
      'REFUSED',
      `There is no table "${formatTableName(name)}" to restore ${archive.name} into`,
      {
        hint: `Make it first${ddl === undefined ? '' : `; its manifest has the statements, such as:\n${ddl}`}`,
      },
    )
  }
  const refusal = table.findings.find(({ level }) => level === 'refusal')
  if (refusal !== undefined)
    throw new RetentionError('REFUSED', refusal.text, refusal.hint === undefined ? {} : { hint: refusal.hint })
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
  // The chunks of a byte stream are buffers; the type of Readable does not know.
  const csv = (await archive.target.read(archive.name)) as AsyncIterable<Buffer>
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
  if ([marked.digest().sha256, plain.digest().sha256].includes(archive.sha256)) return
  const triggers = table.insertTriggers
  throw new RetentionError(
    'RESTORE_MISMATCH',
    `Rows of ${archive.name} came out of "${formatTableName(table.name)}" other than they went in; nothing has been restored`,
    {
      hint:
        triggers.length > 0
          ? `These triggers run on insert, and one may change the rows: ${triggers.join(', ')}. Disable it for the time of the restore.`
          : `A column's type may have changed since. The archive's are: ${(archive.manifest?.files[0]?.columns ?? []).map(({ name, type }) => `${name} ${type}`).join(', ')}.`,
    },
  )
}

/** Writes down what was done, in the transaction that does it; returns what should be known about it. */
async function record(
  archive: FoundArchive,
  order: RestoreOrder,
  transaction: RestoreTransaction,
  table: RestoreTable,
): Promise<Finding[]> {
  const { ledger, now, hold } = order
  const { db } = transaction
  if (archive.entry === undefined) await ledger.record(db, newEntry(archive, now))
  else await ledger.markRestored(db, archive.name, now)
  if (hold === undefined) return []
  const about = {
    table: formatTableName(table.name),
    policy: archive.policy,
    archive: archive.name,
    reason: 'restored',
    until: hold === 'forever' ? null : hold,
    now,
  }
  if (table.keyText !== undefined) {
    await ledger.holds.place(db, { keys: transaction.placedKeys() }, about)
    return []
  }
  if (archive.column === undefined || !table.columns.some(({ name }) => name === archive.column)) {
    return [
      {
        level: 'warning',
        text: 'No hold was placed: the table has no key, and the column that ages its rows is not known',
      },
    ]
  }
  const range = await transaction.placedRange(archive.column)
  await ledger.holds.place(db, range, about)
  return [
    {
      level: 'warning',
      text: `"${about.table}" has no key: every row whose ${archive.column} lies between those of the restored rows is held`,
      hint: 'A primary key would let a hold be on the restored rows alone.',
    },
  ]
}

async function commit(archive: FoundArchive, order: RestoreOrder, transaction: RestoreTransaction): Promise<void> {
  try {
    await transaction.commit()
  } catch (error) {
    const { ledger, now, into } = order
    const ask = (): Promise<boolean> =>
      archive.entry === undefined ? ledger.isRecorded(newEntry(archive, now)) : ledger.isRestored(archive.name, now)
    if (into !== undefined || !hasCode(error, 'COMMIT_UNKNOWN') || !(await outcome(ask, archive.name))) throw error
  }
}

function newEntry({ name, manifest, manifestSha256, target }: FoundArchive, now: Date): LedgerEntry {
  if (manifest === undefined) throw new RetentionError('MANIFEST_INVALID', `${name} has no manifest`)
  return restoredEntry(name, manifest, manifestSha256 ?? '', target, now)
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
