/** Finds tables in SQLite's schema. */
import { sql } from 'kysely'

import type { TableName } from '../../config/fields.ts'
import type { Column, Db, OrderPart, Sql, SqlValue, Table } from '../database.ts'
import { declaredCollations } from './collations.ts'

/** What the schema says of a table, beyond `Table`. */
export interface SchemaTable extends Table {
  /** `table`, `view`, `virtual` or `shadow`. */
  readonly kind: string
  /** A name for the row's number that no column hides; undefined for WITHOUT ROWID tables. */
  readonly rowid: string | undefined
  /** The column that is another name for the row's number; undefined where there is none. */
  readonly numbered: string | undefined
  /** The columns of the primary key, whether or not they serve as key. */
  readonly primaryKey: readonly string[]
}

/** Finds a table by name; letter case does not matter to SQLite. */
export async function findTable(db: Db, name: TableName): Promise<SchemaTable | undefined> {
  if (name.schema !== undefined && name.schema.toLowerCase() !== 'main') return undefined
  const { rows } = await sql<{ name: string; type: string; withoutRowid: bigint; ddl: string | null }>`
    select l.name, l.type, l.wr as "withoutRowid", s.sql as ddl
    from pragma_table_list as l left join sqlite_schema as s on s.name = l.name and s.type in ('table', 'view')
    where l.schema = 'main' and lower(l.name) = lower(${name.name})
  `.execute(db)
  const [found] = rows
  if (found === undefined) return undefined
  const declared = await readColumns(db, found.name)
  const primaryKey = await readPrimaryKey(db, found.name)
  const rowid = found.withoutRowid === 1n ? undefined : rowidName(declared)
  const isRowid = found.withoutRowid === 0n && (await primaryKeyIsRowid(db, found.name, declared, primaryKey))
  const collations = found.type === 'table' ? declaredCollations(found.ddl ?? '') : []
  const columns = declared.map((column, at) => ({
    ...column,
    collation: collations[at] ?? null,
    isRowid: isRowid && primaryKey.includes(column.name),
  }))
  const key =
    isRowid || found.withoutRowid === 1n ? primaryKey : await readUniqueKey(db, found.name, columns, primaryKey)
  // With its schema: a temporary table of ours may have the same name.
  const table = sql.id('main', found.name)
  const autoincrement = /\bautoincrement\b/i.test(withoutNames(found.ddl ?? ''))
  const [id] = primaryKey
  return {
    kind: found.type,
    name: { schema: undefined, name: found.name },
    sql: table,
    columns,
    key,
    textOf: (names) =>
      names.every((part) => columns.some((column) => column.name === part)) && names.length > 0
        ? textOf(names.map((part) => sql.id(part)))
        : undefined,
    numberOf: (column) =>
      columns.some(({ name: other }) => other === column)
        ? sql<bigint | null>`case typeof(${sql.id(column)}) when 'integer' then ${sql.id(column)} end`
        : undefined,
    hasPartitions: false,
    relatives: [{ schema: undefined, name: found.name }],
    rowsIn: () => undefined,
    orderBy: (column) => (columns.some((candidate) => candidate.name === column) ? orderPart(column) : undefined),
    rowid,
    numbered: isRowid ? id : undefined,
    primaryKey,
    kept:
      isRowid && !autoincrement && id !== undefined
        ? {
            where: sql<boolean>`${sql.id(id)} = (select max(${sql.id(id)}) from ${table})`,
            why: `the row with the highest "${id}" stays until there is a newer one: without AUTOINCREMENT, SQLite would use its number again`,
          }
        : undefined,
  }
}

/** A column, or what stands for one, as a part of an order. */
export function orderPart(name: string): OrderPart {
  return { value: sql.id(name), read: sql<SqlValue>`${sql.id(name)}`, bind: (value) => sql`${value}` }
}

/** Values as one text that tells any two different ones apart; `quote` alone would end a text at its first NUL. */
export function textOf(values: readonly Sql[]): Sql<string> {
  const parts = values.map(
    (value) => sql`case typeof(${value}) when 'text' then hex(cast(${value} as blob)) else quote(${value}) end`,
  )
  return sql<string>`json_array(${sql.join(parts)})`
}

/** What the schema's own pragmas say of a column. */
type DeclaredColumn = Omit<Column, 'collation' | 'isRowid'>

