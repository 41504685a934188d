/** `verify --repair`: what to do with files that the ledger does not know. Removes nothing, and overwrites nothing. */
import { readRecords } from './archive/csv.ts'
import type { Manifest } from './archive/manifest.ts'
import { archiveOfManifest, manifestName, partsOfArchive } from './archive/name.ts'
import type { Config } from './config/config.ts'
import { formatTableName, type TableName } from './config/fields.ts'
import type { Database, RestoreTransaction } from './database/database.ts'
import { hasCode, messageOf, RetentionError } from './errors.ts'
import { findStored, targetOfEntry, type FoundArchive } from './find-archive.ts'
import type { Ledger, LedgerEntry } from './ledger/ledger.ts'
import { adoptedEntry } from './records.ts'
import type { Repair } from './report.ts'
import type { Target } from './target/target.ts'

/** A file of ours on a target. */
export interface StoredFile {
  readonly target: Target
  readonly name: string
  /** The policy that its name says it is from. */
  readonly policy: string
}

/** What a repair depends on. */
export interface RepairOrder {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  /** Whether to do what is safe, or only to propose it. */
  readonly yes: boolean
  /** Asks somebody whether to do what may not be meant; without it, such things are left. */
  readonly decide: ((repair: Repair) => Promise<boolean>) | undefined
}

/** Decides on each orphan, and does it where it may. */
export async function repairOrphans(orphans: readonly StoredFile[], order: RepairOrder): Promise<Repair[]> {
  const repairs: Repair[] = []
  for (const [policy, files] of Map.groupBy(orphans, (file) => file.policy)) {
    const lock = await order.database.lock(order.ledger.lockName(policy))
    try {
      for (const file of files) {
        // A manifest goes with its archive.
        const archive = archiveOfManifest(file.name)
        if (archive !== undefined && files.some((other) => isSame(other, { ...file, name: archive }))) continue
        repairs.push(
          lock === undefined ? leave(file, 'a run is at work on its policy') : await repair(file, files, order),
        )
      }
    } finally {
      await lock?.release()
    }
  }
  return repairs
}

async function repair(file: StoredFile, orphans: readonly StoredFile[], order: RepairOrder): Promise<Repair> {
  if (file.name.endsWith('.tmp'))
    return setAside([file], 'it is unfinished, and its rows have not left the table', order)
  if (archiveOfManifest(file.name) !== undefined) return leave(file, 'there is no archive beside it')
  const manifest = orphans.find((other) => isSame(other, { ...file, name: manifestName(file.name) }))
  if (manifest === undefined) return leave(file, 'there is no manifest beside it: nobody knows what it should hold')
  let archive: FoundArchive
  try {
    archive = await findStored(file.target, file.name)
  } catch (error) {
    return leave(file, messageOf(error))
  }
  return judge([file, manifest], archive, order)
}

/** Goes by where the archive's rows are now. */
async function judge(files: readonly StoredFile[], archive: FoundArchive, order: RepairOrder): Promise<Repair> {
  const { database, ledger } = order
  const [file] = files
  if (file === undefined) throw new TypeError('no file')
  if (archive.databaseKind !== database.kind) return leave(file, `it is from ${archive.databaseKind ?? 'elsewhere'}`)
  const { rows } = archive
  const inTable = await withStaged(archive, database, async (transaction) => (await transaction.conflicts(true)).count)
  if (inTable === undefined) return leave(file, `there is no table ${formatTableName(archive.table)}`)
  if (inTable === rows) return setAside(files, 'all of its rows are in the table', order)
  const inArchives = await countInArchives(archive, order)
  if (inTable + inArchives === rows) {
    const where = inTable === 0 ? 'in other archives' : 'in the table or in other archives'
    return setAside(files, `all of its rows are ${where}`, order)
  }
  if (inTable + inArchives > 0) {
    return leave(file, `of its ${rows} rows, ${inTable} are in the table and ${inArchives} in other archives`)
  }
  const { base, number } = partsOfArchive(file.name) ?? { base: file.name, number: 1 }
  const wasOurs = number <= (await database.read((db) => ledger.lastNumber(db, base)))
  const why = wasOurs
    ? 'its rows are in no other place. A run was cut off before it deleted them: somebody else has, and may have meant it'
    : 'its rows are in no other place, and the ledger has never come as far as its number'
  return adopt(file, archive, why, wasOurs, order)
}

