/** The two ways of an archive's rows into their table: straight, where it is certain what comes of them, or staged. */
import { byteOrderMark } from '../archive/csv.ts'
import { metered, Meter, readCsv } from '../archive/store.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type {
  Conflicts,
  IncomingRows,
  OnConflict,
  PlacedRows,
  RestoreTable,
  RestoreTransaction,
  Selection,
} from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import { checkHeader, type FoundArchive } from '../stored/find-archive.ts'
import { isPartial, stageReshaped, type Reshaped } from './placing-reshaped.ts'
import type { Shape } from '../reshape.ts'

/** Rows that have been put into their table, and what was found there. */
export interface Placed {
  readonly rows: PlacedRows
  readonly conflicts: Conflicts
  /** How many of the archive's rows were to be put there. */
  readonly selected: number
  readonly missing: Reshaped['missing']
  readonly rewritten: Reshaped['rewritten']
}

/** A way to put an archive's rows into their table; undefined where it is not for this archive or this table. */
export type Placing = (
  archive: FoundArchive,
  transaction: RestoreTransaction,
  wanted: Wanted,
) => Promise<Placed | undefined>

/** Which rows are wanted, as what, and what is to be done with those that are there already. */
export interface Wanted {
  readonly shape: Shape
  readonly selection: Selection
  readonly onConflict: OnConflict
  /** Another table than the archive's own. */
  readonly into: TableName | undefined
}

/** Straight into the table, while the bytes are checked that go there. */
export async function placeStraight(
  archive: FoundArchive,
  transaction: RestoreTransaction,
  { shape, selection }: Wanted,
): Promise<Placed | undefined> {
  const incoming = incomingRows(archive)
  if (shape.isReshaped || isPartial(selection) || !transaction.canLoad(incoming)) return undefined
  await checkHeader(archive)
  const meter = new Meter()
  const rows = await transaction.load(incoming, metered(meter, await readCsv(archive)))
  if (rows === undefined) return undefined
  checkRead(archive, rows.rows, meter)
  const conflicts = { count: 0, same: 0, keys: [] }
  return { rows, conflicts, selected: archive.rows, missing: [], rewritten: [] }
}

/**
 * Whether an archive's rows may be in their table: what the ledger does not know may never have left it, as a run may have been
 * cut off before its commit; and what was restored has come back.
 */
export function mayBeThere({ entry }: FoundArchive): boolean {
  return entry === undefined || entry.state === 'restored'
}

/** Through a place of their own beside the table, and compared with what has come of them. */
export async function placeStaged(
  archive: FoundArchive,
  transaction: RestoreTransaction,
  wanted: Wanted,
): Promise<Placed> {
  const { onConflict, into } = wanted
  const { table } = transaction
  const { staged, sha256, missing, rewritten } = await stageRows(archive, transaction, wanted)
  const conflicts = await staged.conflicts(mayBeThere(archive) && into === undefined)
  if (conflicts.count > 0 && onConflict === 'error') throw conflict(archive, table, conflicts, staged.rows)
  const rows = await staged.insert(onConflict)
  const expected = staged.rows - (onConflict === 'skip' ? conflicts.count : 0)
  if (rows.rows !== expected) throw mismatch(archive, table)
  await compare(archive, table, staged.readBack(), sha256)
  return { rows, conflicts, selected: staged.rows, missing, rewritten }
}

/** The archive's rows beside the table: as they are, or where that is not what goes in, reshaped. */
async function stageRows(archive: FoundArchive, transaction: RestoreTransaction, wanted: Wanted): Promise<Reshaped> {
  const { shape, selection } = wanted
  const meter = new Meter()
  const csv = metered(meter, await readCsv(archive))
  if (shape.isReshaped || shape.isConverted || isPartial(selection)) {
    return stageReshaped(archive, transaction, wanted, csv, (rows) => checkRead(archive, rows, meter))
  }
  const staged = await transaction.stage(archive.columns, csv)
  checkRead(archive, staged.rows, meter)
  return { staged, sha256: archive.sha256, missing: [], rewritten: [] }
}

/** What is known of an archive's rows before they are read. */
export function incomingRows({ columns, manifest, column, entry }: FoundArchive): IncomingRows {
  const from = entry?.from ?? manifest?.firstTimestamp
  const to = entry?.to ?? manifest?.lastTimestamp
  const isTimeKnown = column !== undefined && from !== undefined && to !== undefined
  return { columns, types: manifest?.files[0]?.columns, time: isTimeKnown ? { column, from, to } : undefined }
}

/** @throws RetentionError `ARCHIVE_CHANGED` where other bytes were read than were recorded */
export function checkRead(archive: FoundArchive, rows: number, meter: Meter): void {
  if (rows === archive.rows && meter.digest().sha256 === archive.sha256) return
  throw new RetentionError('ARCHIVE_CHANGED', `${archive.name} changed while it was read`)
}

export async function compare(
  archive: FoundArchive,
  table: RestoreTable,
  csv: AsyncIterable<Buffer>,
  sha256: string,
): Promise<void> {
  // The archive may begin with a byte order mark, which databases do not write.
  const [marked, plain] = [new Meter(), new Meter()]
  marked.update(byteOrderMark)
  for await (const chunk of csv) {
    marked.update(chunk)
    plain.update(chunk)
  }
  if (![marked.digest().sha256, plain.digest().sha256].includes(sha256)) throw mismatch(archive, table)
}

export function mismatch(archive: FoundArchive, table: RestoreTable): RetentionError {
  const triggers = table.triggers.join(', ')
  const types = (archive.manifest?.files[0]?.columns ?? []).map(({ name, type }) => `${name} ${type}`).join(', ')
  return new RetentionError(
    'RESTORE_MISMATCH',
    `Rows of ${archive.name} came out of "${formatTableName(table.name)}" other than they went in; nothing has been restored`,
    {
      hint:
        triggers === ''
          ? `A column's type may have changed since. The archive's are: ${types}.`
          : `These triggers run then, and one may change the rows: ${triggers}. Disable it for the time of the restore.`,
    },
  )
}

function conflict(
  archive: FoundArchive,
  table: RestoreTable,
  { count, keys }: Conflicts,
  rows: number,
): RetentionError {
  const more = count > keys.length ? ` and ${count - keys.length} more` : ''
  if (table.key.length === 0) {
    return new RetentionError(
      'RESTORE_CONFLICT',
      `${count} of the ${rows} rows of ${archive.name} are in "${formatTableName(table.name)}", the very same, and the ledger does not know the archive`,
      {
        hint: 'A run that was cut off may have left it: then its rows have never left the table. Else restore it --into a table of its own.',
      },
    )
  }
  return new RetentionError(
    'RESTORE_CONFLICT',
    `${count} of the ${rows} rows of ${archive.name} have a key that is in "${formatTableName(table.name)}" already: (${table.key.join(', ')}) = ${keys.map((key) => `(${key})`).join(', ')}${more}`,
    { hint: 'Use --on-conflict skip to keep the rows of the table, or --on-conflict overwrite to replace them.' },
  )
}
