/** Finds the archive that somebody names, and what is known of it: from the ledger, its manifest, or both. */
import { lstat } from 'node:fs/promises'
import path from 'node:path'

import { readHeader } from './archive/csv.ts'
import { archiveOfManifest, archiveOfPart, manifestName } from './archive/name.ts'
import { parseManifest, type Manifest } from './archive/manifest.ts'
import { readText, readWhole, sha256Of } from './archive/store.ts'
import type { Config } from './config/config.ts'
import type { Database } from './database/database.ts'
import { hasCode, RetentionError } from './errors.ts'
import { furtherFiles } from './further-files.ts'
import { parseTableName, type TableName } from './config/fields.ts'
import type { Ledger, LedgerEntry, LedgerFile, LedgerLink } from './ledger/ledger.ts'
import { LocalTarget } from './target/local.ts'
import { openTarget } from './target/open.ts'
import type { Target } from './target/target.ts'
import { didYouMean } from './config/validate.ts'

/** An archive, as it was recorded. Whether its bytes still are, `checkBytes` tells. */
export interface FoundArchive {
  readonly name: string
  readonly policy: string
  readonly table: TableName
  /** The CSV's columns, in its order. */
  readonly columns: readonly string[]
  /** The column that aged the rows; undefined where only the ledger is left to ask. */
  readonly column: string | undefined
  readonly rows: number
  /** Of the CSV. */
  readonly sha256: string
  readonly target: Target
  /** Undefined where the ledger does not know it. */
  readonly entry: LedgerEntry | undefined
  /** Undefined where the manifest is missing. */
  readonly manifest: Manifest | undefined
  readonly manifestSha256: string | undefined
  readonly databaseKind: Database['kind'] | undefined
  /** Further files: rows that went along, then references that were set to something else. In the order of a restore. */
  readonly parts: readonly FoundArchive[]
  /** Of a part that holds references, how they are set again. */
  readonly link?: LedgerLink
}

/** Where to look. */
export interface Place {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly cwd: string
}

/**
 * Finds an archive by its name, its path or its location.
 * @throws RetentionError `ARCHIVE_NOT_FOUND`, `MANIFEST_INVALID`
 */
export async function findArchive(file: string, place: Place): Promise<FoundArchive> {
  const written = path.basename(file)
  const name = archiveOfManifest(written) ?? archiveOfPart(written) ?? written
  const { database, ledger } = place
  const known = await database.read((db) => ledger.find(db, name))
  const isOver = known === undefined || known.state === 'pruned'
  const erased = isOver ? await database.read((db) => ledger.erasures.files(db, name)) : []
  try {
    const target = await targetWith(file, name, known, place)
    // Another database's archive may have the same name.
    const isOther = known !== undefined && (await isAnother(target, name, known, place.config))
    const entry = isOther ? undefined : known
    const found = await readFound(target, name, entry)
    const isErased = erased.some(({ storedSha256 }) => storedSha256 === found.manifestSha256)
    const isGone = entry?.state === 'pruned' && erased.length > 0
    if (!isGone && !isErased) return found
  } catch (error) {
    if (erased.length === 0 || !hasCode(error, 'ARCHIVE_NOT_FOUND')) throw error
  }
  const rest = await database.read((db) => ledger.erasures.restOf(db, name))
  throw new RetentionError('ARCHIVE_NOT_FOUND', `Rows were erased from ${name}, and it is no more`, {
    hint: rest === null ? 'None of its rows were left.' : `Its other rows are in ${rest}.`,
  })
}

/** An archive that the ledger does not know, by its manifest, with its bytes checked. @throws as `checkBytes` */
export async function findStored(target: Target, name: string): Promise<FoundArchive> {
  return checked(await readFound(target, name, undefined))
}

/**
 * What an archive without a manifest would be, were it from that table: nobody has written down what it should hold.
 * @throws RetentionError `ARCHIVE_CHANGED` where it is no CSV
 */
export async function findBare(target: Target, name: string, table: TableName): Promise<FoundArchive> {
  const { digest, records } = await readWhole(target, name)
  return {
    name,
    policy: '',
    table,
    columns: await readHeader(await target.read(name)),
    column: undefined,
    rows: records,
    sha256: digest.sha256,
    target,
    entry: undefined,
    manifest: undefined,
    manifestSha256: undefined,
    databaseKind: undefined,
    parts: [],
  }
}