async function adopt(
  file: StoredFile,
  archive: FoundArchive,
  text: string,
  asks: boolean,
  order: RepairOrder,
): Promise<Repair> {
  const proposal: Repair = { ...about(file), action: 'adopt', text, asks, done: false }
  if (!(await isWanted(proposal, order))) return proposal
  const done = await withStaged(archive, order.database, async (transaction) => {
    // Once more, now that it is about to be said in the same transaction.
    if ((await transaction.conflicts(true)).count > 0) return false
    await order.ledger.record(transaction.db, adoptedEntry(archive))
    await transaction.commit()
    return true
  })
  return { ...proposal, done: done === true }
}

async function setAside(files: readonly StoredFile[], text: string, order: RepairOrder): Promise<Repair> {
  const [file] = files
  if (file === undefined) throw new TypeError('no file')
  const proposal: Repair = { ...about(file), action: 'set-aside', text, asks: false, done: false }
  if (!(await isWanted(proposal, order))) return proposal
  for (const { target, name } of files) await target.setAside(name)
  return { ...proposal, done: true }
}

function leave(file: StoredFile, text: string): Repair {
  return { ...about(file), action: 'leave', text, asks: false, done: false }
}

function about({ target, name }: StoredFile): Pick<Repair, 'name' | 'location'> {
  return { name, location: target.locate(name) }
}

async function isWanted(proposal: Repair, { yes, decide }: RepairOrder): Promise<boolean> {
  if (!yes) return false
  return proposal.asks ? ((await decide?.(proposal)) ?? false) : true
}

/**
 * Lays an archive's rows beside its table, and undoes it again unless the work has committed.
 * @returns undefined where there is no such table
 */
export async function withStaged<T>(
  archive: FoundArchive,
  database: Database,
  work: (transaction: RestoreTransaction) => Promise<T>,
): Promise<T | undefined> {
  const transaction = await database.restore(archive.table)
  if (transaction === undefined) return undefined
  try {
    const known = archive.columns.every((column) => transaction.table.columns.some(({ name }) => name === column))
    if (!known)
      throw new RetentionError('REFUSED', `${formatTableName(archive.table)} has lost columns of ${archive.name}`)
    await transaction.stage(archive.columns, await archive.target.read(archive.name))
    return await work(transaction)
  } finally {
    await transaction.rollback()
  }
}

/** How many of an archive's rows are in archives that the ledger knows: by their keys, or without a key as they are. */
async function countInArchives(archive: FoundArchive, { config, database, ledger }: RepairOrder): Promise<number> {
  const entries = await database.read((db) => ledger.entries(db))
  const near = entries.filter((entry) => isNear(entry, archive.table, archive.manifest))
  const key = archive.manifest?.files[0]?.key ?? []
  const columns = key.length > 0 ? key : archive.columns
  const counts = new Map<string, number>()
  for await (const text of rowTexts(archive.target.read(archive.name), columns)) {
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  let found = 0
  for (const entry of near) {
    const target = await targetOfEntry(entry, config)
    try {
      for await (const text of rowTexts(target.read(entry.path), columns)) {
        const left = counts.get(text) ?? 0
        if (left === 0) continue
        counts.set(text, left - 1)
        found += 1
      }
    } catch (error) {
      // What is not there any more holds nothing.
      if (!hasCode(error, 'ARCHIVE_NOT_FOUND')) throw error
    }
  }
  return found
}

function isNear(entry: LedgerEntry, table: TableName, manifest: Manifest | undefined): boolean {
  return entry.state !== 'pruned' && entry.table === formatTableName(table) && manifest !== undefined
}

/** Of each row, some columns as one text; of none, where the archive has not all of them. */
async function* rowTexts(csv: Promise<AsyncIterable<Buffer>>, columns: readonly string[]): AsyncGenerator<string> {
  let places: readonly number[] | undefined
  for await (const record of readRecords(await csv)) {
    if (places === undefined) {
      places = columns.map((column) => record.findIndex(({ text }) => text === column))
      if (places.includes(-1)) return
    } else {
      yield JSON.stringify(places.map((place) => [record[place]?.text, record[place]?.isNull]))
    }
  }
}

function isSame(a: StoredFile, b: StoredFile): boolean {
  return a.target === b.target && a.name === b.name
}
