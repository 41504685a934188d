/** The databases that are measured: how the log is made in each, copied, asked and dropped. */
import { closeSync, copyFileSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import path from 'node:path'

import Sqlite from 'better-sqlite3'
import { Client } from 'pg'

import { startCluster } from '../test/support/cluster.ts'
import { fillPostgres, fillSqlite } from './data.ts'

export type Kind = 'postgres' | 'sqlite'

/** A database with the log in it, and a folder of its own to write to. */
export interface Copy {
  /** `postgres://…`, or a SQLite file. */
  readonly address: string
  readonly folder: string
}

/** One kind of database. */
export interface Database {
  readonly kind: Kind
  /** Its name and version, and how it is set up. */
  readonly about: string
  /** Makes a log of as many rows. */
  make(rows: number): Promise<Copy>
  /** A fresh copy, on the disk: nobody who is measured pays for the copying. */
  copy(source: Copy): Promise<Copy>
  drop(copy: Copy): Promise<void>
  /** Brings what was written to the disk, so that the next one does not pay for it. */
  settle(): Promise<void>
  /** The numbers in the one row that a query gives. */
  ask(copy: Copy, query: string): Promise<number[]>
  close(): Promise<void>
}

/** What a Postgres server has of itself, where the cluster that the tests use has something else. */
const serverDefaults = [
  'shared_buffers=128MB',
  'max_wal_size=1GB',
  'wal_level=replica',
  'max_connections=100',
  'max_prepared_transactions=0',
]

/** A Postgres server of its own, with the settings that a server has by default. @param work a folder for the copies */
export async function openPostgres(work: string): Promise<Database> {
  const cluster = await startCluster(serverDefaults)
  const addressOf = (database: string): string => cluster.address.replace(/\/postgres$/, `/${database}`)
  const settle = async (): Promise<void> => void (await query(cluster.address, 'checkpoint'))
  let made = 0
  const create = async (from: string): Promise<Copy> => {
    const name = `bench_${(made += 1)}`
    await query(cluster.address, `create database ${name} ${from}`)
    return { address: addressOf(name), folder: folderIn(work) }
  }
  const [version] = await query(cluster.address, 'show server_version')
  return {
    kind: 'postgres',
    about: `PostgreSQL ${String(version)}, every setting at its default`,
    make: async (rows) => {
      const source = await create('')
      await fillPostgres(source.address, rows)
      return source
    },
    copy: async (source) => {
      const copy = await create(`template ${nameOf(source)}`)
      await settle()
      return copy
    },
    drop: async (copy) => {
      rmSync(copy.folder, { recursive: true })
      await query(cluster.address, `drop database ${nameOf(copy)} with (force)`)
    },
    settle,
    ask: async ({ address }, statement) => (await query(address, statement)).map(Number),
    close: async () => cluster.stop(),
  }
}

/** SQLite files, in WAL mode. @param work a folder for them */
export function openSqlite(work: string): Database {
  return {
    kind: 'sqlite',
    about: `SQLite ${sqliteVersion()} (the sqlite3 shell has its own), files in WAL mode`,
    make: async (rows) => {
      const folder = folderIn(work)
      const address = path.join(folder, 'bench.db')
      fillSqlite(address, rows)
      sync(address)
      return { address, folder }
    },
    copy: async (source) => {
      const folder = folderIn(work)
      const address = path.join(folder, 'bench.db')
      copyFileSync(source.address, address)
      sync(address)
      return { address, folder }
    },
    drop: async ({ folder }) => rmSync(folder, { recursive: true }),
    settle: async () => {},
    ask: async ({ address }, statement) => {
      const db = new Sqlite(address)
      // What is asked for are numbers.
      const row = db.prepare(statement).raw().get() as number[]
      db.close()
      return row
    },
    close: async () => {},
  }
}

function sqliteVersion(): string {
  const db = new Sqlite(':memory:')
  const version = String(db.prepare('select sqlite_version()').pluck().get())
  db.close()
  return version
}

function folderIn(work: string): string {
  const folder = mkdtempSync(path.join(work, 'copy-'))
  mkdirSync(path.join(folder, 'policies'))
  return folder
}

function sync(file: string): void {
  const opened = openSync(file, 'r+')
  fsyncSync(opened)
  closeSync(opened)
}

function nameOf({ address }: Copy): string {
  return new URL(address).pathname.slice(1)
}

/** The first row of what a statement gives. */
async function query(address: string, statement: string): Promise<unknown[]> {
  const client = new Client({ connectionString: address })
  await client.connect()
  try {
    const { rows } = await client.query<unknown[]>({ text: statement, rowMode: 'array' })
    return rows[0] ?? []
  } finally {
    await client.end()
  }
}
