/** `restore`: puts an archive's rows back. Which archive, whether it may be, and how long the rows are then held. */
import type { OnConflict } from '../database/database.ts'
import { openDatabase } from '../database/open.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { milliseconds, parseTableName, type Duration, type TableName } from '../config/fields.ts'
import { checkBytes, checkKey, findArchive, type FoundArchive, type Place } from '../stored/find-archive.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { loadConfig, nowOption, type ProjectOptions } from '../config/project.ts'
import { prunedError } from '../stored/pruned-files.ts'
import type { RestoreReport } from '../report.ts'
import { downWhole } from './restore-children.ts'
import { reshapeOptions, type ReshapeOptions } from './restore-options.ts'
import { downRedacted } from './restore-redacted.ts'
import { restoreArchive, type Down, type RestoreOrder } from './restore-runner.ts'

/** What `restore` can be told. */
export interface RestoreOptions extends ProjectOptions, ReshapeOptions {
  /** The archive: its name, its path, or its location as the ledger has it. */
  file: string
  /** Does everything and undoes it. Default false. */
  dryRun?: boolean
  /** What to do with rows whose key is in the table already. Default `error`: restore nothing. */
  onConflict?: OnConflict
  /** Restores also an archive that was restored before, whose rows have gone since. Default false. */
  again?: boolean
  /** Another table to put the rows into, as `table` or `schema.table`; ledger and holds are then left as they are. */
  into?: string
  /** How long apply leaves the rows alone: a duration, `forever` or `none`. Default `7d`. */
  hold?: Duration
  /** The time that the hold is counted from. Default: the clock. */
  now?: Date
}

/**
 * Puts an archive's rows back, or those that are asked for, all or none, and holds them, as they are past their time
 * still. Where the table has changed since, the rows are reshaped.
 * @throws RetentionError when it cannot; nothing has been changed then.
 */
export async function restore(options: RestoreOptions): Promise<RestoreReport> {
  const now = nowOption(options.now)
  if (typeof options.file !== 'string' || options.file === '') {
    throw new RetentionError(
      'USAGE',
      `"file" is ${JSON.stringify(options.file)}; allowed: an archive's name, path or location`,
    )
  }
  const into = intoOption(options.into)
  const hold = holdOption(options.hold, now)
  const onConflict = conflictOption(options.onConflict)
  const wanted = reshapeOptions(options)
  const config = await loadConfig(options)
  const database = await openDatabase(config, 'write')
  try {
    const ledger =
      options.dryRun === true
        ? await Ledger.forReading(database, config.ledger)
        : await Ledger.forWriting(database, config.ledger)
    const place = { config, database, ledger, cwd: options.cwd ?? '.' }
    const archive = await findArchive(options.file, place)
    const order = {
      database,
      ledger,
      now,
      into,
      hold,
      onConflict,
      ...wanted,
      dryRun: options.dryRun === true,
      again: options.again === true,
    }
    try {
      return await restoreLocked(archive, order, place)
    } catch (error) {
      // A restore that works checks the bytes that it uses. Before anything else goes by what an archive seems to be,
      // it is asked whether it still is what it was.
      if (!hasCode(error, 'COMMIT_UNKNOWN')) await checkBytes(archive)
      throw error
    }
  } finally {
    await database.close()
  }
}

/** Restores an archive while nobody else can work on what its policy has archived. */
async function restoreLocked(archive: FoundArchive, order: RestoreOrder, place: Place): Promise<RestoreReport> {
  const { database, ledger, into } = order
  checkRestorable(archive, order)
  await checkKey(archive)
  const lock = await database.lock(ledger.lockName(archive.policy))
  if (lock === undefined) {
    throw new RetentionError('POLICY_LOCKED', `A run holds policy "${archive.policy}", which ${archive.name} is from`, {
      hint: 'Try again when it has finished.',
    })
  }
  try {
    // Whoever had the lock before us may have restored it, or moved it.
    const entry = await database.read((db) => ledger.find(db, archive.name))
    const isSame = entry?.manifestSha256 === archive.entry?.manifestSha256
    if (!isSame && into === undefined) throw otherOfThatName(archive, entry)
    const hasMoved = isSame && entry !== undefined && entry.location !== archive.entry?.location
    const current = isSame ? { ...(hasMoved ? await findArchive(archive.name, place) : archive), entry } : archive
    checkRestorable(current, order)
    if (current.entry?.state === 'restored' && into === undefined) await checkNotArchivedAgain(current.entry, order)
    return await restoreArchive(current, order, wayOf(current))
  } finally {
    await lock.release()
  }
}

