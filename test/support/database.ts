/** Databases for tests: a fresh one of each kind, used from outside with SQL and drivers of the tests' own. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import Sqlite from 'better-sqlite3'
import { Client } from 'pg'

import { keepEmptied, takeAllEmptied, takeEmptied } from './emptied.ts'

/** A database that a test may do anything to. */
export interface TestDatabase {
  readonly kind: 'postgres' | 'sqlite'
  /** As a config's `database`. */
  readonly address: string
  /** Runs statements. */
  run(statements: string, parameters?: readonly unknown[]): Promise<void>
  /** A query's rows, each an array. */
  rows(query: string): Promise<unknown[][]>
  /** A query's one value. */
  value(query: string): Promise<unknown>
  /** All rows of a table as text that tells any two different rows apart, sorted: to compare whole tables by. */
  dump(table: string): Promise<string[]>
  drop(): Promise<void>
}

export type Kind = TestDatabase['kind']

/** Both kinds: every database test runs over both. */
export const kinds: readonly Kind[] = ['sqlite', 'postgres']

/** A new, empty database. */
export async function createDatabase(kind: Kind): Promise<TestDatabase> {
  return kind === 'sqlite' ? createSqlite() : createPostgres()
}

function createSqlite(): TestDatabase {
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-sqlite-'))
  const db = connectToSqlite(path.join(folder, 'test.db'))
  return {
    ...db,
    drop: async () => {
      await db.drop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A SQLite file that is there already; dropping it ends the connection. */
export function connectToSqlite(file: string): TestDatabase {
  const db = new Sqlite(file)
  db.defaultSafeIntegers(true)
  return {
    kind: 'sqlite',
    address: `sqlite:${file}`,
    run: async (statements, parameters) => {
      if (parameters === undefined) db.exec(statements)
      else db.prepare(statements).run(...parameters)
    },
    rows: async (query) => db.prepare(query).raw(true).all() as unknown[][],
    value: async (query) => db.prepare(query).pluck(true).get(),
    dump: async (table) => dumpSqlite(db, table),
    drop: async () => {
      db.close()
    },
  }
}

/** Storage class and exact bytes of every value. */
function dumpSqlite(db: Sqlite.Database, table: string): string[] {
  const columns = db
    .prepare(`select name from pragma_table_xinfo(?) where hidden <> 1`)
    .pluck(true)
    .all(table) as string[]
  const cell = (name: string): string => {
    const quoted = `"${name.replaceAll('"', '""')}"`
    return `typeof(${quoted}) || ':' || case typeof(${quoted}) when 'real' then printf('%!.26g', ${quoted}) when 'null' then '' else hex(cast(${quoted} as blob)) end`
  }
  const query = `select ${columns.map(cell).join(` || '|' || `)} from "${table.replaceAll('"', '""')}"`
  return (db.prepare(query).pluck(true).all() as string[]).toSorted()
}

const { TEST_POSTGRES: clusterAddress = '' } = process.env

async function createPostgres(): Promise<TestDatabase> {
  const address = takeEmptied() ?? (await newPostgres())
  const db = await connectTo(address)
  return {
    ...db,
    drop: async () => {
      await db.drop()
      if (!(await keepEmptied(address))) await dropPostgres(address)
    },
  }
}

async function newPostgres(): Promise<string> {
  const name = `test_${randomBytes(6).toString('hex')}`
  await onCluster(`create database ${name} template template0`)
  return clusterAddress.replace(/\/postgres$/, `/${name}`)
}

async function dropPostgres(address: string): Promise<void> {
  await onCluster(`drop database if exists ${new URL(address).pathname.slice(1)} with (force)`)
}

// The server may be somebody's own.
process.once('beforeExit', () => void Promise.all(takeAllEmptied().map(dropPostgres)))

/** A Postgres database that is there already; dropping it ends the connection. */
export async function connectTo(address: string): Promise<TestDatabase> {
  const client = new Client({ connectionString: address })
  // Of a server that is stopped in a test.
  client.on('error', () => {})
  await client.connect()
  const rows = async (query: string): Promise<unknown[][]> =>
    (await client.query<unknown[]>({ text: query, rowMode: 'array' })).rows
  return {
    kind: 'postgres',
    address,
    run: async (statements, parameters) => {
      await client.query(statements, parameters === undefined ? undefined : [...parameters])
    },
    rows,
    value: async (query) => (await rows(query))[0]?.[0],
    // A whole row in Postgres's own words; extra_float_digits makes them exact.
    dump: async (table) => {
      await client.query(
        "set extra_float_digits = 1; set bytea_output = 'hex'; set timezone = 'UTC'; set datestyle = 'ISO'",
      )
      const quoted = table
        .split('.')
        .map((part) => `"${part.replaceAll('"', '""')}"`)
        .join('.')
      return (await rows(`select t::text from ${quoted} t`)).map(([row]) => String(row)).toSorted()
    },
    drop: async () => client.end(),
  }
}

/** Returns when no run is connected any more: of one that was killed, a server first ends what it was doing for it. */
export async function untilAlone(db: TestDatabase): Promise<void> {
  if (db.kind === 'sqlite') return
  const query = `select count(*) from pg_stat_activity where application_name = 'retention' and datname = current_database()`
  for (let wait = 0; Number(await db.value(query)) > 0; wait += 1) {
    if (wait > 3000) throw new Error('a server process of a client that is gone does not end')
    await sleep(10)
  }
}

/** Runs a statement on the cluster itself. */
export async function onCluster(statement: string): Promise<void> {
  const client = new Client({ connectionString: clusterAddress })
  await client.connect()
  await client.query(statement)
  await client.end()
}
