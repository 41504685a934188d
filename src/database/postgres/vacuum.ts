/** Plain VACUUM, made so that it stands in nobody's way: never FULL, never waiting in a queue, giving way like autovacuum. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import { sql } from 'kysely'
import type { PoolClient } from 'pg'

import type { TableName } from '../../config/fields.ts'
import { RetentionError } from '../../errors.ts'
import type { Db, Finding } from '../database.ts'
import { postgresError, Transaction, type Connections } from './connection.ts'
import { withLiterals } from './literal.ts'
import { findName, type NamedTable } from './table.ts'

/** How often to look whether somebody waits for it, in milliseconds: as long as autovacuum takes to give way. */
const interval = 1000

/** Why a VACUUM was cancelled. */
type Reason = 'the run was interrupted' | 'somebody was waiting for the table'

/**
 * Vacuums a table with its partitions. It takes SHARE UPDATE EXCLUSIVE, which blocks neither readers nor writers; a
 * migration that would wait for it, with everybody queueing behind, makes it end.
 * https://www.postgresql.org/docs/current/sql-vacuum.html
 */
export async function vacuum(connections: Connections, name: TableName, signal: AbortSignal): Promise<Finding[]> {
  const table = await asked(connections, (db) => findName(db, name))
  if (table === undefined) throw new RetentionError('DATABASE_FAILED', `There is no table "${name.name}" any more`)
  const skipped: Skipped[] = []
  const ended = new AbortController()
  // By this its process is found, behind a transaction pooler too.
  const mark = `/* retention ${randomUUID()} */`
  const client = await connections.connect()
  client.on('notice', ({ code, message = '' }) => skipped.push({ code, message }))
  let watching: Promise<Reason | undefined> | undefined
  try {
    await settle(client, connections)
    watching = watch(connections, mark, signal, ended.signal)
    // Skipping a table that somebody has locked is better than waiting for it. The table's own `vacuum_truncate` decides
    // whether pages are given back: for that, VACUUM takes ACCESS EXCLUSIVE only if it gets it at once, and lets go of
    // it when anybody asks.
    await client.query(`${mark} ${withLiterals(sql`vacuum (analyze, skip_locked) ${table.sql}`)}`)
  } catch (error) {
    ended.abort()
    const reason = await watching
    if (reason === undefined) throw postgresError(error)
    return [
      { level: 'warning', text: `VACUUM was cancelled: ${reason}`, hint: 'What it has not done, a later one does.' },
    ]
  } finally {
    ended.abort()
    await watching
    // Its settings go with it.
    client.release(true)
  }
  return skipped.length === 0 ? [] : asked(connections, (db) => skippedFindings(db, table, skipped, connections))
}

/** A table that VACUUM left out, in the server's words. */
interface Skipped {
  readonly code: string | undefined
  readonly message: string
}

/**
 * Settings of the session, as a VACUUM takes none from a transaction: the pace of autovacuum, and no time limit, as a
 * large table may take hours. Behind a pooler they would come to be those of other people's queries, and are left out.
 */
async function settle(client: PoolClient, { limits }: Connections): Promise<void> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  // The driver keeps what the server said of itself at the start; its type does not tell. A pooler says something else.
  const { processID } = client as PoolClient & { readonly processID: unknown }
  if (rows[0]?.pid !== processID) return
  await client.query(
    withLiterals(sql`
      select set_config(name, value, false) from (
        values ('lock_timeout', ${String(limits.lock)}), ('statement_timeout', '0'), ('client_min_messages', 'warning')
        union all
        select replace(name, 'autovacuum_', ''), setting from pg_settings
        where name in ('autovacuum_vacuum_cost_delay', 'autovacuum_vacuum_cost_limit') and setting <> '-1'
      ) as setting(name, value)
    `),
  )
}

/** Cancels the VACUUM when the run is interrupted or somebody waits for it; says why, if it did. */
async function watch(
  connections: Connections,
  mark: string,
  signal: AbortSignal,
  ended: AbortSignal,
): Promise<Reason | undefined> {
  for (;;) {
    const wake = signal.aborted ? ended : AbortSignal.any([signal, ended])
    await sleep(interval, undefined, { signal: wake }).catch(() => {})
    if (ended.aborted) return undefined
    // A server that cannot be asked now may be so in a second.
    const cancelled = await asked(connections, (db) => cancel(db, mark, !signal.aborted)).catch(() => false)
    if (cancelled) return signal.aborted ? 'the run was interrupted' : 'somebody was waiting for the table'
  }
}

/** @param onlyIfBlocking cancels it only if somebody waits for a lock that it holds */
async function cancel(db: Db, mark: string, onlyIfBlocking: boolean): Promise<boolean> {
  const blocks = sql`exists (select from pg_locks where not granted and a.pid = any(pg_blocking_pids(pid)))`
  const { rows } = await sql`
    select pg_cancel_backend(a.pid) from pg_stat_activity a
    where starts_with(a.query, ${mark}) and a.state = 'active' and a.backend_type = 'client backend'
      and ${onlyIfBlocking ? blocks : sql`true`}
  `.execute(db)
  return rows.length > 0
}

/** What the server left out, and how that can be mended. */
async function skippedFindings(
  db: Db,
  table: NamedTable,
  skipped: readonly Skipped[],
  { serverVersion }: Connections,
): Promise<Finding[]> {
  // 55P03: lock_not_available
  const [locked, others] = [true, false].map((isLocked) =>
    skipped.filter(({ code }) => (code === '55P03') === isLocked),
  )
  return [
    ...finding(locked, 'Somebody else is at work on it, autovacuum perhaps; a later run does it.'),
    ...finding(others, await rightHint(db, table, serverVersion)),
  ]
}

function finding(skipped: readonly Skipped[] = [], hint: string): Finding[] {
  const text = `Postgres: ${skipped.map(({ message }) => message).join('; ')}`
  return skipped.length === 0 ? [] : [{ level: 'warning', text, hint }]
}

/** How this role comes to be allowed to vacuum a table. https://www.postgresql.org/docs/current/ddl-priv.html#DDL-PRIV-MAINTAIN */
async function rightHint(db: Db, { oid }: NamedTable, serverVersion: number): Promise<string> {
  if (serverVersion < 170000) {
    return 'Before Postgres 17 only the owner of a table, or of its database, may vacuum it. Autovacuum does so in its own time.'
  }
  const { rows } = await sql<{ statement: string | null }>`
    select format('GRANT MAINTAIN ON %s TO %I;', string_agg(format('%I.%I', n.nspname, c.relname), ', '), current_user)
      as statement
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid in (select ${oid}::oid union select relid from pg_partition_tree(${oid}::oid))
      and c.relkind in ('r', 'p') and not has_table_privilege(c.oid, 'MAINTAIN')
  `.execute(db)
  return rows[0]?.statement ?? 'The README lists the exact GRANTs that each command needs.'
}

/** Asks something in a short transaction of its own. */
async function asked<T>(connections: Connections, question: (db: Db) => Promise<T>): Promise<T> {
  const transaction = await Transaction.begin(connections, 'read only')
  try {
    return await question(transaction.db)
  } finally {
    await transaction.rollback()
  }
}
