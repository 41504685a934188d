/**
 * Another program at work on the log while it is archived: inserts, updates and deletes, each in a transaction of its own,
 * until it is told to stop; then it says what it has done. Run as a process, as a SQLite connection would wait for itself.
 */
import Sqlite from 'better-sqlite3'
import { Client } from 'pg'

/** What a writer has done, each of it committed. */
export interface Written {
  /** Rows by their number. */
  readonly inserted: number[]
  readonly deleted: number[]
  /** How often each row was updated; every time its body grows by a dot. */
  readonly updated: Record<number, number>
  /** How often the table's form was changed, and changed back. */
  migrated: number
}

const [address = '', name = '1', action = 'write'] = process.argv.slice(2)
const first = Number(name) * 1_000_000
const written: Written = { inserted: [], deleted: [], updated: {}, migrated: 0 }

interface Connection {
  /** Runs a statement that returns numbers of rows. */
  numbers(statement: string): Promise<number[]>
  end(): Promise<void>
}

async function connect(): Promise<Connection> {
  if (address.startsWith('sqlite:')) {
    const db = new Sqlite(address.replace('sqlite:', ''), { timeout: 10_000 })
    return {
      // The column is a whole number, and so is what it gives.
      numbers: async (statement) =>
        statement.startsWith('alter') ? (db.exec(statement), []) : (db.prepare(statement).pluck().all() as number[]),
      end: async () => void db.close(),
    }
  }
  const client = new Client({ connectionString: address })
  await client.connect()
  return {
    numbers: async (statement) => {
      const result = await client.query<{ id: string }>(statement)
      return result.rows.map(({ id }) => Number(id))
    },
    end: async () => client.end(),
  }
}

const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())

const db = await connect()
for (let n = 0; !stop.signal.aborted; n += 1) {
  const some = `(select id from log order by abs(id * 7919 + ${n} * 104729) % 1009 limit 1)`
  try {
    if (action === 'migrate') {
      await db.numbers('alter table log add column extra text')
      await db.numbers('alter table log rename column extra to more')
      await db.numbers('alter table log drop column more')
      written.migrated += 1
    } else if (n % 3 === 0) {
      const at = n % 2 === 0 ? '2020-06-01T00:00:00Z' : '2099-01-01T00:00:00Z'
      written.inserted.push(
        ...(await db.numbers(`insert into log (id, at, body) values (${first + n}, '${at}', '') returning id`)),
      )
    } else if (n % 3 === 1) {
      for (const id of await db.numbers(`update log set body = body || '.' where id = ${some} returning id`)) {
        written.updated[id] = (written.updated[id] ?? 0) + 1
      }
    } else if (n % 9 === 2) {
      written.deleted.push(...(await db.numbers(`delete from log where id = ${some} returning id`)))
    }
  } catch (error) {
    // Apply may be in the way, as it may be in anybody's; what failed was not done.
    if (!/lock|busy|deadlock|could not serialize/i.test(String(error))) throw error
  }
  await new Promise((resolve) => {
    setTimeout(resolve, action === 'migrate' ? 20 : 2)
  })
}
await db.end()
process.stdout.write(JSON.stringify(written satisfies Written))
