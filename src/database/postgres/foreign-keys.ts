/** Foreign keys that make deleting a table's rows harmful or impossible. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import type { Db, Finding, Sql, Table } from '../database.ts'
import type { CatalogTable } from './table.ts'

interface ForeignKey {
  name: string
  schema: string
  table: string
  /** pg_constraint.confdeltype: c cascade, n set null, d set default, a no action, r restrict. */
  action: string
  columns: string[]
  referenced: string[]
}

/**
 * What foreign keys stand against deleting rows of a table. Keys that change other tables are refused whatever their
 * rows are now: a row inserted a moment later would be lost in silence. Keys that only block are refused when a row
 * hangs on a due one; a later one makes the step fail, and nothing is lost.
 * @param due which rows would go; undefined asks about the first kind only, and reads no rows
 */
export async function foreignKeyFindings(
  db: Db,
  table: CatalogTable,
  due: Sql<boolean> | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const key of await referencingKeys(db, table.oid)) {
    const other = formatTableName({ schema: key.schema, name: key.table })
    const action = { c: 'deletes', n: 'sets to NULL', d: 'sets to their default' }[key.action]
    if (action !== undefined) {
      findings.push({
        level: 'refusal',
        text: `Deleting rows of ${formatTableName(table.name)} ${action} rows of ${other}, unarchived, by foreign key "${key.name}"`,
        hint: `Make it ON DELETE NO ACTION, and give ${other} a policy of its own.`,
      })
    } else if (due !== undefined && (await hasRowOnDue(db, table, key, due))) {
      findings.push({
        level: 'refusal',
        text: `Rows of ${other} refer to due rows of ${formatTableName(table.name)} by foreign key "${key.name}", which blocks deleting them`,
        hint: `Give ${other} a policy that archives its rows first, or leave such rows out with "where".`,
      })
    }
  }
  return findings
}

/** Keys that point at the table or its partitions; a key on a partitioned table is listed once, not once a partition. */
async function referencingKeys(db: Db, oid: string): Promise<ForeignKey[]> {
  const names = (relation: string, numbers: string): Sql =>
    sql.raw(`array(
      select a.attname::text from unnest(k.${numbers}) with ordinality as part(attnum, n)
      join pg_attribute a on a.attrelid = k.${relation} and a.attnum = part.attnum order by part.n
    )`)
  const { rows } = await sql<ForeignKey>`
    select
      k.conname::text as name, n.nspname::text as schema, c.relname::text as table, k.confdeltype::text as action,
      ${names('conrelid', 'conkey')} as columns, ${names('confrelid', 'confkey')} as referenced
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    where k.contype = 'f'
      and (
        k.confrelid = ${oid}::oid
        or k.conparentid = 0 and k.confrelid in (select relid from pg_partition_tree(${oid}::oid))
      )
      and not exists (
        select from pg_constraint parent
        where parent.oid = k.conparentid and parent.confrelid = k.confrelid
      )
    order by n.nspname, c.relname, k.conname
  `.execute(db)
  return rows
}

async function hasRowOnDue(db: Db, table: Table, key: ForeignKey, due: Sql<boolean>): Promise<boolean> {
  const columns = sql.join(key.columns.map((name) => sql.id('retention_child', name)))
  const referenced = sql.join(key.referenced.map((name) => sql.id(name)))
  const { rows } = await sql`
    select 1 from ${sql.id(key.schema, key.table)} as retention_child
    where (${columns}) in (select ${referenced} from ${table.sql} where ${due})
    limit 1
  `.execute(db)
  return rows.length > 0
}
