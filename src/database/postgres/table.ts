/** Finds tables in Postgres's catalog. */
import { sql } from 'kysely'
import { partitionTree } from './partition-tree.ts'

import type { TableName } from '../../config/fields.ts'
import type { Column, Db, OrderPart, SqlValue, Table } from '../database.ts'

/** What the catalog says of a table, beyond `Table`. */
export interface CatalogTable extends Table<CatalogColumn> {
  readonly oid: string
  /** pg_class.relkind: `r` a table, `p` a partitioned one, and others. */
  readonly kind: string
  /** Whether this role may read its rows. */
  readonly maySelect: boolean
  /** Whether it may lock them: Postgres lets only those who may update a column, others must wait for who holds them. */
  readonly mayLockRows: boolean
}

/** What the catalog says of a column, beyond `Column`. */
export interface CatalogColumn extends Column {
  /** The type without its modifiers, and without the domains around it. */
  readonly base: string
  /** `always`, `by default`, or empty. */
  readonly identity: string
}

/** A table as far as its name tells: enough to lock it. */
export type NamedTable = Pick<CatalogTable, 'oid' | 'kind' | 'maySelect' | 'mayLockRows' | 'name' | 'sql'>

/** Finds out what a name stands for; without a schema, along the search path. */
export async function findName(db: Db, name: TableName): Promise<NamedTable | undefined> {
  const inSchema = name.schema === undefined ? sql`pg_table_is_visible(c.oid)` : sql`n.nspname = ${name.schema}`
  const found = await sql<Omit<NamedTable, 'name' | 'sql'> & { schema: string; table: string }>`
    select c.oid::text, n.nspname as schema, c.relname as table, c.relkind::text as kind,
      has_table_privilege(c.oid, 'SELECT') as "maySelect", has_any_column_privilege(c.oid, 'UPDATE') as "mayLockRows"
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = ${name.name} and ${inSchema} and c.relkind in ('r', 'p', 'v', 'm', 'f')
  `.execute(db)
  const [row] = found.rows
  if (row === undefined) return undefined
  const { schema, table, ...facts } = row
  return { ...facts, name: { schema, name: table }, sql: sql.id(schema, table) }
}

/** Finds a table by name; without a schema, along the search path. */
export async function findTable(db: Db, name: TableName): Promise<CatalogTable | undefined> {
  const table = await findName(db, name)
  if (table === undefined) return undefined
  const columns = await readColumns(db, table.oid)
  const key = await readKey(db, table.oid)
  const relatives = await readRelatives(db, table.oid)
  return {
    ...table,
    columns,
    key,
    textOf: (names) =>
      names.every((part) => columns.some((column) => column.name === part)) && names.length > 0
        ? sql<string>`jsonb_build_array(${sql.join(names.map((part) => sql`${sql.id(part)}::text`))})::text`
        : undefined,
    numberOf: (column) =>
      columns.some((candidate) => candidate.name === column && isWhole(candidate))
        ? sql<bigint>`${sql.id(column)}::bigint`
        : undefined,
    hasPartitions: table.kind === 'p',
    relatives: relatives.map(({ schema, name: relative }) => ({ schema, name: relative })),
    rowsIn: (relative) => {
      const part = relatives.find((one) => one.isPart && one.schema === relative.schema && one.name === relative.name)
      if (part === undefined) return undefined
      return sql<boolean>`(tableoid in (select relid from ${partitionTree(sql`cast(${part.oid} as oid)`)} part))`
    },
    orderBy: (column) => columns.filter(({ name: other }) => other === column).map(orderPart)[0],
    kept: undefined,
  }
}

/** Whether a column holds whole numbers, of at most 64 bits. */
function isWhole({ base }: CatalogColumn): boolean {
  return ['smallint', 'integer', 'bigint'].includes(base)
}

/** A column as a part of an order. */
function orderPart(column: CatalogColumn): OrderPart {
  const ref = sql.id(column.name)
  return {
    value: ref,
    read: sql<SqlValue>`${ref}::text`,
    // The catalog's own, quoted, name of the type.
    bind: (value) => sql`cast(${value} as ${sql.raw(column.type)})`,
  }
}

/** A table itself, one that it is a part of, or one that is a part of it. */
interface Relative extends TableName {
  readonly oid: string
  readonly isPart: boolean
}

async function readRelatives(db: Db, oid: string): Promise<Relative[]> {
  const { rows } = await sql<Relative>`
    with relative(oid, "isPart") as (
      select ${oid}::oid, false
      union select relid, false from pg_partition_ancestors(${oid}::oid)
      union select relid, true from ${partitionTree(sql`${oid}::oid`)} part where level > 0
    )
    select n.nspname as schema, c.relname as name, c.oid::text, "isPart"
    from relative r join pg_class c on c.oid = r.oid join pg_namespace n on n.oid = c.relnamespace
  `.execute(db)
  return rows
}

async function readColumns(db: Db, oid: string): Promise<CatalogColumn[]> {
  const { rows } = await sql<CatalogColumn>`
    select
      a.attname as name,
      format_type(a.atttypid, a.atttypmod) as type,
      not a.attnotnull as nullable,
      a.attgenerated <> '' as generated,
      a.attgenerated = '' and (a.atthasdef or a.attidentity <> '' or type.typdefault is not null) as "hasDefault",
      case a.attidentity when 'a' then 'always' when 'd' then 'by default' else '' end as identity,
      format_type(base.oid, null) as base,
      case when c.oid is not null then format('%I.%I', n.nspname, c.collname) end as collation,
      false as "isRowid"
    from pg_attribute a join pg_type type on type.oid = a.atttypid
    cross join lateral (
      with recursive base(oid) as (
        select a.atttypid
        union all
        select t.typbasetype from base join pg_type t on t.oid = base.oid where t.typtype = 'd'
      )
      select t.oid, t.typcollation from base join pg_type t on t.oid = base.oid where t.typtype <> 'd'
    ) base
    left join pg_collation c on c.oid = a.attcollation and c.oid <> base.typcollation
    left join pg_namespace n on n.oid = c.collnamespace
    where a.attrelid = ${oid}::oid and a.attnum > 0 and not a.attisdropped
    order by a.attnum
  `.execute(db)
  return rows
}

/** The primary key, or else the narrowest unique index over columns that are never null; generated ones do not serve. */
async function readKey(db: Db, oid: string): Promise<string[]> {
  const { rows } = await sql<{ columns: string[] }>`
    select k.columns
    from pg_index i
    cross join lateral (
      select
        array_agg(a.attname::text order by part.n) as columns,
        bool_and(a.attnotnull and a.attgenerated = '') as usable
      from unnest(i.indkey::int2[]) with ordinality as part(attnum, n)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
      where part.n <= i.indnkeyatts
    ) k
    where i.indrelid = ${oid}::oid and i.indisunique and i.indisvalid and i.indimmediate and not i.indisexclusion
      and i.indpred is null and i.indexprs is null and k.usable
    order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
    limit 1
  `.execute(db)
  return rows[0]?.columns ?? []
}
