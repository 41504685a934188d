/** `verify --repair`: what to do with files that the ledger does not know. Removes nothing, and overwrites nothing. */
import { readRecords } from '../archive/csv.ts'
import { plainName } from '../archive/encoding.ts'
import {
  archiveOf,
  archiveOfManifest,
  archiveOfPart,
  manifestName,
  partsOfArchive,
  unfinishedName,
} from '../archive/name.ts'
import { metered, Meter, readCsv, readWhole, type CsvFile } from '../archive/store.ts'
import type { Config } from '../config/config.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import type { Database, Redacted, RestoreTransaction, StagedRows } from '../database/database.ts'
import { commit } from '../commit.ts'
import { withCompared } from '../restore/compare-redacted.ts'
import { hasCode, RetentionError, type ErrorCode } from '../errors.ts'
import { findBare, findStored, targetOfEntry, type FoundArchive } from '../stored/find-archive.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import { unknownAmong, type StoredFile } from '../stored/orphans.ts'
import { adoptedEntry } from '../stored/records.ts'
import type { Repair } from '../report.ts'

/** What a repair depends on. */
export interface RepairOrder {
  readonly config: Config
  readonly policies: readonly Policy[]
  readonly database: Database
  readonly ledger: Ledger
  /** Whether to do what is safe, or only to propose it. */
  readonly yes: boolean
  /** Asks somebody whether to do what may not be meant; without it, such things are left. */
  readonly decide: ((repair: Repair) => Promise<boolean>) | undefined
}

/** What is worked on at a time: one policy's files. */
interface RepairWork extends RepairOrder {
  readonly files: readonly StoredFile[]
  /** The ledger's, and what has been adopted since. */
  readonly entries: LedgerEntry[]
}

/** Decides on each orphan, and does it where it may. */
export async function repairOrphans(orphans: readonly StoredFile[], order: RepairOrder): Promise<Repair[]> {
  const { config, database, ledger } = order
  const repairs: Repair[] = []
  for (const [policy, found] of Map.groupBy(orphans, (file) => file.policy)) {
    const lock = await database.lock(ledger.lockName(policy))
    try {
      // Again, now that nobody else can record them: a restore or another repair may have.
      const entries = await database.read((db) => ledger.entries(db))
      const files = await unknownAmong(found, entries, config)
      const work: RepairWork = { ...order, files, entries }
      for (const file of files) {
        // A manifest goes with its archive, and so does what went along with its rows.
        if (!isArchive(file) && files.some((other) => isArchive(other) && isWith(other, file))) continue
        repairs.push(lock === undefined ? leave(file, 'a run is at work on its policy') : await repair(file, work))
      }
    } finally {
      await lock?.release()
    }
  }
  return repairs
}

async function repair(file: StoredFile, work: RepairWork): Promise<Repair> {
  try {
    return await judge(file, work)
  } catch (error) {
    // What is wrong with one file is no reason to leave the others; anything else is.
    const ofFile: readonly ErrorCode[] = [
      'ARCHIVE_CHANGED',
      'ARCHIVE_NOT_FOUND',
      'MANIFEST_INVALID',
      'REFUSED',
      'KEY_MISSING',
      'KEY_WRONG',
    ]
    if (error instanceof RetentionError && ofFile.includes(error.code)) return leave(file, error.message)
    throw error
  }
}

async function judge(file: StoredFile, work: RepairWork): Promise<Repair> {
  if (isArchive(file) && (await isErased(file, work)))
    return leave(file, 'rows were erased from it, and it holds them still: remove it')
  const known = work.entries.find(({ name }) => name === archiveOf(file.name))
  if (known?.state === 'pruned') return leave(file, 'the ledger has an archive of its name as pruned')
  if (file.name.endsWith('.tmp')) {
    const isOurs = await wasClaimed(unfinishedName(file.name) ?? file.name, work)
    if (!isOurs) return leave(file, 'it is unfinished, and the ledger has never come as far as its number')
    return setAside(file, [], 'it is unfinished, and its rows have not left the table', work)
  }
  if (archiveOfManifest(file.name) !== undefined) return leave(file, 'there is no archive beside it')
  if (archiveOfPart(file.name) !== undefined) return leave(file, 'the archive that it is a part of is not beside it')
  const manifest = work.files.find(
    ({ target, name }) => target === file.target && name === manifestName(plainName(file.name)),
  )
  return manifest === undefined ? judgeBare(file, work) : judgeWhole(file, manifest, work)
}

