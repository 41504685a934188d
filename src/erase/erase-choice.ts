/** Which rows of one archive an erasure is about, and which of them legal holds keep. Changes nothing. */
import { metered, Meter, readCsv } from '../archive/store.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import type { ChoiceFile, Chosen, Database, FilePredicate, Finding } from '../database/database.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { checkBytes, type FoundArchive } from '../stored/find-archive.ts'
import type { Hold } from '../ledger/hold.ts'
import { checkRead } from '../restore/placing.ts'
import { formOf } from '../restore/placing-reshaped.ts'

/** What is to be erased. */
export interface EraseWish {
  readonly where: string
  /** The table that `where` is about; undefined: each archive's own. */
  readonly table: TableName | undefined
}

/** A file of an archive, and what is to go from it. */
export interface FileChoice {
  readonly file: FoundArchive
  /** The numbers of the records that go, in their order. */
  readonly numbers: Uint32Array
  /** Rows that would go as well, and that legal holds keep. */
  readonly held: number
}

/** What is to go from an archive. */
export interface ArchiveChoice {
  /** Whether it has rows of the table at all. */
  readonly isAsked: boolean
  /** The archive's own file first. */
  readonly files: readonly FileChoice[]
  /** The legal holds that keep some of it, and how many rows each is on. */
  readonly holds: readonly { readonly hold: Hold; readonly rows: number }[]
  readonly warnings: readonly Finding[]
}

/**
 * Finds the rows of an archive that match, and all that refers to them in the same archive.
 * @param holds the legal holds on the archive
 * @throws RetentionError `USAGE` where the predicate cannot be used on its rows; as `checkBytes`
 */
export async function chooseInArchive(
  archive: FoundArchive,
  holds: readonly Hold[],
  wish: EraseWish,
  database: Database,
): Promise<ArchiveChoice> {
  const files = filesOf(archive)
  const wanted = placesOf(files, wish.table ?? archive.table, database)
  if (wanted.length === 0)
    return { isAsked: false, files: files.map((file) => unchanged(file)), holds: [], warnings: [] }
  if (archive.manifest === undefined) {
    await checkBytes(archive)
    throw noManifest(archive)
  }
  const { parts, whole } = splitHolds(files, holds, database)
  const ask = async (except: readonly FilePredicate[]): Promise<Chosen> =>
    chooseIn(archive, files, { where: wish.where, files: wanted, except }, database)
  if (whole.length > 0) return keepAll(files, await ask([]), whole)
  try {
    const chosen = await ask(parts.map(({ predicate }) => predicate))
    const kept = parts.map(({ hold }, at) => ({ hold, rows: chosen.excepted[at] ?? 0 }))
    return {
      isAsked: true,
      files: files.map((file, at) => ({ file, ...chosenOf(chosen, at) })),
      holds: kept.filter(({ rows }) => rows > 0),
      warnings: [],
    }
  } catch (error) {
    if (!hasCode(error, 'REFUSED')) throw error
    const kept = keepAll(files, await ask([]), holds)
    const text = `Legal holds on rows of ${archive.name} cannot be asked of them, and so are on all: ${error.message}`
    return { ...kept, warnings: kept.holds.length === 0 ? [] : [{ level: 'warning', text }] }
  }
}

/** Its CSV files: its own, then further ones. */
function filesOf(archive: FoundArchive): FoundArchive[] {
  return [archive, ...archive.parts]
}

async function chooseIn(
  archive: FoundArchive,
  files: readonly FoundArchive[],
  choice: FilePredicate & { readonly except: readonly FilePredicate[] },
  database: Database,
): Promise<Chosen> {
  const meters = files.map(() => new Meter())
  try {
    const chosen = await database.chooseRecords(
      files.map((file, at) => choiceFile(file, files, meters[at] ?? new Meter(), database)),
      choice,
    )
    for (const [at, file] of files.entries()) checkRead(file, chosen.files[at]?.rows ?? -1, meters[at] ?? new Meter())
    return chosen
  } catch (error) {
    // Before anything goes by what an archive seems to be, it is asked whether it still is what it was.
    await checkBytes(archive)
    throw hasCode(error, 'USAGE') ? unusable(archive, error) : error
  }
}

