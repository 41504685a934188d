/** What a Postgres server feels just now, in one query that any role may ask. */
import { sql } from 'kysely'

import type { TableName } from '../../config/fields.ts'
import type { Throttle } from '../../config/throttle.ts'
import type { Db, Felt, Pressure, Sql } from '../database.ts'
import { findName } from './table.ts'

type Signal = Exclude<Pressure['signal'], 'busyWriters'>

/** A sign of pressure as the query gives it: of whom, and how much, in milliseconds or bytes. */
interface Sign {
  readonly signal: Signal | 'vacuum' | 'hidden'
  readonly who: string
  readonly amount: number
}

/** Asks for all signs that have a limit. */
export async function pressureOn(db: Db, name: TableName, limits: Throttle): Promise<Felt> {
  const table = limits.autovacuum ? await findName(db, name) : undefined
  const parts = [
    ...(limits.replicaLag === undefined ? [] : [replicaLag(limits.replicaLag)]),
    ...(limits.walBacklog === undefined
      ? []
      : [slots(limits.walBacklog), receivers(limits.walBacklog), archiver(limits.walBacklog)]),
    ...(limits.replicaLag === undefined && limits.walBacklog === undefined ? [] : [hiddenReplicas]),
    ...(limits.longTransaction === undefined
      ? []
      : [transactions(limits.longTransaction), prepared(limits.longTransaction)]),
    ...(table === undefined ? [] : [vacuums(table.oid)]),
  ]
  if (parts.length === 0) return { pressures: [], hidden: undefined }
  const { rows } = await sql<Sign>`
    select signal, who, amount::float8 as amount from (${sql.join(parts, sql` union all `)}) as sign(signal, who, amount)
    order by amount desc
  `.execute(db)
  return {
    pressures: rows.flatMap(({ signal, who, amount }) =>
      signal === 'hidden' ? [] : [pressureOf(signal, textOf(signal, who, amount, limits))],
    ),
    hidden: rows.some(({ signal }) => signal === 'hidden')
      ? {
          level: 'warning',
          text: 'There are replicas, and this role may not see how far they are behind',
          hint: 'GRANT pg_read_all_stats to it, and apply waits for them; or set "throttle" to { replicaLag: false }.',
        }
      : undefined,
  }
}

function pressureOf(signal: Signal | 'vacuum', text: string): Pressure {
  return signal === 'vacuum' ? { signal: 'autovacuum', text } : { signal, text, isTheServers: signal === 'autovacuum' }
}

function textOf(signal: Signal | 'vacuum', who: string, amount: number, limits: Throttle): string {
  switch (signal) {
    case 'replicaLag':
      return `${who} is ${seconds(amount)} behind (limit ${seconds(limits.replicaLag ?? 0)})`
    case 'walBacklog':
      return `${who} has yet to take ${megabytes(amount)} of WAL (limit ${megabytes(limits.walBacklog ?? 0)})`
    case 'longTransaction':
      return `${who} has been open for ${seconds(amount)} (limit ${seconds(limits.longTransaction ?? 0)})`
    case 'autovacuum':
    case 'vacuum':
      return `a vacuum is at work on ${who}`
  }
}

function seconds(milliseconds: number): string {
  return milliseconds < 10_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 1000)} s`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`
}

/**
 * The lag of a replica that replays again is told until it reports again: one that has replayed everything has none.
 * https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
 */
function replicaLag(limit: number): Sql {
  return sql`
    select 'replicaLag', 'replica "' || coalesce(nullif(application_name, ''), host(client_addr), pid::text) || '"',
      extract(epoch from replay_lag) * 1000
    from pg_stat_replication
    where state in ('streaming', 'catchup') and replay_lsn < pg_current_wal_lsn()
      and replay_lag > ${limit}::float8 * interval '1 millisecond'`
}

/** To a role without pg_read_all_stats, of other roles' connections nothing is shown but that they are there. */
const hiddenReplicas = sql`select 'hidden', '', 0 from pg_stat_replication where state is null`

/** A slot that is lost keeps nothing; one that is `unreserved` is about to be. */
function slots(limit: number): Sql {
  return sql`
    select 'walBacklog', 'replication slot "' || slot_name || '"', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)
    from pg_replication_slots
    where wal_status <> 'lost'
      and (pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > ${limit}::float8 or wal_status = 'unreserved')`
}

/** What a replica without a slot has not got yet. */
function receivers(limit: number): Sql {
  return sql`
    select 'walBacklog', 'replica "' || coalesce(nullif(application_name, ''), host(client_addr), pid::text) || '"',
      pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)
    from pg_stat_replication
    where state in ('streaming', 'catchup') and pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) > ${limit}::float8`
}

/**
 * The archiver takes one file after another: what comes after the last one that it took, or that it is failing at. The
 * file's name says where in the WAL it is. https://www.postgresql.org/docs/current/continuous-archiving.html
 */
function archiver(limit: number): Sql {
  return sql`
    select 'walBacklog', case when failing then 'the archiver fails, and' else 'the archiver' end, backlog
    from (
      select failing, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')
        - ('x' || substr(file, 9, 8))::bit(32)::bigint::numeric * 4294967296
        - ('x' || substr(file, 17, 8))::bit(32)::bigint::numeric * segment as backlog
      from (
        select failing, case when failing then last_failed_wal else last_archived_wal end as file,
          (select setting::numeric from pg_settings where name = 'wal_segment_size') as segment
        from (
          select *, last_failed_time > coalesce(last_archived_time, '-infinity') is true as failing from pg_stat_archiver
        ) as known
      ) as last
      where file ~ '^[0-9A-F]{24}' and current_setting('archive_mode') <> 'off'
    ) as archiving
    where backlog > ${limit}::float8`
}

/**
 * The oldest transaction of somebody else that holds back vacuum: one without a snapshot or a number of its own does not,
 * nor does a vacuum. https://www.postgresql.org/docs/current/routine-vacuuming.html
 */
function transactions(limit: number): Sql {
  return sql`
    (select 'longTransaction', 'a transaction of ' || coalesce(usename, 'the server') || ' (process ' || pid || ')',
      extract(epoch from clock_timestamp() - xact_start) * 1000
    from pg_stat_activity
    where datname = current_database() and (backend_xid is not null or backend_xmin is not null)
      and xact_start < clock_timestamp() - ${limit}::float8 * interval '1 millisecond'
      and not (usename = current_user and application_name = current_setting('application_name'))
      and pid not in (select pid from pg_stat_progress_vacuum)
    order by xact_start limit 1)`
}

function prepared(limit: number): Sql {
  return sql`
    (select 'longTransaction', 'the prepared transaction "' || gid || '"',
      extract(epoch from clock_timestamp() - prepared) * 1000
    from pg_prepared_xacts
    where database = current_database() and prepared < clock_timestamp() - ${limit}::float8 * interval '1 millisecond'
    order by prepared limit 1)`
}

/**
 * A vacuum by its lock on the table, or on one that is part of it: what it is at is shown to few roles, locks to all; and that
 * nobody is logged in where the server itself works.
 */
function vacuums(oid: string): Sql {
  return sql`
    select distinct case when usesysid is null then 'autovacuum' else 'vacuum' end, relation::regclass::text, 0
    from pg_locks left join pg_stat_activity using (pid)
    where locktype = 'relation' and mode = 'ShareUpdateExclusiveLock' and granted
      and database = (select oid from pg_database where datname = current_database())
      and relation in (
        with recursive part(oid) as (
          select ${oid}::oid union all select inhrelid from pg_inherits join part on inhparent = part.oid
        )
        select oid from part
      )`
}
