/** Sets references again that a foreign key had set to something else. */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import type { Link } from '../tree.ts'
import type { Transaction } from './connection.ts'
import { copyIn } from './copy.ts'
import type { CatalogTable } from './table.ts'

const links = sql.id('pg_temp', 'retention_relinked')

/** Sets those again that are still what the key made of them; returns how many there were, and how many were set. */
export async function relink(
  transaction: Transaction,
  table: CatalogTable,
  link: Link,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<{ rows: number; set: number }> {
  const { db } = transaction
  const list = sql.join(columns.map((name) => sql.id(name)))
  await sql`drop table if exists ${links}`.execute(db)
  // The table's own column types, without its constraints.
  await sql`create temporary table retention_relinked on commit drop as select ${list} from ${table.sql} with no data`.execute(
    db,
  )
  const rows = await copyIn(transaction, sql`${links}`, columns, csv)
  const made = link.to === 'null' ? new Map<string, string>() : await defaultsOf(db, table)
  const isSame = (name: string): Sql => sql`t.${sql.id(name)} is not distinct from s.${sql.id(name)}`
  const conditions = columns.map((name) => {
    if (link.key.includes(name)) return sql`t.${sql.id(name)} = s.${sql.id(name)}`
    // A default is the catalog's own text.
    const value = sql.raw(made.get(name) ?? 'null')
    return link.sets.includes(name)
      ? sql`(t.${sql.id(name)} is not distinct from ${value} or ${isSame(name)})`
      : isSame(name)
  })
  const set = link.sets.map((name) => sql`${sql.id(name)} = s.${sql.id(name)}`)
  const { numAffectedRows } = await sql`
    update ${table.sql} as t set ${sql.join(set)} from ${links} as s where ${sql.join(conditions, sql` and `)}`.execute(
    db,
  )
  return { rows, set: Number(numAffectedRows ?? 0) }
}

async function defaultsOf(db: Db, { oid }: CatalogTable): Promise<Map<string, string>> {
  const { rows } = await sql<{ name: string; value: string }>`
    select a.attname as name, pg_get_expr(d.adbin, d.adrelid) as value
    from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    where d.adrelid = ${oid}::oid
  `.execute(db)
  return new Map(rows.map(({ name, value }) => [name, `(${value})`]))
}