/** Whether it is a copy of a file that rows were erased from: they are not to come back by it. */
async function isErased({ target, name }: StoredFile, { config, database, ledger }: RepairWork): Promise<boolean> {
  const erased = await database.read((db) => ledger.erasures.files(db, plainName(name)))
  if (erased.length === 0) return false
  const { stored } = await readWhole({ target, path: name, encoding: null, keys: config.keys })
  return erased.some(({ storedSha256 }) => storedSha256 === stored.sha256)
}

/** An archive is stored before its manifest, and its rows leave their table after both: this one's never have. */
async function judgeBare(file: StoredFile, work: RepairWork): Promise<Repair> {
  const policy = work.policies.find(({ name }) => name === file.policy)
  if (policy === undefined) return leave(file, `there is no manifest beside it, and no policy "${file.policy}"`)
  const found = await whereabouts(await findBare(file.target, file.name, policy.table, work.config), work)
  if (found?.isElsewhere === true)
    return setAside(file, partsOf(file, work), found.text, work, !(await wasClaimed(file.name, work)))
  return leave(file, `there is no manifest beside it, and ${found?.text ?? 'its table is not there'}`)
}

/** Goes by where the archive's rows are now. */
async function judgeWhole(file: StoredFile, manifest: StoredFile, work: RepairWork): Promise<Repair> {
  const archive = await findStored(file.target, plainName(file.name), work.config)
  if (archive.databaseKind !== work.database.kind)
    return leave(file, `it is from ${archive.databaseKind ?? 'elsewhere'}`)
  const found = await whereaboutsOfAll(archive, work)
  if (typeof found === 'string') return leave(file, `there is no table ${found}`)
  if (found.isElsewhere) {
    const beside = [manifest, ...partsOf(file, work)]
    return setAside(file, beside, found.text, work, !(await wasClaimed(file.name, work)))
  }
  if (archive.redacted !== undefined) return judgeRedaction(file, archive, archive.redacted, work)
  if (!found.isNowhere) return leave(file, found.text)
  const wasOurs = await wasClaimed(file.name, work)
  const why = wasOurs
    ? 'its rows are in no other place. A run was cut off before it deleted them: somebody else has, and may have meant it'
    : 'its rows are in no other place, and the ledger has never come as far as its number'
  return adopt(file, archive, why, wasOurs, work)
}

/**
 * An archive of a redaction of which not all is in other places. If its rows hold what they were set to, and the ledger has
 * never known it, that has been lost; from a run that was cut off, it may never have been what rows held when they were
 * redacted.
 */
async function judgeRedaction(
  file: StoredFile,
  archive: FoundArchive,
  redacted: Redacted,
  work: RepairWork,
): Promise<Repair> {
  const found = await withCompared(archive, redacted, work.database, false, async (compared) => compared)
  if (found === undefined) return leave(file, 'it is of a redaction, and its table has another form now')
  const { gone, changed, same } = found
  const open = archive.rows - gone.count - changed.count - same
  const text = `it is of a redaction, of whose ${archive.rows} rows ${open} hold what they were set to, ${same} what it has, ${changed.count} something else, and ${gone.count} are gone`
  if (changed.count + same > 0 || open === 0 || (await wasClaimed(file.name, work)))
    return leave(file, `${text}; restore puts back what rows held`)
  const why = `${text}; the ledger has never come as far as its number`
  const proposal: Repair = { ...about(file), action: 'adopt', text: why, asks: false, done: false }
  if (!(await isWanted(proposal, work))) return proposal
  const entry = adoptedEntry(archive)
  const done = await withCompared(archive, redacted, work.database, true, async (now, transaction) => {
    // Once more, now that it is about to be said in the same transaction.
    if (now.changed.count + now.same > 0) return false
    await recordNow(transaction, entry, work)
    return true
  })
  return { ...proposal, done: done === true }
}

/** Records an archive that was not known. */
async function recordNow(transaction: RestoreTransaction, entry: LedgerEntry, work: RepairWork): Promise<void> {
  await work.ledger.record(transaction.db, entry)
  const isDone = (): Promise<boolean> => work.ledger.isRecorded(entry)
  await commit(transaction, entry.name, isDone, async () => {})
  work.entries.push(entry)
}

/** The files that went along with an archive's rows. */
function partsOf({ target, name }: StoredFile, { files }: RepairWork): StoredFile[] {
  return files.filter((other) => other.target === target && archiveOfPart(other.name) === plainName(name))
}

