/**
 * Another program at work on the log, as an application would be: inserts of single rows and reads by key, in turn, at a
 * fixed pace, on the connections that a pool has by default. Each operation's time runs from when it was due, so that one
 * that waits behind others has waited. Says `ready` when it begins; when its stdin ends, what each operation took.
 */
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises'

import Sqlite from 'better-sqlite3'
import { Pool } from 'pg'

/** What the writer tells in the end. */
export interface Written {
  /** When each operation was due, in milliseconds since 1970, and how many milliseconds after that it was done. */
  readonly operations: [due: number, took: number][]
  /** How many were given up, as the database was locked for longer than the writer waits. */
  readonly failed: number
}

/** How long a SQLite connection waits for a lock, in milliseconds. */
const busyTimeout = 10_000
const connections = 10

interface Log {
  read(id: number): Promise<void>
  insert(row: readonly unknown[]): Promise<void>
  end(): Promise<void>
}

const address = process.argv[2] ?? ''
/** The log's rows, and how many operations there are in a second. */
const [rows = 0, pace = 0] = process.argv.slice(3).map(Number)
const stop = new AbortController()
process.stdin.on('end', () => stop.abort()).resume()

const log = address.startsWith('postgres') ? await openPostgres() : openSqlite()
const operations: Written['operations'] = []
let failed = 0
const pending: Promise<void>[] = []
process.stdout.write('ready\n')
const start = performance.now()
for (let n = 0; !stop.signal.aborted; n += 1) {
  const due = start + (n * 1000) / pace
  await until(due)
  pending.push(timed(due, n))
}
await Promise.all(pending)
await log.end()
process.stdout.write(JSON.stringify({ operations, failed } satisfies Written))

/** Timers keep to whole milliseconds; the rest goes by in turns of the event loop. */
async function until(due: number): Promise<void> {
  do {
    const left = due - performance.now()
    await (left >= 1 ? sleep(Math.floor(left)) : immediate())
  } while (performance.now() < due)
}

async function timed(due: number, n: number): Promise<void> {
  try {
    // Rows that are not due, all over that half of the table.
    if (n % 2 === 0) await log.read(rows / 2 + 1 + ((n * 7919) % (rows / 2)))
    else await log.insert(row(n))
  } catch (error) {
    if (!/lock|busy/i.test(String(error))) throw error
    failed += 1
  }
  operations.push([performance.timeOrigin + due, performance.now() - due])
}

function row(n: number): readonly unknown[] {
  const at = new Date(Date.UTC(2036, 0, 1) + n * 1000).toISOString().replace('.000Z', 'Z')
  return [rows + 1 + n, n % 1000, 'user', `A new message, number ${n}`, JSON.stringify({ n }), 0.01, at]
}

async function openPostgres(): Promise<Log> {
  const pool = new Pool({ connectionString: address, max: connections })
  const opened = await Promise.all(Array.from({ length: connections }, async () => pool.connect()))
  for (const client of opened) client.release()
  return {
    read: async (id) => {
      await pool.query({ name: 'read', text: 'select * from conversation_log where id = $1', values: [id] })
    },
    insert: async (values) => {
      const text = 'insert into conversation_log values ($1, $2, $3, $4, $5, $6, $7)'
      await pool.query({ name: 'insert', text, values: [...values] })
    },
    end: async () => pool.end(),
  }
}

function openSqlite(): Log {
  const db = new Sqlite(address, { timeout: busyTimeout })
  const reading = db.prepare('select * from conversation_log where id = ?')
  const inserting = db.prepare('insert into conversation_log values (?, ?, ?, ?, ?, ?, ?)')
  return {
    read: async (id) => void reading.get(id),
    insert: async (values) => void inserting.run(...values),
    end: async () => void db.close(),
  }
}
