/** Erases rows from one archive: the order of events, as apply/runner.ts has that of a step. */
import { setTimeout as sleep } from 'node:timers/promises'

import { storedName } from '../archive/encoding.ts'
import { formatManifest, type Manifest } from '../archive/manifest.ts'
import { manifestName, partsOfArchive, renamedFile } from '../archive/name.ts'
import { metered, Meter, readCsv, store, storeText, type Stored } from '../archive/store.ts'
import type { Sealer } from '../archive/seal.ts'
import { withoutRecords } from '../archive/without-records.ts'
import { commit } from '../commit.ts'
import type { Config } from '../config/config.ts'
import type { TargetConfig } from '../config/fields.ts'
import type { Database, Db, Finding } from '../database/database.ts'
import { chooseInArchive, type ArchiveChoice, type EraseWish, type FileChoice } from './erase-choice.ts'
import { removeTaken } from '../stored/removal.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { findRecorded, type FoundArchive } from '../stored/find-archive.ts'
import { freeName, mostInTheWay } from '../stored/free-name.ts'
import { furtherFiles } from '../stored/further-files.ts'
import { digestsOf } from '../stored/records.ts'
import type { ErasedFile, Erasure } from '../ledger/erasures.ts'
import type { Hold } from '../ledger/hold.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import { checkRead } from '../restore/placing.ts'
import { isAddress, openTarget } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** What is to be erased, and where. */
export interface EraseOrder {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly wish: EraseWish
  /** Where the policy's archives go now. */
  readonly archiveTo: TargetConfig
  /** What seals what is left of archives; undefined where they are stored as they are. */
  readonly sealer: Sealer | undefined
  /** What is written down of it. */
  readonly erasure: Erasure
  readonly now: Date
}

/** What became of an archive. */
export interface ErasedArchive {
  readonly choice: ArchiveChoice
  /** The archive that has taken its place; undefined where none has. */
  readonly after: string | undefined
  readonly warnings: readonly Finding[]
  /** Why its old files are there still, though the ledger has gone over from them. */
  readonly error?: RetentionError
}

/** A new archive, stored and read back, and what is to be written down of it. */
interface NewArchive {
  /** Undefined where nothing is left of the old one. */
  readonly entry: LedgerEntry | undefined
  readonly files: readonly ErasedFile[]
}

/** How often an archive is tried again when somebody is in the way, and how long is waited first, in milliseconds. */
const attempts = 6
const firstWait = 200

/** Erases what matches from an archive; where nothing does, nothing is done. */
export async function eraseInArchive(entry: LedgerEntry, order: EraseOrder): Promise<ErasedArchive> {
  const inTheWay: string[] = []
  for (let attempt = 1; ;) {
    try {
      return await eraseOnce(entry, order, inTheWay)
    } catch (error) {
      if (hasCode(error, 'ARCHIVE_EXISTS') && inTheWay.length < mostInTheWay) {
        inTheWay.push(error.message)
        continue
      }
      const again = hasCode(error, 'DATABASE_BUSY') || hasCode(error, 'ROWS_CHANGED')
      if (!again || attempt === attempts) throw error
      await sleep(firstWait * 2 ** (attempt - 1))
      attempt += 1
    }
  }
}

/** The legal holds on an archive. */
export async function holdsOn(
  db: Db,
  entry: LedgerEntry,
  { ledger, now, erasure }: EraseOrder,
): Promise<readonly Hold[]> {
  return (await ledger.holds.onArchives(db, [entry], now, erasure.table)).get(entry.name) ?? []
}

/**
 * One archive, in its order. At every point each row that stays is in a durable archive that the ledger knows: until the
 * commit that is the old one, and with it the new one, which by then has been stored and read back.
 */
async function eraseOnce(entry: LedgerEntry, order: EraseOrder, inTheWay: string[]): Promise<ErasedArchive> {
  const { config, database, ledger, wish } = order
  // 1. Find the rows that match, and that no legal hold keeps.
  const archive = await findRecorded(entry, config)
  const holds = await database.read((db) => holdsOn(db, entry, order))
  const choice = await chooseInArchive(archive, holds, wish, database)
  if (choice.files.every(({ numbers }) => numbers.length === 0)) return { choice, after: undefined, warnings: [] }
  const { target } = archive
  const published: string[] = []
  let made: NewArchive
  try {
    // 2. Store what is left under a name of its own, make it durable, read it back; its manifest last.
    made = isAllGone(choice)
      ? { entry: undefined, files: erasedFiles(entry, choice, undefined, new Map()) }
      : await storeRest(entry, archive, choice, order, { published, inTheWay })
  } catch (error) {
    await takeBack(target, published)
    throw error
  }
  // 3. In one transaction the ledger goes over to it, and has the old files as ones that are to go.
  const tables = [archive, ...archive.parts].map(({ table }) => table)
  let isWritten = false
  const record = async (): Promise<void> =>
    database.apart(tables, async (db) => {
      // A hold that came meanwhile has seen the old archive, and must find its rows.
      if (idsOf(await holdsOn(db, entry, order)) !== idsOf(holds))
        throw new RetentionError('ROWS_CHANGED', `A legal hold came on ${entry.name}, or went, while it was read`)
      await ledger.erasures.record(db, order.erasure, made.files)
      await (made.entry === undefined ? ledger.prune(db, entry) : ledger.move(db, entry, made.entry))
      isWritten = true
    })
  const isDone = async (): Promise<boolean> => {
    // What failed before its commit is not done, whoever may not ask the ledger so.
    if (!isWritten) return false
    return made.entry === undefined ? ledger.isPruned(entry) : ledger.isMoved(entry, made.entry)
  }
  await commit({ commit: record, rollback: async () => {} }, `what was erased from ${entry.name}`, isDone, () =>
    takeBack(target, published),
  )
  // 4. Only now the old files go.
  const done = { choice, after: made.entry?.name }
  const warnings = [...choice.warnings, ...inTheWay.map((text): Finding => ({ level: 'warning', text }))]
  const told = { what: `Rows were erased from ${entry.name}`, command: 'retention erase' }
  const error = await removeTaken(made.files, order, told)
  return { ...done, warnings, ...(error === undefined ? {} : { error }) }
}

