/** Views: the archives of a policy, and those of each table whose rows went along, as one table. */
import type { FoundArchive } from '../stored/find-archive.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import type { QueryView } from '../report.ts'
import { commonType, conversion, duckdbType } from './column-types.ts'
import { identifier, literal } from './duckdb.ts'

/** A file of an archive, and which view has its rows. */
export interface ViewFile {
  readonly view: string
  readonly archive: FoundArchive
  /** What the ledger has of the archive that it is of. */
  readonly of: LedgerEntry
}

/** A file that can be read. */
export interface ReadableFile extends ViewFile {
  readonly file: string
}

interface Column {
  readonly name: string
  readonly type: string
}

/** What every view has beside the columns of its archives. */
const ownColumns: readonly Column[] = [
  { name: '_archive', type: 'VARCHAR' },
  { name: '_archived_at', type: 'TIMESTAMPTZ' },
]

/** A view's columns: all that its archives have, each of a type that holds all its values. */
export function describeView(name: string, files: readonly ViewFile[], asText: (column: string) => boolean): QueryView {
  const types = new Map<string, { name: string; types: string[] }>()
  for (const { archive } of files) {
    for (const column of columnsOf(archive)) {
      // To DuckDB, letter case makes no difference.
      const key = column.name.toLowerCase()
      const known = types.get(key) ?? { name: column.name, types: [] }
      known.types.push(column.type)
      types.set(key, known)
    }
  }
  const columns = [...types.values()].map((column) => ({
    name: column.name,
    type: asText(column.name) ? 'VARCHAR' : commonType(column.types),
  }))
  return {
    name,
    columns: [...columns, ...ownColumns.filter((own) => !types.has(own.name))],
    archives: files.length,
    rows: files.reduce((sum, { archive }) => sum + archive.rows, 0),
  }
}

/** The columns of an archive, with DuckDB's types; two whose names differ by letter case alone get different ones. */
function columnsOf({ columns, manifest, databaseKind }: FoundArchive): Column[] {
  const recorded = new Map(manifest?.files[0]?.columns.map(({ name, type }) => [name, type]))
  const taken = new Set<string>()
  return columns.map((column) => {
    let name = column
    while (taken.has(name.toLowerCase())) name += '_'
    taken.add(name.toLowerCase())
    return { name, type: duckdbType(databaseKind, recorded.get(column) ?? '') }
  })
}

/** The statement that makes a view. Files with the same columns are read as one: that takes half the time. */
export function viewStatement({ name, columns }: QueryView, files: readonly ReadableFile[]): string {
  const alike = Map.groupBy(files, ({ archive }) => JSON.stringify([archive.databaseKind, archive.columns]))
  // With all columns, whichever archives are read.
  const nothing = `SELECT ${columns.map((column) => `CAST(NULL AS ${column.type}) AS ${identifier(column.name)}`).join(', ')} WHERE false`
  const selects = [nothing, ...[...alike.values()].map((group) => selectOf(columns, group))]
  return `CREATE VIEW ${identifier(name)} AS ${selects.join(' UNION ALL BY NAME ')}`
}

function selectOf(columns: readonly Column[], group: readonly ReadableFile[]): string {
  const [first] = group
  const own = first === undefined ? [] : columnsOf(first.archive)
  const isOwn = (name: string): boolean => own.some((column) => column.name.toLowerCase() === name.toLowerCase())
  // By place, not by name: names may be any.
  const read = own.map((_, index) => `c${index}`)
  const typeOf = (name: string): string =>
    columns.find((column) => column.name.toLowerCase() === name.toLowerCase())?.type ?? 'VARCHAR'
  const values = own.map(({ name }, index) => {
    const value = conversion(first?.archive.databaseKind, typeOf(name), read[index] ?? '', name, 'file')
    return `${value} AS ${identifier(name)}`
  })
  const byFile = (value: (file: ReadableFile) => string): string =>
    `MAP {${group.map((one) => `${literal(one.file)}: ${value(one)}`).join(', ')}}[file]`
  const added = [
    `${byFile(({ of }) => literal(of.name))} AS _archive`,
    `${byFile(({ of }) => `TIMESTAMPTZ ${literal(of.archivedAt)}`)} AS _archived_at`,
  ].filter((_, index) => !isOwn(ownColumns[index]?.name ?? ''))
  const longest = longestLine(group)
  const csv = [
    `[${group.map(({ file }) => literal(file)).join(', ')}]`,
    `columns = {${read.map((column) => `${column}: 'VARCHAR'`).join(', ')}}`,
    "auto_detect = false, header = true, filename = 'file'",
    `delim = ',', quote = '"', escape = '"', new_line = '\\n'`,
    "nullstr = '', allow_quoted_nulls = false, strict_mode = true",
    // By itself it would take sixteen times the longest line.
    `max_line_size = ${longest}, buffer_size = ${Math.max(32_000_000, 2 * longest)}`,
  ].join(', ')
  return `SELECT ${[...values, ...added].join(', ')} FROM read_csv(${csv})`
}

/** No row is longer than its CSV; one of more than 64 MB is refused. */
function longestLine(files: readonly ReadableFile[]): number {
  const most = 64_000_000
  const sizes = files.map(({ archive }) => archive.manifest?.files[0]?.csv.bytes ?? most)
  return Math.min(most, Math.max(2_000_000, ...sizes))
}
