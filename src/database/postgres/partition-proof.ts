/**
 * Proves that a table's rows are the very ones that a snapshot saw, without reading what is in them.
 *
 * Postgres never changes a version of a row: an UPDATE makes another, with the number of its transaction as xmin. So if
 * all rows that are there now were there for the snapshot, and they are as many, they are the same. A row was there for
 * the snapshot if its transaction had ended by then: if its xmin is older than the oldest transaction that was under way
 * (the snapshot's horizon), or is that of a row that the snapshot saw.
 *
 * - xmin is compared from the horizon on, up to the newest number that has been given: numbers come again after four
 *   thousand million, and frozen rows keep theirs. One that is taken for new by mistake makes the proof fail, no more; it
 *   could hide a change only by that very transaction of now whose number it has had, to the last digit, since then.
 * - A subtransaction's number is not among those that a snapshot lists as under way, but it is never older than the
 *   horizon. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
 * - VACUUM, CLUSTER and locking rows leave xmin alone; TRUNCATE is found by the count; whoever has prepared a transaction
 *   holds its locks. The caller has the lock that all writers would need.
 */
import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type { Db, Sql } from '../database.ts'

/** What a snapshot saw of a table. */
export interface Seen {
  readonly rows: number
  /** Of them, those that are due. */
  readonly due: number
  /** The oldest transaction that was under way. */
  readonly horizon: string
  /** The transactions, no older than that, whose rows it saw. */
  readonly young: readonly string[]
}

/** As many transactions as are remembered by number: a table that so many write to is none that can be dropped. */
const mostYoung = 10_000

/**
 * Looks at a table, in a transaction of one snapshot, which is the one to be proved by later.
 * @param from the table, as FROM takes it
 */
export async function lookAt(db: Db, from: Sql, due: Sql<boolean>): Promise<Seen> {
  const { rows } = await sql<{ horizon: string; rows: string; due: string; young: string }>`
    select
      pg_snapshot_xmin(pg_current_snapshot())::text as horizon, count(*)::text as rows,
      (count(*) filter (where ${due}))::text as due,
      (count(*) filter (where ${isYoung(sql`pg_snapshot_xmin(pg_current_snapshot())`)}))::text as young
    from ${from}
  `.execute(db)
  const [found] = rows
  if (found === undefined) throw new TypeError('a count has one row')
  const young = found.young === '0' ? [] : await youngOf(db, from, found.horizon)
  if (young.length > mostYoung) {
    throw new RetentionError('ROWS_CHANGED', 'Rows of the partition are being written by very many transactions')
  }
  return { rows: Number(found.rows), due: Number(found.due), horizon: found.horizon, young }
}

async function youngOf(db: Db, from: Sql, horizon: string): Promise<string[]> {
  const { rows } = await sql<{ xmin: string }>`
    select distinct xmin::text as xmin from ${from} where ${isYoung(sql`cast(${horizon} as xid8)`)}
    limit ${sql.lit(mostYoung + 1)}
  `.execute(db)
  return rows.map(({ xmin }) => xmin)
}

/** Whether a table's rows are those that were seen, and none is held. Nobody else may write to it any more. */
export async function proveSame(db: Db, from: Sql, isHeld: Sql<boolean> | undefined, seen: Seen): Promise<boolean> {
  const { rows } = await sql<{ rows: string; held: string; news: string }>`
    select
      count(*)::text as rows, (count(*) filter (where ${isHeld ?? sql`false`}))::text as held,
      (count(*) filter (
        where ${isYoung(sql`cast(${seen.horizon} as xid8)`)} and not xmin = any (cast(${`{${seen.young.join(',')}}`} as xid[]))
      ))::text as news
    from ${from}
  `.execute(db)
  const [now] = rows
  return now?.news === '0' && now.held === '0' && now.rows === String(seen.rows)
}

/**
 * True for rows whose xmin is at or after the horizon. Both are taken as their distance from one and the same third
 * number, which `age` counts from, and so modulo 2³².
 */
function isYoung(horizon: Sql): Sql<boolean> {
  return sql<boolean>`
    ((select age(${horizon}::xid)::bigint) - age(xmin)) & 4294967295
      < (select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - ${horizon}::text::bigint))`
}
