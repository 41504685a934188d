/** Finds the archive that somebody names, and what is known of it: from the ledger, its manifest, or both. */
import { readHeader } from '../archive/csv.ts'
import { encodingOf, encodings, needsKey, plainName, storedName } from '../archive/encoding.ts'
import { archiveOf, manifestName } from '../archive/name.ts'
import { parseManifest, type Manifest } from '../archive/manifest.ts'
import { readCsv, readText, readWhole, sha256Of, type CsvFile } from '../archive/store.ts'
import type { Config } from '../config/config.ts'
import type { Database, Redacted } from '../database/database.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { furtherFiles } from './further-files.ts'
import { parseTableName, type TableName } from '../config/fields.ts'
import type { Ledger, LedgerEntry, LedgerFile, LedgerLink } from '../ledger/ledger.ts'
import { prunedError } from './pruned-files.ts'
import { fileNameOf, isAddress, openTarget, targetOfFile } from '../target/open.ts'
import type { Target } from '../target/target.ts'
import { didYouMean } from '../config/validate.ts'

/** An archive, as it was recorded. Whether its bytes still are, `checkBytes` tells. */
export interface FoundArchive extends CsvFile {
  /** Its CSV's name. */
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
  /** Of the bytes as they are stored; undefined where nobody has written it down. */
  readonly storedSha256: string | undefined
  /** Undefined where the ledger does not know it. */
  readonly entry: LedgerEntry | undefined
  /** Undefined where the manifest is missing. */
  readonly manifest: Manifest | undefined
  readonly manifestSha256: string | undefined
  readonly databaseKind: Database['kind'] | undefined
  /** Further files: rows that went along, then references that were set to something else. In the order of a restore. */
  readonly parts: readonly FoundArchive[]
  /** Where it holds what columns held before they were overwritten, what with; undefined where it holds rows that went. */
  readonly redacted?: Redacted
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
  const name = archiveOf(fileNameOf(file))
  const { database, ledger } = place
  const known = await database.read((db) => ledger.find(db, name))
  const isOver = known === undefined || known.state === 'pruned'
  const erased = isOver ? await database.read((db) => ledger.erasures.files(db, name)) : []
  try {
    const target = await targetWith(file, name, known, place)
    // Another database's archive may have the same name.
    const isOther = known !== undefined && (await isAnother(target, name, known, place.config))
    const entry = isOther ? undefined : known
    if (entry?.prunedAt !== null && entry?.prunedAt !== undefined) throw prunedError(entry)
    const found = await readFound(target, name, entry, place.config)
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
export async function findStored(target: Target, name: string, config: Config): Promise<FoundArchive> {
  return checked(await readFound(target, name, undefined, config))
}

/**
 * What an archive without a manifest would be, were it from that table: nobody has written down what it should hold.
 * @throws RetentionError `ARCHIVE_CHANGED` where it is no CSV
 */
export async function findBare(
  target: Target,
  file: string,
  table: TableName,
  { keys }: Pick<Config, 'keys'>,
): Promise<FoundArchive> {
  const bare = { target, path: file, encoding: encodingOf(file), keys }
  const { csv, stored } = await readWhole(bare)
  if (csv instanceof RetentionError) throw csv
  return {
    ...bare,
    name: plainName(file),
    policy: '',
    table,
    columns: await readHeader(await readCsv(bare)),
    column: undefined,
    rows: csv.records,
    sha256: csv.sha256,
    storedSha256: stored.sha256,
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

/** An archive that the ledger knows, as it is recorded: nobody has looked at its bytes. @throws `MANIFEST_INVALID` */
export async function findRecorded(entry: LedgerEntry, config: Config): Promise<FoundArchive> {
  return readFound(await targetOfEntry(entry, config), entry.name, entry, config)
}

async function readFound(
  target: Target,
  name: string,
  entry: LedgerEntry | undefined,
  { keys }: Config,
): Promise<FoundArchive> {
  const read = await readManifest(target, name, entry)
  const archive = entry === undefined ? fromManifest(name, read, target, keys) : fromLedger(entry, read, target, keys)
  if (archive.encoding === null || (await target.has(archive.path)) || !(await target.has(name))) return archive
  // Somebody has unsealed it, and this is what is left: it is the archive all the same.
  return { ...asPlain(archive), parts: archive.parts.map(asPlain) }
}

function asPlain(archive: FoundArchive): FoundArchive {
  return { ...archive, path: archive.name, encoding: null, storedSha256: archive.sha256 }
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
  const { target, path: file, entry, rows, sha256, storedSha256 } = archive
  const { stored, csv } = await readWhole(archive)
  const differs = (what: string, expected: string | undefined): RetentionError =>
    new RetentionError(
      'ARCHIVE_CHANGED',
      `${target.locate(file)} is not what was stored: its SHA-256 is ${what}, and ${entry === undefined ? 'its manifest' : 'the ledger'} has ${expected ?? 'none'}`,
      { hint: 'Nothing has been changed. Take the file from a backup; "retention verify" checks the others.' },
    )
  if (stored.sha256 !== storedSha256) throw differs(stored.sha256, storedSha256)
  if (csv instanceof RetentionError) throw csv
  if (csv.sha256 !== sha256) throw differs(`${csv.sha256} once it is unsealed`, sha256)
  if (csv.records !== rows) {
    throw new RetentionError('ARCHIVE_CHANGED', `${target.locate(file)} holds ${csv.records} rows, not ${rows}`)
  }
  await checkHeader(archive)
}

/**
 * Makes sure that an archive can be opened with the keys that there are, before anything is touched.
 * @throws RetentionError `KEY_MISSING`, `KEY_WRONG`, `ARCHIVE_CHANGED`
 */
export async function checkKey(archive: FoundArchive): Promise<void> {
  if (!needsKey(archive.encoding)) return
  try {
    await readHeader(await readCsv(archive))
  } catch (error) {
    // Where its bytes are others than were stored, no key would open it.
    if (!hasCode(error, 'KEY_MISSING')) await checkBytes(archive)
    throw error
  }
}

/** @throws RetentionError `ARCHIVE_CHANGED` where an archive's columns are not those that were recorded */
export async function checkHeader(archive: FoundArchive): Promise<void> {
  const { name, columns } = archive
  const header = await readHeader(await readCsv(archive))
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
  // An address leads to one place, wherever the config is.
  if (isAddress(entry.target) || (await configured.has(entry.path))) return configured
  const recorded = targetOfFile(entry.location, config.folder, [])
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
  if (isAddress(file)) return targetOfFile(file, cwd, await knownTargets({ config, ledger, database }))
  const isThere = isStored(targetOfFile(file, cwd, []), name).catch(() => false)
  if ((file !== name || entry === undefined) && (await isThere)) return targetOfFile(file, cwd, [])
  if (entry !== undefined) return targetOfEntry(entry, config)
  const configured = openTarget(config.archive, config.folder)
  if (fileNameOf(file) === file && (await isStored(configured, name))) return configured
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

/** All targets that config and ledger know, as configs write them. */
async function knownTargets({ config, ledger, database }: Omit<Place, 'cwd'>): Promise<string[]> {
  const entries = await database.read((db) => ledger.entries(db))
  return [config.archive.to, ...entries.map((entry) => entry.target)]
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

function fromLedger(
  entry: LedgerEntry,
  read: ReadManifest | undefined,
  target: Target,
  keys: Config['keys'],
): FoundArchive {
  const archive: FoundArchive = {
    name: entry.name,
    policy: entry.policy,
    table: parseTableName(entry.table) ?? { schema: undefined, name: entry.table },
    columns: entry.columns,
    column: read?.manifest.column,
    rows: entry.rows,
    sha256: entry.sha256,
    storedSha256: entry.storedSha256,
    target,
    path: entry.path,
    encoding: entry.encoding,
    keys,
    entry,
    manifest: read?.manifest,
    manifestSha256: read?.sha256,
    databaseKind: read?.manifest.database.kind,
    parts: [],
    ...(entry.redacted === null ? {} : { redacted: entry.redacted }),
  }
  return { ...archive, parts: entry.files.map((file, index) => partOf(archive, file, index + 1)) }
}

/** A further file as an archive of its own: with what is recorded of it, and of what is common to all. */
function partOf(archive: FoundArchive, file: LedgerFile, index: number): FoundArchive {
  const { entry, manifest } = archive
  const { path: stored, encoding, table, columns, rows, bytes, sha256, storedSha256, link } = file
  const recorded = manifest?.files[index]
  return {
    ...archive,
    name: plainName(stored),
    path: stored,
    encoding,
    table: parseTableName(table) ?? { schema: undefined, name: table },
    columns,
    column: undefined,
    rows,
    sha256,
    storedSha256,
    entry:
      entry === undefined
        ? undefined
        : { ...entry, path: stored, encoding, table, columns, rows, bytes, sha256, storedSha256, files: [] },
    manifest: manifest === undefined || recorded === undefined ? undefined : { ...manifest, files: [recorded] },
    parts: [],
    ...(link === undefined ? {} : { link }),
  }
}

function fromManifest(
  name: string,
  read: ReadManifest | undefined,
  target: Target,
  keys: Config['keys'],
): FoundArchive {
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
    storedSha256: file.stored.sha256,
    target,
    path: storedName(name, file.stored.encoding ?? null),
    encoding: file.stored.encoding ?? null,
    keys,
    entry: undefined,
    manifest,
    manifestSha256: read?.sha256,
    databaseKind: manifest.database.kind,
    parts: [],
    ...(file.redacted === undefined ? {} : { redacted: file.redacted }),
  }
  return { ...archive, parts: furtherFiles(manifest).map((part, index) => partOf(archive, part, index + 1)) }
}

/** Whether an archive lies there, as it is or sealed. */
async function isStored(target: Target, name: string): Promise<boolean> {
  for (const encoding of [null, ...encodings]) if (await target.has(storedName(name, encoding))) return true
  return false
}