/** An archive that the ledger knows, with its bytes checked. @throws as `checkBytes` */
export async function findEntry(entry: LedgerEntry, config: Config): Promise<FoundArchive> {
  return checked(await findRecorded(entry, config))
}

/** The same as it was recorded. @throws RetentionError `MANIFEST_INVALID` */
export async function findRecorded(entry: LedgerEntry, config: Config): Promise<FoundArchive> {
  return readFound(await targetOfEntry(entry, config), entry.name, entry)
}

async function readFound(target: Target, name: string, entry: LedgerEntry | undefined): Promise<FoundArchive> {
  const read = await readManifest(target, name, entry)
  return entry === undefined ? fromManifest(name, read, target) : fromLedger(entry, read, target)
}

async function checked(archive: FoundArchive): Promise<FoundArchive> {
  await checkBytes(archive)
  return archive
}

/**
 * Reads an archive whole, to see whether its bytes are those that were recorded.
 * @throws RetentionError `ARCHIVE_NOT_FOUND`, `ARCHIVE_CHANGED`, `MANIFEST_INVALID`
 */
export async function checkBytes(archive: FoundArchive): Promise<void> {
  for (const file of [archive, ...archive.parts]) await checkFile(file)
}

async function checkFile(archive: FoundArchive): Promise<void> {
  const { name, target, entry, manifest, rows } = archive
  const { digest, records } = await readWhole(target, name)
  const expected = entry?.storedSha256 ?? manifest?.files[0]?.stored.sha256
  if (digest.sha256 !== expected) {
    throw new RetentionError(
      'ARCHIVE_CHANGED',
      `${target.locate(name)} is not what was stored: its SHA-256 is ${digest.sha256}, and ${entry === undefined ? 'its manifest' : 'the ledger'} has ${expected ?? 'none'}`,
      { hint: 'Nothing has been changed. Take the file from a backup; "retention verify" checks the others.' },
    )
  }
  if (records !== rows) {
    throw new RetentionError('ARCHIVE_CHANGED', `${target.locate(name)} holds ${records} rows, not ${rows}`)
  }
  await checkHeader(archive)
}

/** @throws RetentionError `ARCHIVE_CHANGED` where an archive's columns are not those that were recorded */
export async function checkHeader({ name, target, columns }: FoundArchive): Promise<void> {
  const header = await readHeader(await target.read(name))
  if (header.length === columns.length && header.every((column, index) => column === columns[index])) return
  throw new RetentionError(
    'ARCHIVE_CHANGED',
    `The header of ${name} is (${header.join(', ')}), not (${columns.join(', ')})`,
  )
}

/** The target of an entry: as the config's folder now leads to it, or else where the ledger saw it last. */
export async function targetOfEntry(
  entry: Pick<LedgerEntry, 'target' | 'path' | 'location'>,
  config: Config,
): Promise<Target> {
  const configured = openTarget({ to: entry.target, durable: true, bom: true }, config.folder)
  if (await configured.has(entry.path)) return configured
  const recorded = folderTarget(path.dirname(entry.location))
  return (await recorded.has(entry.path)) ? recorded : configured
}

/** Whether what lies elsewhere than an entry's file is an archive of its own, with a manifest of its own. */
async function isAnother(target: Target, name: string, known: LedgerEntry, config: Config): Promise<boolean> {
  const own = await targetOfEntry(known, config)
  if ((await own.identity()) === (await target.identity())) return false
  const text = await readText(target, manifestName(name)).catch(() => undefined)
  return text !== undefined && sha256Of(text) !== known.manifestSha256
}

async function targetWith(
  file: string,
  name: string,
  entry: LedgerEntry | undefined,
  { config, ledger, database, cwd }: Place,
): Promise<Target> {
  // A path that leads to a file is taken at its word; whether it is the right one, its checksum tells.
  const folder = path.dirname(path.resolve(cwd, file))
  if ((file !== name || entry === undefined) && (await isThere(path.join(folder, name)))) return folderTarget(folder)
  if (entry !== undefined) return targetOfEntry(entry, config)
  const configured = openTarget(config.archive, config.folder)
  if (file === name && (await configured.has(name))) return configured
  const known = await database.read((db) => ledger.entries(db))
  throw new RetentionError(
    'ARCHIVE_NOT_FOUND',
    `There is no archive "${file}"${didYouMean(
      name,
      known.map((other) => other.name),
    )}`,
    {
      hint: 'Name it as "retention status --archives" lists it, or give the path of its CSV file.',
    },
  )
}

