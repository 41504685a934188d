/** The floor where psql is absent: one COPY statement over the wire. `out` archives and deletes, `in` puts back. */
import { createReadStream, createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'

import { Client } from 'pg'
import { from, to } from 'pg-copy-streams'

import { due } from './data.ts'

const [direction, address = '', file = ''] = process.argv.slice(2)
const client = new Client({ connectionString: address })
await client.connect()
if (direction === 'out') {
  const statement = `copy (delete from conversation_log where ${due} returning *) to stdout (format csv, header)`
  await pipeline(client.query(to(statement)), createWriteStream(file))
} else {
  await pipeline(createReadStream(file), client.query(from('copy conversation_log from stdin (format csv, header)')))
}
await client.end()
