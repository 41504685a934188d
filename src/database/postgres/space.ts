/** What deleted rows have left behind in a table and its partitions: told by statistics and sizes, and a look at the last pages. */
import { sql } from 'kysely'

import type { TableName } from '../../config/fields.ts'
import type { Db, Space } from '../database.ts'
import { findName } from './table.ts'

/** One table that holds rows: the table itself, or a partition. */
interface Part {
  schema: string
  name: string
  pages: number
  pageBytes: number
  toastBytes: number
  /** Rows, by the statistics. */
  dead: number
  live: number
  /** Whether VACUUM may give pages back, and this file can tell how many. */
  truncates: boolean
}

/** How many pages at the end of a file are looked at, at most: that takes some milliseconds. */
const mostPages = 4096

/**
 * Measures a table.
 * @param deleted rows that were deleted just now
 * @param hasOldStatistics whether a commit's rows are counted some time after it, as before Postgres 15
 */
export async function tableSpace(db: Db, name: TableName, deleted: number, hasOldStatistics: boolean): Promise<Space> {
  const table = await findName(db, name)
  const { parts, command, counts } = await measure(db, table?.oid ?? '0')
  const counted = parts.reduce((sum, { dead }) => sum + dead, 0)
  const deadRows = hasOldStatistics || !counts ? Math.max(counted, deleted) : counted
  let [bytes, unused, returnable] = [0, 0, 0]
  for (const part of parts) {
    const size = part.pages * part.pageBytes + part.toastBytes
    bytes += size
    if (part.dead === 0) continue
    const empty = part.truncates ? (await emptyAtEnd(db, part)) * part.pageBytes : 0
    returnable += empty
    const share = part.dead / Math.max(await roomFor(db, part), part.dead + part.live)
    unused += Math.max(empty, Math.round(size * share))
  }
  return { bytes, unused, deadRows, returnable, command: deadRows === 0 ? null : command }
}

async function measure(db: Db, oid: string): Promise<{ parts: Part[]; command: string; counts: boolean }> {
  const { rows: parts } = await sql<Part>`
    select n.nspname as schema, c.relname as name,
      (pg_relation_size(c.oid) / current_setting('block_size')::bigint)::float8 as pages,
      current_setting('block_size')::float8 as "pageBytes",
      coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)::float8 as "toastBytes",
      pg_stat_get_dead_tuples(c.oid)::float8 as dead, pg_stat_get_live_tuples(c.oid)::float8 as live,
      c.relam = (select oid from pg_am where amname = 'heap') and coalesce(
        (select option_value::boolean from pg_options_to_table(c.reloptions) where option_name = 'vacuum_truncate'),
        -- The server's own setting is there from Postgres 18 on.
        current_setting('vacuum_truncate', true)::boolean,
        true
      ) as truncates
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.oid in (select ${oid}::oid union select relid from pg_partition_tree(${oid}::oid))
  `.execute(db)
  const { rows } = await sql<{ command: string; counts: boolean }>`
    select format('VACUUM (ANALYZE) %I.%I;', n.nspname, c.relname) as command,
      current_setting('track_counts')::boolean as counts
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = ${oid}::oid
  `.execute(db)
  return { parts, command: rows[0]?.command ?? '', counts: rows[0]?.counts ?? false }
}

/** How many rows a file of this size holds, as the planner takes it; the statistics may not know of all yet. */
async function roomFor(db: Db, { schema, name }: Part): Promise<number> {
  const { rows } = await sql<{ 'QUERY PLAN': { Plan: { 'Plan Rows': number } }[] }>`
    explain (format json) select from only ${sql.id(schema, name)}
  `.execute(db)
  return rows[0]?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0
}

/**
 * How many pages VACUUM would give back, at least: it cuts wholly empty ones off the end of a file, if they are 1000 or
 * a sixteenth of it (REL_TRUNCATE_MINIMUM and _FRACTION in its source). If there is a row in the last so many, it cuts
 * none. https://www.postgresql.org/docs/current/sql-vacuum.html
 */
async function emptyAtEnd(db: Db, { schema, name, pages }: Part): Promise<number> {
  // Never the whole table, whatever the planner thinks.
  await sql`select set_config('enable_seqscan', 'off', true)`.execute(db)
  let empty = 0
  let look = Math.min(1000, Math.max(1, Math.floor(pages / 16)))
  while (empty < pages && look <= mostPages) {
    const from = Math.max(0, pages - look)
    const { rows } = await sql<{ used: boolean }>`
      select exists (
        select from only ${sql.id(schema, name)}
        where ctid >= ${`(${from},0)`}::tid and ctid < ${`(${pages - empty},0)`}::tid
      ) as used
    `.execute(db)
    if (rows[0]?.used !== false) break
    empty = pages - from
    look *= 2
  }
  return empty
}
