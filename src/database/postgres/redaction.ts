/** What overwriting columns comes to in Postgres: the values as their columns hold them, and what stands against it. */
import { sql } from 'kysely'

import type { SetValue } from '../../config/fields.ts'
import { messageOf } from '../../errors.ts'
import type { Db, Finding, Sql } from '../database.ts'
import { setFindings, unfitValue, type Redaction, type SetFacts, type SetValues } from '../redaction.ts'
import { conversionOf } from './conversion.ts'
import { referencingKeys } from './foreign-keys.ts'
import { partitionTree } from './partition-tree.ts'
import { tryOut } from './savepoint.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'

/** Names of columns that are to be overwritten, as they are in the catalog; others are left out. */
export function setColumns(table: Pick<CatalogTable, 'columns'>, set: SetValues): CatalogColumn[] {
  return table.columns.filter(({ name }) => Object.hasOwn(set, name))
}

/** A value as a column holds it, in a query. */
function valueOf({ type }: CatalogColumn, value: SetValue): Sql {
  // The catalog's own, quoted, name of the type.
  return sql`cast(cast(${value === null ? null : String(value)} as text) as ${sql.raw(type)})`
}

/** `column = value` for each of a table's columns that are to be overwritten. */
export function assignments(table: Pick<CatalogTable, 'columns'>, set: SetValues): Sql {
  return sql.join(
    setColumns(table, set).map((column) => sql`${sql.id(column.name)} = ${valueOf(column, set[column.name] ?? null)}`),
  )
}

/** True where a column does not hold a value. As text, byte by byte: not every type, and not every collation, can say so itself. */
export function holdsOther(reference: Sql, column: CatalogColumn, value: SetValue): Sql<boolean> {
  return sql<boolean>`(${reference}::text collate "C" is distinct from ${valueOf(column, value)}::text collate "C")`
}

/** What a policy's `set` comes to, and what is against it. @param time the column that ages the rows */
export async function readRedaction(
  db: Db,
  table: CatalogTable,
  set: SetValues,
  time: string,
): Promise<{ redaction: Redaction; findings: Finding[] }> {
  const facts = await readFacts(db, table)
  const columns = setColumns(table, set)
  const findings = setFindings(table, time, set, facts)
  // A column that must not be overwritten needs no look at its value.
  if (findings.length === 0) {
    for (const column of columns) {
      const isComposite = facts.composite.includes(column.name)
      findings.push(...(await valueFindings(db, table, column, isComposite, set[column.name] ?? null)))
    }
  }
  const open = columns.map((column): Sql => {
    const value = set[column.name] ?? null
    // So an index over rows WHERE it is not null can serve. Of a composite type it asks for all fields.
    if (value === null && !facts.composite.includes(column.name)) return sql`${sql.id(column.name)} is not null`
    return holdsOther(sql.id(column.name), column, value)
  })
  const isOpen = open.length === 0 ? sql<boolean>`false` : sql<boolean>`(${sql.join(open, sql` or `)})`
  return { redaction: { set, isOpen }, findings }
}

async function readFacts(db: Db, table: CatalogTable): Promise<SetFacts & { composite: string[] }> {
  const { rows } = await sql<{
    unique: string[][]
    uniqueNulls: string[][]
    partitionKey: string[]
    composite: string[]
  }>`
    with uniques as (
      select
        (
          select jsonb_agg(a.attname order by part.n) from unnest(i.indkey::int2[]) with ordinality as part(attnum, n)
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum where part.n <= i.indnkeyatts
        ) as columns,
        -- A column of the catalog that older versions do not have.
        coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'true' as nulls
      from pg_index i
      where i.indrelid = ${table.oid}::oid and i.indisunique and i.indpred is null and i.indexprs is null
    )
    select
      coalesce((select jsonb_agg(columns) from uniques where not nulls), '[]') as "unique",
      coalesce((select jsonb_agg(columns) from uniques where nulls), '[]') as "uniqueNulls",
      array(
        select distinct a.attname::text
        from pg_partitioned_table p cross join unnest(p.partattrs::int2[]) as part(attnum)
        join pg_attribute a on a.attrelid = p.partrelid and a.attnum = part.attnum
        where p.partrelid in (
          select relid from ${partitionTree(sql`${table.oid}::oid`)} part
          union select relid from pg_partition_ancestors(${table.oid}::oid)
        )
      ) as "partitionKey",
      array(
        with recursive base(name, oid) as (
          select attname::text, atttypid from pg_attribute where attrelid = ${table.oid}::oid and attnum > 0 and not attisdropped
          union all
          select base.name, t.typbasetype from base join pg_type t on t.oid = base.oid where t.typtype = 'd'
        )
        select base.name from base join pg_type t on t.oid = base.oid where t.typtype = 'c'
      ) as composite
  `.execute(db)
  const [found] = rows
  const keys = await referencingKeys(db, table.oid)
  return {
    unique: found?.unique ?? [],
    uniqueNulls: found?.uniqueNulls ?? [],
    partitionKey: found?.partitionKey ?? [],
    composite: found?.composite ?? [],
    referenced: keys.map((key) => ({ by: { schema: key.schema, name: key.table }, columns: key.referenced })),
    filled: table.columns.filter(({ identity }) => identity === 'always').map(({ name }) => name),
  }
}

/** Whether a column can hold a value as it is written. */
async function valueFindings(
  db: Db,
  table: CatalogTable,
  column: CatalogColumn,
  isComposite: boolean,
  value: SetValue,
): Promise<Finding[]> {
  if (typeof value === 'string' && value.includes('\0')) return [unfitValue(table, column, value, 'it has a NUL in it')]
  if (typeof value === 'string' && isRelative(column, isComposite, value))
    return [unfitValue(table, column, value, 'it would be another one every day')]
  const text = sql<string | null>`cast(${value === null ? null : String(value)} as text)`
  const cell = { text, old: { type: 'text', category: 'S' }, named: undefined }
  const tried = await tryOut(db, async () => {
    const { value: held, isSame } = await conversionOf(db, column, { column: column.name, value: null }, cell)
    // What the value would be without the type's length or precision; numbers are compared as such by `isSame`.
    const whole = sql`cast(${text} as ${sql.raw(unlimited(column.base))})`
    const isWhole =
      column.base === 'numeric'
        ? sql`true`
        : sql`${held}::text collate "C" is not distinct from ${whole}::text collate "C"`
    const { rows } = await sql<{ same: boolean | null }>`select ${isSame} and ${isWhole} as same`.execute(db)
    return rows[0]?.same === true
  })
  if ('error' in tried) return [unfitValue(table, column, value, messageOf(tried.error).replace('Postgres: ', ''))]
  return tried.value ? [] : [unfitValue(table, column, value, 'it would be another value there')]
}

/** `now` and its like are read anew each time, in ranges and in fields of composite types as well. */
function isRelative({ base }: CatalogColumn, isComposite: boolean, value: string): boolean {
  const isTime = isComposite || /^(date|time|ts(tz)?(multi)?range)/.test(base)
  return isTime && /\b(now|today|tomorrow|yesterday)\b/i.test(value)
}

/** A type without length: `character` alone would be one of a single character, `bit` of a single bit. */
function unlimited(base: string): string {
  return base.replace(/^character(?=$|\[)/, 'bpchar').replace(/^bit(?=$|\[)/, 'bit varying')
}
