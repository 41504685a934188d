/** Connections to Postgres: where to, with which settings pinned, and what their errors mean. */
import { Kysely, PostgresDialect, sql } from 'kysely'
import { DatabaseError, Pool, type PoolClient, type QueryResult } from 'pg'

import { codeOf, messageOf, RetentionError } from '../../errors.ts'
import type { Db, Sql } from '../database.ts'
import { withLiterals } from './literal.ts'
import { OtherWriters } from './other-writers.ts'
import { LendingSocket } from './socket.ts'

/** Time limits, in milliseconds. */
export interface Limits {
  /** How long to wait for a lock. */
  readonly lock: number
  /** How long one statement, or the pause between two, may take. */
  readonly step: number
}

/**
 * Every setting that our queries or the form of values depend on, pinned for the length of a transaction, so that it
 * holds behind a transaction pooler too, whatever the role, the database or the server are set to.
 * See https://www.postgresql.org/docs/current/runtime-config-client.html
 */
const pinned: Readonly<Record<string, string>> = {
  // Rows hidden by a policy would be skipped in silence; `off` makes that an error.
  row_security: 'off',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  TimeZone: 'UTC',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  // Floating point numbers in the shortest form that reads back to the same bits.
  extra_float_digits: '1',
  bytea_output: 'hex',
  lc_monetary: 'C',
  xmloption: 'content',
  transform_null_equals: 'off',
  array_nulls: 'on',
  jit: 'off',
}

/** A connection in a transaction of its own. */
export class Transaction {
  readonly client: PoolClient
  /** Runs Kysely's queries on this very connection. */
  readonly db: Db
  /** Set while a COPY stream is under way, during which the connection takes no other command. */
  isCopying = false
  #over = false

  private constructor(client: PoolClient) {
    this.client = client
    this.db = kyselyOn(client)
  }

  static async begin(
    connections: Connections,
    mode: 'read only' | 'read write' | 'one snapshot',
    limits?: Limits,
  ): Promise<Transaction> {
    const client = await connections.connect()
    const transaction = new Transaction(client)
    try {
      // In one message: a role may be set to end transactions that wait for the next.
      const pin = withLiterals(pinning(connections.serverVersion, limits ?? connections.limits))
      const isolation = mode === 'one snapshot' ? 'REPEATABLE READ READ ONLY' : `READ COMMITTED ${mode.toUpperCase()}`
      const start = `START TRANSACTION ISOLATION LEVEL ${isolation}; ${pin}`
      if (mode === 'read write') connections.otherWriters.own(await numbered(client, start))
      else await client.query(start)
      return transaction
    } catch (error) {
      await transaction.rollback()
      throw postgresError(error)
    }
  }

  /** Where it fails, whether it was committed is not known: no error says so for certain. */
  async commit(): Promise<void> {
    let answer: string
    try {
      answer = (await this.client.query('COMMIT')).command
    } catch (error) {
      this.#end(true)
      throw postgresError(error)
    }
    this.#end(false)
    // A transaction in which something failed ends in a rollback even when COMMIT is asked for, and that is no error.
    if (answer !== 'COMMIT') throw new RetentionError('DATABASE_FAILED', `COMMIT was answered with ${answer}`)
  }

  /** Undoes everything; a connection that cannot do so is cut, which makes the server do it. Never throws. */
  async rollback(): Promise<void> {
    if (this.#over) return
    const undone = this.isCopying
      ? false
      : await this.client.query('ROLLBACK').then(
          () => true,
          () => false,
        )
    this.#end(!undone)
  }

  #end(cut: boolean): void {
    if (this.#over) return
    this.#over = true
    this.client.release(cut)
  }
}

/** The connections to one database. */
export class Connections {
  readonly limits: Limits
  readonly otherWriters = new OtherWriters()
  readonly #pool: Pool
  readonly #location: string
  /** As `server_version_num`: 180000 for version 18. Known after the first `connect`. */
  serverVersion = 0

  constructor(address: string, location: string, limits: Limits) {
    this.limits = limits
    this.#location = location
    this.#pool = new Pool({
      connectionString: address,
      application_name: 'retention',
      stream: () => new LendingSocket(),
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      // Each of up to eight lanes holds one, and now and then asks for another; so does a lock.
      max: 20,
    })
    // A connection that breaks while idle is replaced at the next use; without a listener it would end the process.
    this.#pool.on('error', () => {})
  }

  async connect(): Promise<PoolClient> {
    let client: PoolClient | undefined
    try {
      client = await this.#pool.connect()
      // The same while a connection is held: what was running on it fails with the error, which is where it is told.
      if (client.listenerCount('error') === 0) client.on('error', () => {})
      this.serverVersion ||= await serverVersion(client)
      return client
    } catch (error) {
      // A pooler may accept us though the server behind it does not answer.
      client?.release(true)
      throw new RetentionError('DATABASE_UNREACHABLE', `Cannot connect to ${this.#location}: ${messageOf(error)}`, {
        hint: 'Check "database" in the config, or DATABASE_URL, and that the server accepts connections from here.',
        cause: error,
      })
    }
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }
}

