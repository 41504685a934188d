/** COPY off the wire: however its messages are cut, the same bytes come out, and what is pg's goes to pg. */
import { setImmediate as immediate } from 'node:timers/promises'
import { PassThrough } from 'node:stream'

import fc from 'fast-check'
import { Client, type Connection } from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { CopyReader } from '../src/database/postgres/copy-reader.ts'

const test = suite('copy-reader')

/** A message of the server. https://www.postgresql.org/docs/current/protocol-message-formats.html */
function message(code: string, content: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(content)
  const header = Buffer.from(`${code}....`)
  header.writeUInt32BE(bytes.length + 4, 1)
  return Buffer.concat([header, bytes])
}

const [begins, done, notice, failed] = [
  message('H', '\0\0\0'),
  message('c'),
  message('N', 'S…\0\0'),
  message('E', 'no\0'),
]

/** Reads what a server sends, in pieces of some sizes; `pg` is what was left to pg. */
async function read(
  sent: readonly Buffer[],
  sizes: readonly number[],
): Promise<{ copy: CopyReader; csv: Buffer; pg: Buffer }> {
  const stream = new PassThrough()
  const left: Buffer[] = []
  stream.on('data', (bytes: Buffer) => {
    left.push(bytes)
    if (bytes.includes('E')) copy.handleError(new Error('no'))
  })
  const copy = new CopyReader('copy')
  // All that it uses of a connection.
  copy.submit({ stream, query: () => {} } as unknown as Connection)
  const bytes = Buffer.concat(sent)
  const feeding = (async () => {
    for (let at = 0, n = 0; at < bytes.length; n += 1) {
      const size = sizes[n % sizes.length] ?? 1
      stream.write(bytes.subarray(at, at + size))
      at += size
      if (n % 50 === 0) await immediate()
    }
  })()
  const blocks: Buffer[] = []
  for await (const block of copy.blocks(undefined)) blocks.push(Buffer.from(block))
  await feeding
  await immediate()
  return { copy, csv: Buffer.concat(blocks), pg: Buffer.concat(left) }
}

test('every byte comes out, rows are counted, and the rest is left to pg (property)', async () => {
  const row = fc.string({ maxLength: 40 }).map((text) => Buffer.from(`${text}\n`))
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 }),
      fc.nat(30),
      async (rows, sizes, at) => {
        const lines = [Buffer.from('header\n'), ...rows]
        const data = lines.map((line) => message('d', line)).toSpliced(at, 0, notice)
        const end = [done, message('C', 'COPY 1\0'), message('Z', 'T')]
        const { copy, csv, pg } = await read([begins, ...data, ...end], sizes)
        assert.is(csv.toString(), Buffer.concat(lines).toString())
        assert.is(copy.records, rows.length)
        assert.equal(pg, Buffer.concat(end))
      },
    ),
  )
})

test('blocks are filled, while the connection waits until each has been taken', async () => {
  const line = Buffer.from(`${'x'.repeat(99_999)}\n`)
  const { csv, copy } = await read([begins, ...Array.from({ length: 40 }, () => message('d', line)), done], [65_536])
  assert.is(csv.length, 4_000_000)
  assert.is(copy.records, 39)
})

test('a row that is two messages is not one record', async () => {
  const parts = ['header\n', 'a,"', 'b"\n', 'c,d\n'].map((text) => message('d', text))
  const { copy, csv } = await read([begins, ...parts, done], [7])
  assert.is(csv.toString(), 'header\na,"b"\nc,d\n')
  assert.is(copy.records, 2)
})

test('an error in the middle ends it, and is told to whoever reads', async () => {
  const sent = [begins, message('d', 'header\n'), failed]
  const error = await read(sent, [1000]).catch((reason: unknown) => reason)
  assert.match(String(error), /no/)
})

test('a connection that somebody else reads from is told of, and stays usable', async () => {
  const client = new Client({ connectionString: process.env.TEST_POSTGRES })
  await client.connect()
  // Its types leave it out.
  const { stream } = (client as unknown as { connection: Connection }).connection
  const other = (): void => {}
  stream.on('data', other)
  const { message: told } = await client
    .query(new CopyReader('copy (select 1) to stdout'))
    .blocks(undefined)
    .next()
    .then(
      () => new Error('not told'),
      (error: Error) => error,
    )
  assert.match(told, /in a new way/)
  stream.off('data', other)
  assert.is((await client.query('select 1')).rowCount, 1)
  await client.end()
})

test.run()