function choiceFile(file: FoundArchive, files: readonly FoundArchive[], meter: Meter, database: Database): ChoiceFile {
  const [recorded] = file.manifest?.files ?? []
  const references = (recorded?.references ?? []).flatMap(({ columns, table, to }) =>
    placesOf(files, { schema: table.schema, name: table.name }, database).map((at) => ({ columns, file: at, to })),
  )
  return { ...formOf(file), references, open: async () => metered(meter, await readCsv(file)) }
}

/** The places of the files that hold rows of a table. */
function placesOf(files: readonly FoundArchive[], { schema, name }: TableName, { kind }: Database): number[] {
  // Letter case is no difference on SQLite.
  const isSame = (a: string, b: string): boolean => (kind === 'sqlite' ? a.toLowerCase() === b.toLowerCase() : a === b)
  return files.flatMap(({ table, link }, at) => {
    const isOf = isSame(table.name, name) && (schema === undefined || (table.schema ?? 'main') === schema)
    return isOf && link === undefined ? [at] : []
  })
}

/** Holds on some rows, with the file that has those; and those that are on the archive as a whole, as far as can be told. */
function splitHolds(
  files: readonly FoundArchive[],
  holds: readonly Hold[],
  { kind }: Database,
): { parts: { hold: Hold; predicate: FilePredicate }[]; whole: Hold[] } {
  const plain = (name: string): string => (kind === 'sqlite' ? name.toLowerCase() : name)
  const parts: { hold: Hold; predicate: FilePredicate }[] = []
  const whole: Hold[] = []
  for (const hold of holds) {
    const named = [...files.entries()].filter(
      ([, { table, link }]) => link === undefined && plain(formatTableName(table)) === plain(hold.table),
    )
    // A hold on a partition, or on the table under the name that it had, is one on what is archived of it.
    const places = named.length === 0 && files.length === 1 ? [0] : named.map(([at]) => at)
    if (hold.where === null || places.length === 0) whole.push(hold)
    else parts.push({ hold, predicate: { where: hold.where, files: places } })
  }
  return { parts, whole }
}

function keepAll(files: readonly FoundArchive[], chosen: Chosen, holds: readonly Hold[]): ArchiveChoice {
  const kept = files.map((file, at) => ({ ...unchanged(file), held: chosen.files[at]?.numbers.length ?? 0 }))
  const rows = kept.reduce((sum, { held }) => sum + held, 0)
  return { isAsked: true, files: kept, holds: rows === 0 ? [] : holds.map((hold) => ({ hold, rows })), warnings: [] }
}

function chosenOf({ files }: Chosen, at: number): Pick<FileChoice, 'numbers' | 'held'> {
  const { numbers, left } = files[at] ?? { numbers: new Uint32Array(), left: 0 }
  return { numbers, held: left }
}

function unchanged(file: FoundArchive): FileChoice {
  return { file, numbers: new Uint32Array(), held: 0 }
}

function noManifest({ name, target }: FoundArchive): RetentionError {
  return new RetentionError(
    'MANIFEST_INVALID',
    `${target.locate(name)} has no manifest, which has its columns' types`,
    {
      hint: 'Nothing has been erased from it. Take the manifest from a backup.',
    },
  )
}

/** The predicate may name a person, and so is not quoted. */
function unusable(archive: FoundArchive, error: RetentionError): RetentionError {
  return new RetentionError('USAGE', `"where" cannot be used on rows of ${archive.name}: ${error.message}`, {
    hint: `Columns have the names and types that they had when they were archived. ${error.hint ?? ''}`,
    cause: error,
  })
}
