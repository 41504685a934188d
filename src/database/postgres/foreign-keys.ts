/** Foreign keys that make deleting a table's rows harmful or impossible. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import type { Db, Finding, Sql, Table } from '../database.ts'
import { partitionTree } from './partition-tree.ts'
import type { CatalogTable } from './table.ts'

/** A foreign key that refers to a table. */
export interface ForeignKey {
  name: string
  schema: string
  table: string
  /** The whole table, where that one is a partition. */
  rootSchema: string
  rootTable: string
  /** The table that it refers to, which may be a partition of the one that was asked for. */
  toSchema: string
  toTable: string
  /** By which the referenced columns, on the left, are compared with its own. */
  operators: string[]
  /** Those of its columns that SET NULL and SET DEFAULT are for; empty: all. */
  sets: string[]
  /** Whether it compares periods of time. */
  isTemporal: boolean
  /** Whether its table has an index that finds its rows by it. */
  hasIndex: boolean
  createIndex: string
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
  for (const key of await referencingKeys(db, table.oid)) findings.push(...(await keyFindings(db, table, key, due)))
  return findings
}

/** The same of one key. */
export async function keyFindings(
  db: Db,
  table: CatalogTable,
  key: ForeignKey,
  due: Sql<boolean> | undefined,
): Promise<Finding[]> {
  const other = formatTableName({ schema: key.schema, name: key.table })
  const action = { c: 'deletes', n: 'sets to NULL', d: 'sets to their default' }[key.action]
  if (action !== undefined) {
    const text = `Deleting rows of ${formatTableName(table.name)} ${action} rows of ${other}, unarchived, by foreign key "${key.name}"`
    const hint = `Say "children" in the policy to archive them along; or make it ON DELETE NO ACTION, and give ${other} a policy of its own.`
    return [{ level: 'refusal', text, hint }]
  }
  if (due === undefined || !(await hasRowOnDue(db, table, key, due))) return []
  const text = `Rows of ${other} refer to due rows of ${formatTableName(table.name)} by foreign key "${key.name}", which blocks deleting them`
  const hint = `Say "children" in the policy to archive them along; or give ${other} a policy that archives its rows first, or leave such rows out with "where".`
  return [{ level: 'refusal', text, hint }]
}

/** Keys that point at the table or its partitions; a key on a partitioned table is listed once, not once a partition. */
export async function referencingKeys(db: Db, oid: string): Promise<ForeignKey[]> {
  const names = (relation: string, numbers: string): Sql =>
    sql.raw(`array(
      select a.attname::text from unnest(k.${numbers}) with ordinality as part(attnum, n)
      join pg_attribute a on a.attrelid = k.${relation} and a.attnum = part.attnum order by part.n
    )`)
  const { rows } = await sql<ForeignKey>`
    select
      k.conname::text as name, n.nspname::text as schema, c.relname::text as table, k.confdeltype::text as action,
      ${names('conrelid', 'conkey')} as columns, ${names('confrelid', 'confkey')} as referenced,
      rn.nspname::text as "rootSchema", r.relname::text as "rootTable", tn.nspname::text as "toSchema", t.relname::text as "toTable",
      array(
        select format('operator(%I.%s)', opn.nspname, o.oprname)
        from unnest(k.conpfeqop) with ordinality as part(op, n)
        join pg_operator o on o.oid = part.op join pg_namespace opn on opn.oid = o.oprnamespace order by part.n
      ) as operators,
      -- Columns of the catalog that older versions do not have.
      array(
        select a.attname::text
        from jsonb_array_elements_text(
          case jsonb_typeof(to_jsonb(k) -> 'confdelsetcols') when 'array' then to_jsonb(k) -> 'confdelsetcols' else '[]' end
        ) as part(attnum)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.attnum::int2
      ) as sets,
      coalesce(to_jsonb(k) ->> 'conperiod', 'false') = 'true' as "isTemporal",
      exists (
        select from pg_index i
        where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
          and k.conkey @> (i.indkey::int2[])[0:cardinality(k.conkey) - 1]
          and k.conkey <@ (i.indkey::int2[])[0:cardinality(k.conkey) - 1]
      ) as "hasIndex",
      format('CREATE INDEX %sON %I.%I (%s);', case when c.relkind = 'r' then 'CONCURRENTLY ' end, n.nspname, c.relname, (
        select string_agg(quote_ident(a.attname), ', ' order by part.n) from unnest(k.conkey) with ordinality as part(attnum, n)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.attnum
      )) as "createIndex"
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class r on r.oid = coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid)
    join pg_namespace rn on rn.oid = r.relnamespace
    join pg_class t on t.oid = k.confrelid
    join pg_namespace tn on tn.oid = t.relnamespace
    where k.contype = 'f'
      and (
        k.confrelid = ${oid}::oid
        or k.conparentid = 0 and k.confrelid in (select relid from ${partitionTree(sql`${oid}::oid`)} part)
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
