/** The everyday script that `retention` replaces: select everything old, write a CSV, delete. */
import { writeFileSync } from 'node:fs'

import Sqlite from 'better-sqlite3'
import { stringify } from 'csv-stringify/sync'
import { Client } from 'pg'

import { cutoff } from './data.ts'

const [address = '', file = ''] = process.argv.slice(2)
if (address.startsWith('postgres')) {
  const client = new Client({ connectionString: address })
  await client.connect()
  const { rows } = await client.query('select * from conversation_log where created_at < $1', [cutoff])
  write(rows)
  await client.query('delete from conversation_log where created_at < $1', [cutoff])
  await client.end()
} else {
  const db = new Sqlite(address)
  write(db.prepare('select * from conversation_log where created_at < ?').all(cutoff))
  db.prepare('delete from conversation_log where created_at < ?').run(cutoff)
  db.close()
}

function write(rows: readonly unknown[]): void {
  // A text of more than half a gigabyte is more than JavaScript can hold: even the everyday script writes it in parts.
  writeFileSync(file, '')
  for (let at = 0; at < rows.length; at += 100_000) {
    writeFileSync(file, stringify(rows.slice(at, at + 100_000), { header: at === 0 }), { flag: 'a' })
  }
}
