/** Sets references again that a foreign key had set to something else. */
import { sql } from 'kysely'

import type { Sql } from '../database.ts'
import type { Link } from '../tree.ts'
import type { Connection } from './connection.ts'
import { stage } from './restore-staged.ts'
import type { SchemaTable } from './table.ts'

/** Sets those again that are still what the key made of them; returns how many there were, and how many were set. */
export async function relink(
  connection: Connection,
  table: SchemaTable,
  link: Link,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<{ rows: number; set: number }> {
  const { db } = connection
  const { rows } = await stage(connection, table, columns, csv)
  const { rows: defaults } = await sql<{ name: string; value: string | null }>`
    select name, dflt_value as value from pragma_table_xinfo(${table.name.name})`.execute(db)
  const cell = (name: string): Sql => sql.id('s', `c${columns.indexOf(name)}`)
  const isSame = (name: string): Sql => sql`t.${sql.id(name)} is ${cell(name)}`
  const conditions = columns.map((name) => {
    if (link.key.includes(name)) return sql`t.${sql.id(name)} = ${cell(name)}`
    // A default is the schema's own text.
    const made = link.to === 'null' ? undefined : defaults.find((column) => column.name === name)?.value
    const value = sql.raw(`(${made ?? 'null'})`)
    return link.sets.includes(name) ? sql`(t.${sql.id(name)} is ${value} or ${isSame(name)})` : isSame(name)
  })
  const set = link.sets.map((name) => sql`${sql.id(name)} = ${cell(name)}`)
  const { numAffectedRows } = await sql`
    update ${table.sql} as t set ${sql.join(set)} from ${sql.id('temp', 'retention_staged')} as s
    where ${sql.join(conditions, sql` and `)}`.execute(db)
  return { rows, set: Number(numAffectedRows ?? 0) }
}