/** The address without user, password and parameters. */
export function postgresLocation(address: string): string {
  try {
    const url = new URL(address)
    // A password that was not escaped may have come to be a part of any other part.
    if (url.pathname.includes('@')) return 'postgres'
    return `postgres://${url.host || 'localhost'}${url.pathname}`
  } catch {
    return 'postgres'
  }
}

/** An error of Postgres as one of ours. */
export function postgresError(error: unknown): RetentionError {
  if (error instanceof RetentionError) return error
  const code = codeOf(error)
  // https://www.postgresql.org/docs/current/errcodes-appendix.html
  switch (code) {
    case '55P03': // lock_not_available
    case '40P01': // deadlock_detected
    case '40001': // serialization_failure
      return new RetentionError('DATABASE_BUSY', `Postgres: ${messageOf(error)}`, {
        hint:
          'Another transaction holds the table or its rows. Run again later, or raise "lockTimeout". ' +
          'A role with UPDATE on the table passes over single rows that others hold.',
        cause: error,
      })
    case '57014': // query_canceled
      return new RetentionError('DATABASE_FAILED', `Postgres: ${messageOf(error)}`, {
        hint: 'A smaller "batch" makes steps shorter; "stepTimeout" in the config lets them take longer.',
        cause: error,
      })
    case '42501': // insufficient_privilege
      return new RetentionError('DATABASE_FAILED', `Postgres: ${messageOf(error)}`, {
        hint: 'The README lists the exact GRANTs that each command needs.',
        cause: error,
      })
    default:
      if (isDisconnection(code, error)) {
        return new RetentionError('DATABASE_UNREACHABLE', `Postgres: ${messageOf(error)}`, {
          hint: 'The connection broke. What was not committed has been rolled back; run again when the server is there.',
          cause: error,
        })
      }
      return new RetentionError('DATABASE_FAILED', `Postgres: ${messageOf(error)}${detail(error)}`, {
        ...(messageOf(error).startsWith('no partition of relation') ? { hint: noPartition } : {}),
        cause: error,
      })
  }
}

const noPartition =
  'Make one for these rows first; where it was dropped with them, the manifest has how it was made under "partition".'

/** Whether an error says that the connection, and not what was sent over it, is at fault. */
function isDisconnection(code: string | undefined, error: unknown): boolean {
  // Classes 08 and 57P are Postgres's; the driver says the rest in words alone.
  return (
    /^(08|57P0|E(CONN|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH))/.test(code ?? '') ||
    /^(Connection terminated|Client (was closed|has encountered a connection error))/.test(messageOf(error))
  )
}

/** Which rows a foreign key complains about; other details may quote whole rows, and are left out. */
function detail(error: unknown): string {
  if (!(error instanceof DatabaseError) || error.code !== '23503') return ''
  return error.detail === undefined ? '' : ` (${error.detail})`
}

function pinning(version: number, limits: Limits): Sql {
  const settings = {
    ...pinned,
    lock_timeout: String(limits.lock),
    statement_timeout: String(limits.step),
    idle_in_transaction_session_timeout: String(limits.step),
    ...(version >= 170000 ? { transaction_timeout: '0' } : {}),
  }
  const rows = Object.entries(settings).map(([name, value]) => sql`(${name}, ${value})`)
  return sql`
    select set_config(name, value, true) from (values ${sql.join(rows)}) as setting(name, value)
    union all
    -- A commit must be on the disk when it is answered. Where the server asks for more than that, it keeps more.
    select set_config('synchronous_commit', 'on', true)
    where current_setting('synchronous_commit') <> 'remote_apply'
  `
}

/** Starts a transaction, and has it take the number that it would take with the first row that it writes. */
async function numbered(client: PoolClient, start: string): Promise<bigint> {
  // Several statements have several results.
  const results = (await client.query(`${start}; select pg_current_xact_id()::text as number`)) as unknown
  return BigInt((results as readonly QueryResult<{ number: string }>[]).at(-1)?.rows[0]?.number ?? 0)
}

async function serverVersion(client: PoolClient): Promise<number> {
  const { rows } = await client.query<{ version: string }>(`select current_setting('server_version_num') as version`)
  return Number(rows[0]?.version)
}

/** Kysely on one connection that is already ours: what it runs is inside our transaction, and its errors are ours. */
function kyselyOn(client: PoolClient): Db {
  const query = async (text: string, parameters: readonly unknown[]): Promise<QueryResult> =>
    client.query(text, [...parameters]).catch((error: unknown) => {
      throw postgresError(error)
    })
  // Kysely asks a pool for a client and gives it back; ours stays with the transaction.
  const held = { query, release: () => {} } as unknown as PoolClient
  return new Kysely<unknown>({
    dialect: new PostgresDialect({ pool: { options: {}, connect: async () => held, end: async () => {} } }),
  })
}