async function readColumns(db: Db, table: string): Promise<DeclaredColumn[]> {
  const { rows } = await sql<{
    name: string
    type: string
    notnull: bigint
    hidden: bigint
    default: string | null
    pk: bigint
  }>`
    select name, type, "notnull", hidden, dflt_value as "default", pk from pragma_table_xinfo(${table}) order by cid
  `.execute(db)
  return rows
    .filter((row) => row.hidden !== 1n)
    .map((row) => ({
      name: row.name,
      type: row.type,
      nullable: row.notnull === 0n,
      generated: row.hidden > 1n,
      // A primary key that is the row's number is filled as well.
      hasDefault: row.default !== null || (row.pk === 1n && row.type.toUpperCase() === 'INTEGER'),
    }))
}

async function readPrimaryKey(db: Db, table: string): Promise<string[]> {
  const { rows } = await sql<{
    name: string
  }>`select name from pragma_table_xinfo(${table}) where pk > 0 order by pk`.execute(db)
  return rows.map((row) => row.name)
}

/** Whether the primary key is another name for the row's number, as a column of type INTEGER is, if it is alone. */
async function primaryKeyIsRowid(
  db: Db,
  table: string,
  columns: readonly DeclaredColumn[],
  primaryKey: readonly string[],
): Promise<boolean> {
  const [name, ...more] = primaryKey
  if (name === undefined || more.length > 0) return false
  if (columns.find((column) => column.name === name)?.type.toUpperCase() !== 'INTEGER') return false
  // INTEGER PRIMARY KEY DESC is not, by an old mistake that is kept; it then has an index of its own.
  const { rows } = await sql`select 1 from pragma_index_list(${table}) where origin = 'pk'`.execute(db)
  return rows.length === 0
}

/** The primary key or else the narrowest unique index, over columns that are never null. */
async function readUniqueKey(
  db: Db,
  table: string,
  columns: readonly DeclaredColumn[],
  primaryKey: readonly string[],
): Promise<string[]> {
  if (primaryKey.length > 0 && (await isNeverNull(db, table, columns, primaryKey))) return [...primaryKey]
  const { rows } = await sql<{ name: string; column: string | null }>`
    select i.name, c.name as column from pragma_index_list(${table}) as i, pragma_index_info(i.name) as c
    where i."unique" = 1 and i.partial = 0 order by i.origin = 'pk' desc, i.seq, c.seqno
  `.execute(db)
  const usable = new Set(columns.filter((column) => !column.nullable && !column.generated).map((column) => column.name))
  const indexes = Map.groupBy(rows, (row) => row.name)
  const keys = [...indexes.values()].map((parts) => parts.map((part) => part.column ?? ''))
  return keys.filter((key) => key.every((name) => usable.has(name))).toSorted((a, b) => a.length - b.length)[0] ?? []
}

/** By an old mistake that is kept, SQLite lets a primary key be NULL, unless it is told otherwise; so its rows are asked. */
async function isNeverNull(
  db: Db,
  table: string,
  columns: readonly DeclaredColumn[],
  key: readonly string[],
): Promise<boolean> {
  const nullable = columns.filter((column) => key.includes(column.name) && column.nullable)
  if (columns.some((column) => key.includes(column.name) && column.generated)) return false
  if (nullable.length === 0) return true
  const anyNull = sql.join(
    nullable.map((column) => sql`${sql.id(column.name)} is null`),
    sql` or `,
  )
  const { rows } = await sql`select 1 from ${sql.id(table)} where ${anyNull} limit 1`.execute(db)
  return rows.length === 0
}

/** A statement without its comments and everything in quotes: what is left are SQLite's own words. */
function withoutNames(ddl: string): string {
  return ddl.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]/g, ' ')
}

function rowidName(columns: readonly DeclaredColumn[]): string | undefined {
  const taken = new Set(columns.map((column) => column.name.toLowerCase()))
  return ['rowid', '_rowid_', 'oid'].find((name) => !taken.has(name))
}

/** The names of a table's triggers on an event. */
export async function triggersOn(db: Db, table: Table, event: 'delete' | 'insert' | 'update'): Promise<string[]> {
  const { rows } = await sql<{ name: string; ddl: string }>`
    select name, sql as ddl from sqlite_schema where type = 'trigger' and lower(tbl_name) = lower(${table.name.name})
  `.execute(db)
  // SQLite keeps a trigger as its text only.
  return rows
    .filter((row) => new RegExp(`\\b${event}(\\s+of\\b[^;]*?)?\\s+on\\b`, 'i').test(withoutNames(row.ddl)))
    .map((row) => row.name)
}
