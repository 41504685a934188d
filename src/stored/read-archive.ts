/** `cat`: an archive's plain CSV, from wherever it lives and however it is sealed. */
import { plainName } from '../archive/encoding.ts'
import { Meter, readCsv } from '../archive/store.ts'
import { formatTableName } from '../config/fields.ts'
import { loadConfig, type ProjectOptions } from '../config/project.ts'
import { openDatabase } from '../database/open.ts'
import { RetentionError } from '../errors.ts'
import { checkKey, findArchive, type FoundArchive } from './find-archive.ts'
import { Ledger } from '../ledger/ledger.ts'
import { fileNameOf } from '../target/open.ts'

/** What `readArchive` can be told. */
export interface ReadArchiveOptions extends ProjectOptions {
  /** The archive: its name, its path, or its location as the ledger has it; or one of its further files. */
  file: string
  /** Of an archive with children, whose rows: `table` or `schema.table`. Default: those of the file that was named. */
  table?: string
}

/**
 * The plain CSV of an archive, piece by piece: each is valid until the next is asked for. Whether all of it is what was
 * archived is known when it ends.
 * @throws RetentionError when it cannot be read, and with its end `ARCHIVE_CHANGED` where it is not what was archived
 */
export async function* readArchive(options: ReadArchiveOptions): AsyncGenerator<Buffer> {
  const archive = chosen(await openArchive(options), options)
  await checkKey(archive)
  const meter = new Meter()
  for await (const chunk of await readCsv(archive)) {
    meter.update(chunk)
    yield chunk
  }
  const { sha256 } = meter.digest()
  if (sha256 === archive.sha256) return
  throw changedArchive(archive, sha256, 'Do not use what was read. "retention verify" checks the others.')
}

/** What was read of an archive is something else. @param sha256 of what was read */
export function changedArchive(
  { target, path, sha256: expected }: Pick<FoundArchive, 'target' | 'path' | 'sha256'>,
  sha256: string,
  hint: string,
): RetentionError {
  const text = `${target.locate(path)} is not what was archived: its SHA-256 is ${sha256}, not ${expected}`
  return new RetentionError('ARCHIVE_CHANGED', text, { hint })
}

/** An archive that somebody names. @throws RetentionError as `findArchive`, and `USAGE` */
export async function openArchive({ file, ...options }: ProjectOptions & { file: string }): Promise<FoundArchive> {
  if (typeof file !== 'string' || file === '')
    throw new RetentionError('USAGE', `"file" is ${JSON.stringify(file)}; allowed: an archive's name, path or location`)
  const config = await loadConfig(options)
  const database = await openDatabase(config, 'read')
  try {
    const ledger = await Ledger.forReading(database, config.ledger)
    return await findArchive(file, { config, database, ledger, cwd: options.cwd ?? '.' })
  } finally {
    await database.close()
  }
}

/** The file of an archive that is wanted. */
function chosen(archive: FoundArchive, { file, table }: ReadArchiveOptions): FoundArchive {
  const files = [archive, ...archive.parts]
  if (table === undefined) return files.find(({ name }) => name === plainName(fileNameOf(file))) ?? archive
  // References are of rows that have stayed; their file can be named.
  const rows = files.filter(({ link }) => link === undefined)
  const found = rows.find((one) => [formatTableName(one.table), one.table.name].includes(table))
  if (found !== undefined) return found
  const tables = rows.map((one) => formatTableName(one.table)).join(', ')
  throw new RetentionError('USAGE', `--table is "${table}"; ${archive.name} has rows of ${tables}`)
}
