/** Advisory locks: between runs, and between the steps and the restores of a table. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import type { Db, Lock } from '../database.ts'
import { postgresError, Transaction, type Connections } from './connection.ts'
import { withLiterals } from './literal.ts'
import type { NamedTable } from './table.ts'

/**
 * Takes a lock at once, or returns undefined. It is one of a transaction that stays open as long as the lock is held:
 * unlike a session's, it holds behind a transaction pooler. The transaction has no snapshot and no transaction number
 * of its own, and so holds back no vacuum.
 */
export async function takeLock(connections: Connections, name: string): Promise<Lock | undefined> {
  const transaction = await Transaction.begin(connections, 'read only', { lock: 0, step: 0 })
  try {
    // Should this machine vanish, the server gives the lock up after about a minute.
    await sql`
      select set_config('tcp_keepalives_idle', '30', true), set_config('tcp_keepalives_interval', '10', true),
        set_config('tcp_keepalives_count', '3', true)
    `.execute(transaction.db)
    // A query with parameters would keep its snapshot until the next one, which is when the lock is released.
    const attempt = withLiterals(sql`select pg_try_advisory_xact_lock(${keyOf(name)}) as held`)
    const { rows } = await transaction.client.query<{ held: boolean }>(attempt)
    if (rows[0]?.held === true) return { release: () => transaction.rollback() }
  } catch (error) {
    await transaction.rollback()
    throw postgresError(error)
  }
  await transaction.rollback()
  return undefined
}

/** Whether somebody has a lock of that name. */
export async function isLocked(db: Db, name: string): Promise<boolean> {
  // A lock of one big number is shown as its two halves. https://www.postgresql.org/docs/current/view-pg-locks.html
  const { rows } = await sql`
    select 1 from pg_locks, (select ${keyOf(name)} as key) as wanted
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
      and objsubid = 1 and classid::bigint = (key >> 32) & 4294967295 and objid::bigint = key & 4294967295
  `.execute(db)
  return rows.length > 0
}

/**
 * Locks a table and its partitions against changes of its form, until the transaction ends, as DELETE and UPDATE do it
 * themselves: no reader and no writer waits. https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
 * @param set the columns that are to be overwritten, at least one; undefined where rows go or come
 */
export async function lockForm(db: Db, table: Pick<NamedTable, 'sql'>, set?: readonly string[]): Promise<void> {
  const [column] = set ?? []
  if (column === undefined) {
    await sql`lock table ${table.sql} in row exclusive mode`.execute(db)
  } else {
    // LOCK TABLE asks for rights on the whole table, where UPDATE needs them on its columns alone. Nothing is run.
    await sql`explain update ${table.sql} set ${sql.id(column)} = default`.execute(db)
  }
}

/** Keeps a table's steps (`shared`) apart from its restores and new holds (`exclusive`), until the transaction ends. */
export async function lockRestores(db: Db, table: NamedTable, mode: 'shared' | 'exclusive'): Promise<void> {
  // Of a partition and the whole table it is one lock.
  const { rows } = await sql<{ root: string }>`
    select coalesce(pg_partition_root(${table.oid}::oid)::oid, ${table.oid}::oid)::text as root
  `.execute(db)
  const key = keyOf(`table ${rows[0]?.root ?? table.oid}`)
  await (
    mode === 'shared' ? sql`select pg_advisory_xact_lock_shared(${key})` : sql`select pg_advisory_xact_lock(${key})`
  ).execute(db)
}

/** The same for a table that is not there any more: of what there is to be kept apart, its archives are left. */
export async function lockGone(db: Db, table: TableName): Promise<void> {
  await sql`select pg_advisory_xact_lock(${keyOf(`table ${formatTableName(table)}`)})`.execute(db)
}

function keyOf(name: string): ReturnType<typeof sql> {
  return sql`hashtextextended(${`retention ${name}`}, 0)`
}