/** How an archive is put back; undefined where it holds the rows of one table. */
function wayOf({ redacted, parts }: FoundArchive): Down | undefined {
  if (redacted !== undefined) return downRedacted
  return parts.length > 0 ? downWhole : undefined
}

/** @throws RetentionError `ALREADY_RESTORED`, `ARCHIVE_NOT_FOUND`, `MANIFEST_INVALID` */
function checkRestorable(
  { name, entry, databaseKind, parts }: FoundArchive,
  { database, into, again }: RestoreOrder,
): void {
  if (entry?.state === 'restored' && into === undefined && !again) {
    const elsewhere = parts.length > 0 || entry.redacted !== null ? '' : '; --into puts them into another table'
    throw new RetentionError('ALREADY_RESTORED', `${name} was restored at ${entry.restoredAt ?? 'an unknown time'}`, {
      hint: `If its rows have gone since, --again restores them once more${elsewhere}.`,
    })
  }
  if (entry?.state === 'pruned') throw prunedError(entry)
  if (databaseKind !== undefined && databaseKind !== database.kind) {
    throw new RetentionError(
      'MANIFEST_INVALID',
      `${name} is from ${databaseKind}, and this database is ${database.kind}`,
      {
        hint: 'Values are written in the form of the database that they are from.',
      },
    )
  }
}

/** What was restored may have gone on into another archive: its rows would then be in two places. */
async function checkNotArchivedAgain(entry: LedgerEntry, { database, ledger }: RestoreOrder): Promise<void> {
  const since = entry.restoredAt ?? ''
  const entries = await database.read((db) => ledger.entries(db))
  const later = entries.find(
    (one) =>
      one.state === 'archived' &&
      one.table === entry.table &&
      one.archivedAt > since &&
      one.from <= entry.to &&
      one.to >= entry.from,
  )
  if (later === undefined) return
  const text = `${entry.name} was restored at ${since}, and rows of its times were archived again since, into ${later.name}`
  throw new RetentionError('REFUSED', text, { hint: 'Restore that one: what it has is how rows were last.' })
}

/** The ledger has one archive of a name, and could not say of both what has become of them. */
function otherOfThatName(archive: FoundArchive, entry: LedgerEntry | undefined): RetentionError {
  const location = archive.target.locate(archive.path)
  return new RetentionError(
    'ARCHIVE_CHANGED',
    entry === undefined
      ? `The ledger does not know ${archive.name} any more`
      : `${location} is another archive than the ledger's ${archive.name}, which is ${entry.location}`,
    { hint: 'Restore it --into a table of its own, and copy the rows from there.' },
  )
}

function intoOption(into: string | undefined): TableName | undefined {
  if (into === undefined) return undefined
  const table = parseTableName(into)
  if (table === undefined)
    throw new RetentionError('USAGE', `--into is "${into}"; allowed: a table, as "table" or "schema.table"`)
  return table
}

function holdOption(hold: RestoreOptions['hold'], now: Date): Date | 'forever' | undefined {
  if (hold === 'none') return undefined
  if (hold === 'forever') return 'forever'
  const length = milliseconds(hold ?? '7d')
  if (length === undefined)
    throw new RetentionError('USAGE', `--hold is "${hold}"; allowed: a duration such as "30d", "forever" or "none"`)
  const until = new Date(now.getTime() + length)
  // Later years are written with a sign, and sort before all others.
  if (until.getTime() < Date.parse('9999-12-31')) return until
  throw new RetentionError(
    'USAGE',
    `--hold is "${hold}", which is past the year 9999; allowed: shorter durations, or "forever"`,
  )
}

function conflictOption(onConflict: OnConflict | undefined): OnConflict {
  if (onConflict === undefined || ['error', 'skip', 'overwrite'].includes(onConflict)) return onConflict ?? 'error'
  throw new RetentionError('USAGE', `--on-conflict is "${onConflict}"; allowed: error, skip, overwrite`)
}