/** Of an archive with children, where the rows of all its files are; the name of a table that is not there. */
async function whereaboutsOfAll(archive: FoundArchive, work: RepairWork): Promise<Whereabouts | string> {
  const found: Whereabouts[] = []
  // References are of rows that have stayed.
  for (const file of [archive, ...archive.parts.filter(({ link }) => link === undefined)]) {
    const one = await whereabouts(file, work)
    if (one === undefined) return formatTableName(file.table)
    found.push(found.length === 0 ? one : { ...one, text: `of ${file.name}, ${one.text}` })
  }
  const isElsewhere = found.every((one) => one.isElsewhere)
  const isNowhere = found.every((one) => one.isNowhere)
  const [first] = found
  const text = isElsewhere || isNowhere ? first?.text : found.find((one) => !one.isNowhere)?.text
  return { isElsewhere, isNowhere, text: text ?? '' }
}

/** Whether this ledger has given an archive's number away. */
async function wasClaimed(name: string, { database, ledger }: RepairWork): Promise<boolean> {
  const parts = partsOfArchive(archiveOf(name))
  if (parts === undefined) return false
  return parts.number <= (await database.read((db) => ledger.lastNumber(db, parts.base)))
}

/** Where an archive's rows are beside it. A row is one with all of its values: a key may be in use by another. */
interface Whereabouts {
  /** All of them, each in a place of its own. */
  readonly isElsewhere: boolean
  /** None of them, nor any of their keys. */
  readonly isNowhere: boolean
  readonly text: string
}

/** Looks for an archive's rows in its table and in other archives; undefined where there is no such table. */
async function whereabouts(archive: FoundArchive, work: RepairWork): Promise<Whereabouts | undefined> {
  return withStaged(archive, work.database, async (staged, transaction) => {
    const { rows } = archive
    const { count: keys } = await staged.conflicts(false)
    const inTable = await staged.matchRows()
    // Only those that are not in the table: a row that is in two places must not stand for one that is in none.
    const left = inTable === rows ? new Map<string, number>() : await countLines(staged.unmatched())
    const inArchives = left.size === 0 ? 0 : await countInArchives(left, archive, transaction.table.name, work)
    const isElsewhere = inTable + inArchives === rows
    const places = [...(inArchives < rows ? ['in the table'] : []), ...(inArchives > 0 ? ['in other archives'] : [])]
    const used = Math.max(0, keys - inTable)
    const text = isElsewhere
      ? `all of its rows are ${places.join(' or ')}`
      : `of its ${rows} rows, ${inTable} are in the table and ${inArchives} in other archives${used > 0 ? `, and ${used} of its keys are in use by other rows` : ''}`
    return { isElsewhere, isNowhere: inTable + inArchives + used === 0, text }
  })
}

async function adopt(
  file: StoredFile,
  archive: FoundArchive,
  text: string,
  asks: boolean,
  work: RepairWork,
): Promise<Repair> {
  const proposal: Repair = { ...about(file), action: 'adopt', text, asks, done: false }
  if (!(await isWanted(proposal, work))) return proposal
  const entry = adoptedEntry(archive)
  for (const part of archive.parts) {
    if (part.link !== undefined) continue
    const conflicts = await withStaged(part, work.database, (staged) => staged.conflicts(true))
    if (conflicts === undefined || conflicts.count > 0) return proposal
  }
  const done = await withStaged(archive, work.database, async (staged, transaction) => {
    // Once more, now that it is about to be said in the same transaction.
    if ((await staged.conflicts(true)).count > 0) return false
    await recordNow(transaction, entry, work)
    return true
  })
  return { ...proposal, done: done === true }
}

async function setAside(
  file: StoredFile,
  beside: readonly StoredFile[],
  text: string,
  work: RepairWork,
  asks = false,
): Promise<Repair> {
  // The copy of a database knows rows in its table that another one's archive is the only place of.
  const why = asks ? `${text}; but it may be another database's: this ledger has never come as far as its number` : text
  const proposal: Repair = { ...about(file), action: 'set-aside', text: why, asks, done: false }
  if (!(await isWanted(proposal, work))) return proposal
  // The manifest first and the archive last: cut off in between, it is one without a manifest, which the next repair sets
  // aside as well.
  for (const { target, name } of [...beside, file]) await target.setAside(name)
  return { ...proposal, done: true }
}

function leave(file: StoredFile, text: string): Repair {
  return { ...about(file), action: 'leave', text, asks: false, done: false }
}

function about({ target, name }: StoredFile): Pick<Repair, 'name' | 'location'> {
  return { name, location: target.locate(name) }
}

