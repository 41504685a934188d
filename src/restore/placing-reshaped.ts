/** An archive's rows on their way into a table that has changed since, or some of them: beside it first, reshaped there. */
import { Meter, readCsv } from '../archive/store.ts'
import type { ArchiveForm, RestoreTransaction, Selection, StagedRows } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { FoundArchive } from '../stored/find-archive.ts'
import type { Shape } from '../reshape.ts'

/** Rows that are ready to go in. */
export interface Reshaped {
  readonly staged: StagedRows
  /** Of what they are as CSV: that is what must come out of the table again. */
  readonly sha256: string
  /** Keys that were asked for, and that no row of the archive has. */
  readonly missing: readonly string[]
  /** Columns of which the archive alone has the text as it was written. */
  readonly rewritten: readonly string[]
}

/** What is recorded of an archive's form. */
export function formOf({ table, columns, manifest }: FoundArchive): ArchiveForm {
  const file = manifest?.files[0]
  const recorded = new Map(file?.columns.map((column) => [column.name, column]))
  return {
    table,
    columns: columns.map((name) => {
      const { type, collation = null, rowid = false } = recorded.get(name) ?? {}
      return { name, type, collation, isRowid: rowid }
    }),
    key: file?.key ?? [],
  }
}

/** Whether somebody has asked for some rows only. */
export function isPartial({ where, keys }: Selection): boolean {
  return where !== undefined || keys !== undefined
}

/**
 * Stages rows as the table would have them.
 * @param csv the archive's bytes
 * @param check is told how many rows were read, before any use is made of them
 * @throws RetentionError `ROWS_UNFIT`, `USAGE`
 */
export async function stageReshaped(
  archive: FoundArchive,
  transaction: RestoreTransaction,
  { shape, selection }: { readonly shape: Shape; readonly selection: Selection },
  csv: AsyncIterable<Buffer>,
  check: (rows: number) => void,
): Promise<Reshaped> {
  const form = formOf(archive)
  checkKeys(archive, form, selection)
  const archived = await transaction.stageArchive(form, csv)
  check(archived.rows)
  const { missing } = await archived.select(selection)
  const { staged, rewritten } = await archived.reshape(shape.sources)
  const meter = new Meter()
  for await (const chunk of staged.unmatched()) meter.update(chunk)
  return { staged, sha256: meter.digest().sha256, missing, rewritten }
}

/**
 * Stages an archive's rows to compare them with a table that may have changed since, by the columns that have not.
 * @returns undefined where these do not have the table's key; `isWhole`: they are all of the archive's
 */
export async function stageCommon(
  archive: FoundArchive,
  transaction: RestoreTransaction,
): Promise<{ staged: StagedRows; isWhole: boolean } | undefined> {
  const form = formOf(archive)
  const { table } = transaction
  const common = form.columns.filter(({ name, type }) => {
    const column = table.columns.find((candidate) => candidate.name === name)
    return column !== undefined && !column.generated && (type === undefined || type === column.type)
  })
  const isWhole = common.length === form.columns.length
  if (!isWhole && !(table.key.length > 0 && table.key.every((key) => common.some(({ name }) => name === key))))
    return undefined
  const csv = await readCsv(archive)
  if (isWhole) return { staged: await transaction.stage(archive.columns, csv), isWhole }
  const archived = await transaction.stageArchive(form, csv)
  const { staged } = await archived.reshape(common.map(({ name }) => ({ column: name, archive: name })))
  return { staged, isWhole }
}

function checkKeys({ name }: FoundArchive, { key }: ArchiveForm, { keys }: Selection): void {
  if (keys === undefined) return
  if (key.length === 0) {
    throw new RetentionError('USAGE', `--keys: nobody has written down which columns tell rows of ${name} apart`, {
      hint: 'Choose them with --where.',
    })
  }
  const odd = keys.find((values) => values.length !== key.length)
  if (odd === undefined) return
  const form = key.length === 1 ? 'one value' : `a JSON array of ${key.length}`
  throw new RetentionError(
    'USAGE',
    `--keys: ${JSON.stringify(odd)} is no key of ${name}, which is (${key.join(', ')})`,
    {
      hint: `Each key is ${form}.`,
    },
  )
}
