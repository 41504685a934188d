/** What an archive's columns are in DuckDB: of which type, and by what expression their text becomes its values. */
import { identifier, literal } from './duckdb.ts'

/** The database that an archive is from; undefined where nobody knows any more. */
export type DatabaseKind = 'postgres' | 'sqlite' | undefined

/** Types of Postgres that are the same in DuckDB, without their length or precision. */
const postgresTypes: Readonly<Record<string, string>> = {
  smallint: 'SMALLINT',
  integer: 'INTEGER',
  bigint: 'BIGINT',
  // A DOUBLE, so that 0.1 is 0.1.
  real: 'DOUBLE',
  'double precision': 'DOUBLE',
  boolean: 'BOOLEAN',
  date: 'DATE',
  'time without time zone': 'TIME',
  'timestamp without time zone': 'TIMESTAMP',
  'timestamp with time zone': 'TIMESTAMPTZ',
  interval: 'INTERVAL',
  uuid: 'UUID',
  json: 'JSON',
  jsonb: 'JSON',
  bytea: 'BLOB',
}

/** The type of a column. VARCHAR, its text as it stands in the archive, where there is none that holds all its values. */
export function duckdbType(kind: DatabaseKind, type: string): string {
  if (kind === 'postgres') return postgresTypes[type.replace(/\(\d+\)/, '')] ?? decimalType(type) ?? 'VARCHAR'
  return kind === 'sqlite' ? sqliteType(type.toUpperCase()) : 'VARCHAR'
}

function decimalType(type: string): string | undefined {
  const [, digits, scale] = /^numeric\((\d+),(\d+)\)$/.exec(type) ?? []
  // DuckDB has no more digits; without a scale, any would cut some value off.
  if (digits === undefined || Number(digits) > 38 || Number(scale) > Number(digits)) return undefined
  return `DECIMAL(${digits},${scale})`
}

/**
 * By https://www.sqlite.org/datatype3.html#determination_of_column_affinity. Of a NUMERIC one, whole numbers and others
 * may stand side by side, or texts: only their text is all of them.
 */
function sqliteType(type: string): string {
  if (type.includes('INT')) return 'BIGINT'
  if (/CHAR|CLOB|TEXT/.test(type)) return 'VARCHAR'
  if (type.includes('BLOB')) return 'BLOB'
  return /REAL|FLOA|DOUB/.test(type) ? 'DOUBLE' : 'VARCHAR'
}

const integers = ['SMALLINT', 'INTEGER', 'BIGINT']

/** The type of a column that had some types, in one archive or another. */
export function commonType(types: readonly string[]): string {
  const [first = 'VARCHAR'] = types
  if (types.every((type) => type === first)) return first
  const widest = Math.max(...types.map((type) => integers.indexOf(type)))
  return types.every((type) => integers.includes(type)) ? (integers[widest] ?? 'BIGINT') : 'VARCHAR'
}

/** What SQLite's values of a class look like: whatever else a column holds is no number, though DuckDB may read one. */
const sqlitePatterns: Readonly<Record<string, string>> = {
  BIGINT: String.raw`-?\d+`,
  DOUBLE: String.raw`-?(Infinity|\d+(\.\d+)?(e[+-]?\d+)?)`,
  BLOB: String.raw`\\x([0-9a-f]{2})*`,
}

const unfitMark = 'retention: unfit'

/**
 * An expression that makes a column's text a value of a type. Text that is none fails, and `unfitOf` tells which.
 * @param column as it is read
 * @param name as it is called
 * @param file the column that has the file's path
 */
export function conversion(kind: DatabaseKind, type: string, column: string, name: string, file: string): string {
  const text = identifier(column)
  if (type === 'VARCHAR') return text
  const pattern = kind === 'sqlite' ? sqlitePatterns[type] : undefined
  const value =
    pattern === undefined
      ? converted(type, text)
      : `CASE WHEN regexp_full_match(${text}, ${literal(pattern)}) THEN ${converted(type, text)} END`
  const told = [literal(unfitMark), file, literal(name), literal(type), `left(${text}, 100)`].join(', ')
  return `COALESCE(${value}, CASE WHEN ${text} IS NOT NULL THEN error(concat_ws(chr(31), ${told})) END)`
}

function converted(type: string, text: string): string {
  switch (type) {
    case 'BLOB':
      return `unhex(substr(${text}, 3))`
    // Without brackets DuckDB would take a year before Christ for one after.
    case 'DATE':
      return `TRY_CAST(replace(${text}, ' BC', ' (BC)') AS DATE)`
    // It takes no sign before what is not negative.
    case 'INTERVAL':
      return `TRY_CAST(replace(${text}, '+', '') AS INTERVAL)`
    default:
      return `TRY_CAST(${text} AS ${type})`
  }
}

/** A value that is none of its column's type. */
export interface Unfit {
  readonly file: string
  readonly column: string
  readonly type: string
  readonly value: string
}

/** The value that an error of DuckDB's is about; undefined where it is another error. */
export function unfitOf(message: string): Unfit | undefined {
  const at = message.indexOf(`${unfitMark}\u001f`)
  if (at === -1) return undefined
  const [, file = '', column = '', type = '', ...value] = message.slice(at).split('\u001f')
  return { file, column, type, value: value.join('\u001f') }
}