async function isWanted(proposal: Repair, { yes, decide }: RepairWork): Promise<boolean> {
  if (!yes) return false
  return proposal.asks ? ((await decide?.(proposal)) ?? false) : true
}

/**
 * Lays an archive's rows beside its table, and undoes it again unless the work has committed.
 * @returns undefined where there is no such table
 */
async function withStaged<T>(
  archive: FoundArchive,
  database: Database,
  work: (staged: StagedRows, transaction: RestoreTransaction) => Promise<T>,
): Promise<T | undefined> {
  const set = archive.redacted === undefined ? undefined : Object.keys(archive.redacted.set)
  const transaction = await database.restore(archive.table, undefined, set)
  if (transaction === undefined) return undefined
  try {
    const known = archive.columns.every((column) => transaction.table.columns.some(({ name }) => name === column))
    if (!known)
      throw new RetentionError('REFUSED', `${formatTableName(archive.table)} has lost columns of ${archive.name}`)
    return await work(await transaction.stage(archive.columns, await readCsv(archive)), transaction)
  } finally {
    await transaction.rollback()
  }
}

/** How many of some rows are in archives that the ledger knows, and that are what it knows. */
async function countInArchives(
  wanted: ReadonlyMap<string, number>,
  archive: FoundArchive,
  table: TableName,
  { config, entries }: RepairWork,
): Promise<number> {
  const left = new Map(wanted)
  let found = 0
  for (const entry of entries) {
    // What was restored has gone back to the table, or on into another archive.
    if (entry.state !== 'archived') continue
    const own = isFar(entry, archive) ? [] : [entry]
    const files = [...own, ...entry.files.filter(({ link }) => link === undefined)]
    for (const file of files) {
      if (file.table !== formatTableName(table)) continue
      for (const [line, count] of await linesOf(entry, file, archive.columns, config)) {
        const taken = Math.min(count, left.get(line) ?? 0)
        if (taken === 0) continue
        left.set(line, (left.get(line) ?? 0) - taken)
        found += taken
      }
    }
  }
  return found
}

/** Whether an archive's times lie days from another's: then they have no row in common. */
function isFar({ from, to }: LedgerEntry, { manifest, column }: FoundArchive): boolean {
  // Of what went along with others, no times are known.
  if (manifest === undefined || column === undefined) return false
  const day = 24 * 60 * 60 * 1000
  const [start, end] = [
    Date.parse(manifest.firstTimestamp.slice(0, 10)),
    Date.parse(manifest.lastTimestamp.slice(0, 10)),
  ]
  // Of times that are no plain dates, nothing is known.
  return Date.parse(to.slice(0, 10)) < start - 2 * day || Date.parse(from.slice(0, 10)) > end + 2 * day
}

/** The lines of a file of an archive with the same columns, in the same order; none where its bytes are not what was recorded. */
async function linesOf(
  entry: LedgerEntry,
  file: Pick<LedgerEntry, 'path' | 'encoding' | 'columns' | 'sha256'>,
  columns: readonly string[],
  config: Config,
): Promise<ReadonlyMap<string, number>> {
  const none = new Map<string, number>()
  if (file.columns.join('\0') !== columns.join('\0')) return none
  const stored: CsvFile = { ...file, target: await targetOfEntry(entry, config), keys: config.keys }
  const meter = new Meter()
  try {
    const lines = await countLines(metered(meter, await readCsv(stored)))
    return meter.digest().sha256 === file.sha256 ? lines : none
  } catch (error) {
    // What is not there any more, or not whole, holds nothing.
    if (hasCode(error, 'ARCHIVE_NOT_FOUND') || hasCode(error, 'ARCHIVE_CHANGED')) return none
    throw error
  }
}

/** How often each row comes, under the header. */
async function countLines(csv: AsyncIterable<Buffer>): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  let isHeader = true
  for await (const fields of readRecords(csv)) {
    if (isHeader) {
      isHeader = false
      continue
    }
    const line = JSON.stringify(fields.map(({ text, isNull }) => (isNull ? null : text)))
    counts.set(line, (counts.get(line) ?? 0) + 1)
  }
  return counts
}

/** Whether it is an archive's own CSV, as it is or sealed, and not a manifest, a further file or an unfinished one. */
function isArchive({ name }: StoredFile): boolean {
  return partsOfArchive(plainName(name)) !== undefined
}

/** Whether both are of one archive. An unfinished file is by itself. */
function isWith(a: StoredFile, b: StoredFile): boolean {
  return a.target === b.target && archiveOf(a.name) === archiveOf(b.name)
}