/** Where the archive is, with what the config says of objects there: they are to be kept and locked as those of apply are. */
async function targetForRest(
  entry: LedgerEntry,
  { target }: FoundArchive,
  { config, archiveTo }: Pick<EraseOrder, 'config' | 'archiveTo'>,
): Promise<Target> {
  if (!isAddress(entry.target)) return target
  const now = openTarget(archiveTo, config.folder)
  return (await now.identity()) === (await target.identity()) ? now : target
}

/** Stores an archive anew, without the rows that go. */
async function storeRest(
  entry: LedgerEntry,
  archive: FoundArchive,
  choice: ArchiveChoice,
  { config, archiveTo, database, ledger, sealer }: EraseOrder,
  { published, inTheWay }: { published: string[]; inTheWay: string[] },
): Promise<NewArchive> {
  const { manifest } = archive
  const target = await targetForRest(entry, archive, { config, archiveTo })
  const base = partsOfArchive(entry.name)?.base
  if (manifest === undefined || base === undefined)
    throw new RetentionError('MANIFEST_INVALID', `${entry.name} is no archive of which the rest could be stored`)
  const encoding = sealer?.encoding ?? null
  const name = await freeName(base, { target, encoding }, { database, ledger }, inTheWay)
  const after = new Map<FileChoice, Stored>()
  const files: Manifest['files'] = []
  for (const [at, one] of choice.files.entries()) {
    const recorded = manifest.files[at]
    const rows = one.file.rows - one.numbers.length
    // As apply does, a table of which no row is left has no file, unless it is the policy's own.
    if (recorded === undefined || (at > 0 && rows === 0)) continue
    const file = renamedFile(one.file.name, entry.name, name)
    const meter = new Meter()
    const csv = metered(meter, await readCsv(one.file))
    const stored = await store(target, file, withoutRecords(csv, one.numbers), undefined, sealer)
    published.push(stored.file)
    checkRead(one.file, one.file.rows, meter)
    if (stored.records !== rows)
      throw new RetentionError('ARCHIVE_CHANGED', `${file} holds ${stored.records} rows, and ${rows} were to be left`)
    files.push({ ...recorded, file, rows, ...digestsOf(stored) })
    after.set(one, stored)
  }
  const rest: Manifest = { ...manifest, files }
  const manifestStored = await storeText(target, manifestName(name), formatManifest(rest))
  published.push(manifestName(name))
  const [own] = files
  if (own === undefined) throw new TypeError('the archive has a file of its own')
  const moved: LedgerEntry = {
    ...entry,
    name,
    path: storedName(name, encoding),
    location: target.locate(storedName(name, encoding)),
    rows: own.rows,
    bytes: own.stored.bytes,
    sha256: own.csv.sha256,
    storedSha256: own.stored.sha256,
    encoding,
    manifestSha256: manifestStored.sha256,
    files: furtherFiles(rest),
  }
  return { entry: moved, files: erasedFiles(entry, choice, moved, after) }
}

/** What is written down of the old files, the manifest's first and the archive's own last, as they are removed. */
function erasedFiles(
  entry: LedgerEntry,
  { files }: ArchiveChoice,
  moved: LedgerEntry | undefined,
  after: ReadonlyMap<FileChoice, Stored>,
): ErasedFile[] {
  const [own] = files
  if (own === undefined) return []
  const { target } = own.file
  const { name, host } = entry
  const common = { archive: name, archiveAfter: moved?.name ?? null, host, target: entry.target, removedAt: null }
  const manifest = manifestName(entry.name)
  return [
    {
      ...common,
      file: manifest,
      fileAfter: moved === undefined ? null : manifestName(moved.name),
      rows: null,
      rowsErased: null,
      sha256: null,
      sha256After: null,
      storedSha256: entry.manifestSha256,
      storedSha256After: moved?.manifestSha256 ?? null,
      location: target.locate(manifest),
    },
    ...files.toReversed().map((one): ErasedFile => {
      const { file, numbers } = one
      const rest = after.get(one)
      return {
        ...common,
        file: file.path,
        fileAfter: rest?.file ?? null,
        rows: file.rows,
        rowsErased: numbers.length,
        sha256: file.sha256,
        sha256After: rest?.sha256 ?? null,
        storedSha256: file.storedSha256 ?? '',
        storedSha256After: rest?.sealed.sha256 ?? null,
        location: target.locate(file.path),
      }
    }),
  ]
}

/** Whether no row is left; references alone are of no use. */
function isAllGone({ files }: ArchiveChoice): boolean {
  return files.every(({ file, numbers }) => file.link !== undefined || numbers.length === file.rows)
}

function idsOf(holds: readonly Hold[]): string {
  return holds.map(({ id }) => id).join()
}

/** Of what was stored nothing remains but its number. A file that cannot be taken back is one that verify tells of. */
async function takeBack(target: Target, published: readonly string[]): Promise<void> {
  for (const file of published.toReversed()) await target.withdraw(file).catch(() => {})
}
