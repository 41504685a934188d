/** `verify --repair`: what to do with files that the ledger does not know. Removes nothing, and overwrites nothing. */
import { readRecords } from './archive/csv.ts'
import { archiveOfManifest, manifestName, partsOfArchive } from './archive/name.ts'
import type { Config } from './config/config.ts'
import { formatTableName, type TableName } from './config/fields.ts'
import type { Policy } from './config/policy.ts'
import type { Database, RestoreTransaction } from './database/database.ts'
import { hasCode, RetentionError } from './errors.ts'
import { findBare, findStored, targetOfEntry, type FoundArchive } from './find-archive.ts'
import type { Ledger } from './ledger/ledger.ts'
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
  readonly policies: readonly Policy[]
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
  try {
    return manifest === undefined ? await judgeBare(file, order) : await judgeWhole(file, manifest, order)
  } catch (error) {
    if (!(error instanceof RetentionError)) throw error
    return leave(file, error.message)
  }
}

/** An archive is stored before its manifest, and its rows leave their table after both: this one's never have. */
async function judgeBare(file: StoredFile, order: RepairOrder): Promise<Repair> {
  const policy = order.policies.find(({ name }) => name === file.policy)
  if (policy === undefined) return leave(file, `there is no manifest beside it, and no policy "${file.policy}"`)
  const found = await whereabouts(await findBare(file.target, file.name, policy.table), order)
  if (found?.isElsewhere === true) return setAside([file], found.text, order)
  return leave(file, `there is no manifest beside it, and ${found?.text ?? 'its table is not there'}`)
}

/** Goes by where the archive's rows are now. */
async function judgeWhole(file: StoredFile, manifest: StoredFile, order: RepairOrder): Promise<Repair> {
  const { database, ledger } = order
  const archive = await findStored(file.target, file.name)
  if (archive.databaseKind !== database.kind) return leave(file, `it is from ${archive.databaseKind ?? 'elsewhere'}`)
  const found = await whereabouts(archive, order)
  if (found === undefined) return leave(file, `there is no table ${formatTableName(archive.table)}`)
  if (found.isElsewhere) return setAside([file, manifest], found.text, order)
  if (!found.isNowhere) return leave(file, found.text)
  const { base, number } = partsOfArchive(file.name) ?? { base: file.name, number: 1 }
  const wasOurs = number <= (await database.read((db) => ledger.lastNumber(db, base)))
  const why = wasOurs
    ? 'its rows are in no other place. A run was cut off before it deleted them: somebody else has, and may have meant it'
    : 'its rows are in no other place, and the ledger has never come as far as its number'
  return adopt(file, archive, why, wasOurs, order)
}

/** Where an archive's rows are beside it. */
interface Whereabouts {
  /** All of them, each in one place. */
  readonly isElsewhere: boolean
  /** None of them. */
  readonly isNowhere: boolean
  readonly text: string
}

/** Looks for an archive's rows in its table and in other archives; undefined where there is no such table. */
async function whereabouts(archive: FoundArchive, order: RepairOrder): Promise<Whereabouts | undefined> {
  const looked = await withStaged(archive, order.database, async (transaction) => ({
    key: transaction.table.key,
    count: (await transaction.conflicts(true)).count,
    table: transaction.table.name,
  }))
  if (looked === undefined) return undefined
  const { key, count: inTable, table } = looked
  const { rows } = archive
  const columns = key.length > 0 && key.every((name) => archive.columns.includes(name)) ? key : archive.columns
  const inArchives = inTable === rows ? 0 : await countInArchives(archive, table, columns, order)
  const isElsewhere = inTable + inArchives === rows
  const places = [
    ...(inTable > 0 || rows === 0 ? ['in the table'] : []),
    ...(inArchives > 0 ? ['in other archives'] : []),
  ]
  const text = isElsewhere
    ? `all of its rows are ${places.join(' or ')}`
    : `of its ${rows} rows, ${inTable} are in the table and ${inArchives} in other archives`
  return { isElsewhere, isNowhere: inTable + inArchives === 0, text }
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

/** How many of an archive's rows are in archives that the ledger knows, going by some columns. */
async function countInArchives(
  archive: FoundArchive,
  table: TableName,
  columns: readonly string[],
  { config, database, ledger }: RepairOrder,
): Promise<number> {
  const entries = await database.read((db) => ledger.entries(db))
  // What was restored has gone back to the table, or on into another archive.
  const others = entries.filter((entry) => entry.state === 'archived' && entry.table === formatTableName(table))
  const counts = new Map<string, number>()
  for await (const text of rowTexts(archive.target.read(archive.name), columns)) {
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  let found = 0
  for (const entry of others) {
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
