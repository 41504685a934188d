/** Finds tables that could do with a policy. */
import { sql } from 'kysely'

import { cutoffOf } from '../../cutoff.ts'
import type { Candidate, Db, SqlValue, TimeColumn } from '../database.ts'
import { findTable } from './table.ts'
import { timeOf } from './time.ts'

/** Tables larger than this are not counted but estimated: a newcomer's first command must not load production. */
const countedBytes = 256 * 1024 * 1024

interface Row {
  schema: string
  name: string
  visible: boolean
  column: string
  bytes: string
}

/** Tables with a timestamp or date column; each with the one that is most likely to age its rows. */
export async function candidates(db: Db, days: readonly number[], now: Date): Promise<Candidate[]> {
  const { rows } = await sql<Row>`
    select distinct on (c.oid)
      n.nspname as schema, c.relname as name, pg_table_is_visible(c.oid) as visible, a.attname as column,
      (select coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(c.oid)) from pg_partition_tree(c.oid))::text as bytes
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'p') and not c.relispartition
      and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
      and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
      and has_table_privilege(c.oid, 'SELECT')
    order by c.oid,
      case
        when a.attname ~* '(created|inserted|logged|occurred|recorded|received|sent)' then 1
        when a.attname ~* '^(ts|time|timestamp|date|at)$' then 2
        when a.attname ~* '(expire|deleted|updated|modified)' then 4
        else 3
      end,
      a.attnum
  `.execute(db)
  const found: Candidate[] = []
  for (const row of rows) {
    const table = await findTable(db, { schema: row.schema, name: row.name })
    const time = table === undefined ? undefined : timeOf(table, row.column)
    if (table === undefined || time === undefined) continue
    const estimated = Number(row.bytes) > countedBytes
    const count = async (where: ReturnType<TimeColumn['due']> | undefined): Promise<number> =>
      estimated ? estimate(db, table, where) : exact(db, table, where)
    // One after the other: they share a connection.
    const due: Candidate['due'][number][] = []
    for (const age of days) due.push({ days: age, rows: await count(time.due(cutoffOf(age, 'UTC', now))) })
    found.push({
      table: row.visible ? { schema: undefined, name: row.name } : table.name,
      column: row.column,
      rows: await count(undefined),
      bytes: Number(row.bytes),
      ...(await span(db, table, row.column, time, estimated)),
      due,
      estimated,
    })
  }
  return found.toSorted((a, b) => b.bytes - a.bytes)
}

type Found = NonNullable<Awaited<ReturnType<typeof findTable>>>
type Where = ReturnType<TimeColumn['due']> | undefined

async function exact(db: Db, table: Found, where: Where): Promise<number> {
  const { rows } = await sql<{
    rows: string
  }>`select count(*)::text as rows from ${table.sql} ${where === undefined ? sql`` : sql`where ${where}`}`.execute(db)
  return Number(rows[0]?.rows ?? 0)
}

/** What the planner expects, from its statistics; reads no rows. */
async function estimate(db: Db, table: Found, where: Where): Promise<number> {
  const { rows } = await sql<{ 'QUERY PLAN': { Plan: { 'Plan Rows': number } }[] }>`
    explain (format json) select 1 from ${table.sql} ${where === undefined ? sql`` : sql`where ${where}`}
  `.execute(db)
  return rows[0]?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0
}

async function span(
  db: Db,
  table: Found,
  column: string,
  time: TimeColumn,
  estimated: boolean,
): Promise<{ oldest: string | undefined; newest: string | undefined }> {
  // Without an index the ends of a large table are not worth a scan.
  if (estimated) return { oldest: undefined, newest: undefined }
  const { rows } = await sql<{ oldest: SqlValue; newest: SqlValue }>`
    select min(${sql.id(column)})::text as oldest, max(${sql.id(column)})::text as newest
    from ${table.sql} where not ${time.undated}
  `.execute(db)
  const show = (value: SqlValue | undefined): string | undefined =>
    value === null || value === undefined ? undefined : time.format(value)
  return { oldest: show(rows[0]?.oldest), newest: show(rows[0]?.newest) }
}