interface ReadManifest {
  readonly manifest: Manifest
  readonly sha256: string
}

async function readManifest(
  target: Target,
  name: string,
  entry: LedgerEntry | undefined,
): Promise<ReadManifest | undefined> {
  const file = manifestName(name)
  let text: string
  try {
    text = await readText(target, file)
  } catch (error) {
    // The ledger knows enough to restore without it.
    if (entry !== undefined && hasCode(error, 'ARCHIVE_NOT_FOUND')) return undefined
    if (!hasCode(error, 'ARCHIVE_NOT_FOUND')) throw error
    throw new RetentionError(
      'ARCHIVE_NOT_FOUND',
      `The ledger does not know ${name}, and it has no manifest ${target.locate(file)}`,
      {
        hint: 'Put the manifest beside it; without one nobody knows what the file should hold.',
        cause: error,
      },
    )
  }
  const manifest = parseManifest(text, target.locate(file))
  if (manifest.files[0]?.file !== name) {
    throw new RetentionError(
      'MANIFEST_INVALID',
      `${target.locate(file)} is the manifest of ${manifest.files[0]?.file ?? 'no file'}`,
    )
  }
  const sha256 = sha256Of(text)
  if (entry !== undefined && sha256 !== entry.manifestSha256) {
    throw new RetentionError(
      'MANIFEST_INVALID',
      `${target.locate(file)} has been changed since it was stored: its SHA-256 is not the ledger's`,
    )
  }
  return { manifest, sha256 }
}

function fromLedger(entry: LedgerEntry, read: ReadManifest | undefined, target: Target): FoundArchive {
  const archive: FoundArchive = {
    name: entry.name,
    policy: entry.policy,
    table: parseTableName(entry.table) ?? { schema: undefined, name: entry.table },
    columns: entry.columns,
    column: read?.manifest.column,
    rows: entry.rows,
    sha256: entry.sha256,
    target,
    entry,
    manifest: read?.manifest,
    manifestSha256: read?.sha256,
    databaseKind: read?.manifest.database.kind,
    parts: [],
  }
  return { ...archive, parts: entry.files.map((file, index) => partOf(archive, file, index + 1)) }
}

/** A further file as an archive of its own: with what is recorded of it, and of what is common to all. */
function partOf(archive: FoundArchive, file: LedgerFile, index: number): FoundArchive {
  const { entry, manifest } = archive
  const { path: name, table, columns, rows, bytes, sha256, storedSha256, link } = file
  const recorded = manifest?.files[index]
  return {
    ...archive,
    name,
    table: parseTableName(table) ?? { schema: undefined, name: table },
    columns,
    column: undefined,
    rows,
    sha256,
    entry:
      entry === undefined
        ? undefined
        : { ...entry, path: name, table, columns, rows, bytes, sha256, storedSha256, files: [] },
    manifest: manifest === undefined || recorded === undefined ? undefined : { ...manifest, files: [recorded] },
    parts: [],
    ...(link === undefined ? {} : { link }),
  }
}

function fromManifest(name: string, read: ReadManifest | undefined, target: Target): FoundArchive {
  const manifest = read?.manifest
  const [file] = manifest?.files ?? []
  if (manifest === undefined || file === undefined)
    throw new RetentionError('MANIFEST_INVALID', `${name} has no manifest`)
  const archive: FoundArchive = {
    name,
    policy: manifest.policy,
    table: { schema: file.table.schema, name: file.table.name },
    columns: file.columns.map((column) => column.name),
    column: manifest.column,
    rows: file.rows,
    sha256: file.csv.sha256,
    target,
    entry: undefined,
    manifest,
    manifestSha256: read?.sha256,
    databaseKind: manifest.database.kind,
    parts: [],
  }
  return { ...archive, parts: furtherFiles(manifest).map((part, index) => partOf(archive, part, index + 1)) }
}

/** A folder as it is named on the command line. */
export function folderTarget(folder: string): Target {
  return new LocalTarget(folder, folder, true)
}

async function isThere(file: string): Promise<boolean> {
  return lstat(file).then(
    () => true,
    () => false,
  )
}
