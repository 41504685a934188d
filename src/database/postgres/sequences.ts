/** Keeps sequences behind the values that a restore has put back. */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import type { CatalogTable } from './table.ts'

/** A sequence, and the column that takes its values from it. */
export interface Sequence {
  readonly column: string
  readonly sequence: string
  readonly mayRead: boolean
  readonly mayUpdate: boolean
}

/**
 * Moves sequences past the greatest restored value of their columns; never back.
 * @param greatest that value, as SQL of type bigint; NULL where there is none
 * @returns what could not be done, for people
 */
export async function advanceSequences(
  db: Db,
  sequences: readonly Sequence[],
  greatest: (column: string) => Sql,
): Promise<string[]> {
  const notes: string[] = []
  for (const { column, sequence, mayRead, mayUpdate } of sequences) {
    if (!mayRead) {
      notes.push(
        `Sequence ${sequence} may be behind the restored values, and this role may not look: GRANT USAGE, UPDATE on it`,
      )
      continue
    }
    // A sequence that was never used begins where it was told to begin.
    const { rows } = await sql<{ highest: string; possible: boolean }>`
      select highest::text, highest between s.seqmin and s.seqmax as possible
      from (select ${greatest(column)} as highest) restored, pg_sequence s
      where s.seqrelid = ${sequence}::regclass and s.seqincrement > 0
        and highest > coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - 1)
    `.execute(db)
    const [behind] = rows
    if (behind === undefined || !behind.possible) continue
    if (mayUpdate) {
      // Others may draw numbers at the same time.
      await sql`
        select setval(${sequence}::regclass, greatest(${behind.highest}::bigint, pg_sequence_last_value(${sequence}::regclass)))
      `.execute(db)
    } else {
      notes.push(
        `Sequence ${sequence} is behind ${behind.highest}, and this role may not move it: SELECT setval('${sequence}', greatest(${behind.highest}, (SELECT last_value FROM ${sequence})));`,
      )
    }
  }
  return notes
}

/** Sequences that an identity column owns, or that a column's default takes its values from, for some columns. */
export async function sequencesOf(db: Db, table: CatalogTable, columns: readonly string[]): Promise<Sequence[]> {
  const { rows } = await sql<Sequence>`
    select distinct a.attname::text as column, s.oid::regclass::text as sequence, has_sequence_privilege(s.oid, 'UPDATE') as "mayUpdate",
      -- Without these Postgres gives NULL for its last value.
      has_sequence_privilege(s.oid, 'SELECT') or has_sequence_privilege(s.oid, 'USAGE') as "mayRead"
    from pg_attribute a
    left join pg_attrdef def on def.adrelid = a.attrelid and def.adnum = a.attnum
    join pg_depend d on
      d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
        and d.refobjid = a.attrelid and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
      or d.classid = 'pg_attrdef'::regclass and d.objid = def.oid and d.refclassid = 'pg_class'::regclass
    join pg_class s on s.relkind = 'S' and s.oid in (d.objid, d.refobjid)
    where a.attrelid = ${table.oid}::oid and a.attnum > 0 and not a.attisdropped
      and a.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
  `.execute(db)
  return rows.filter(({ column }) => columns.includes(column))
}
