/** The CSV of archives: what is written reads back the same, by us and by a reader of the tests' own. */
import { Readable } from 'node:stream'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import {
  byteOrderMark,
  formatRows,
  InvalidText,
  readHeader,
  readRecords,
  RecordCounter,
  type Cell,
  type Field,
} from '../src/archive/csv.ts'
import { parseRows } from '../src/archive/parse.ts'
import { archiveName, archiveOfManifest, manifestName, policyOfArchive } from '../src/archive/name.ts'
import { readCsv } from './support/archive.ts'

const test = suite('csv')

/** A text's bytes, cut where the seed says. */
async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function parseAll(bytes: Buffer, size = 7): Promise<Cell[][]> {
  const rows: Cell[][] = []
  for await (const some of parseRows(pieces(bytes, size))) rows.push(...some)
  return rows
}

const text = fc.string({ unit: 'binary' }).filter((value) => value.isWellFormed())
const nasty = fc.constantFrom(
  '',
  '"',
  '""',
  ',',
  '\n',
  '\r',
  '\r\n',
  '\ufeff',
  'NULL',
  '\\x00',
  '\\t00',
  '1',
  '1.0',
  'Infinity',
  '\\.',
  ' ',
  '한글 🎉',
)
const cell: fc.Arbitrary<Cell> = fc.oneof(
  fc.constant(null),
  text,
  nasty,
  fc.double({ noNaN: true }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.uint8Array().map((bytes) => new InvalidText(Buffer.from(bytes))),
)
const table = fc
  .integer({ min: 1, max: 5 })
  .chain((width) => fc.array(fc.array(cell, { minLength: width, maxLength: width }), { minLength: 1, maxLength: 10 }))

test('every storage class reads back as it was (property)', async () => {
  await fc.assert(
    fc.asyncProperty(table, fc.integer({ min: 1, max: 50 }), async (rows, size) => {
      const [first = []] = rows
      const header = first.map((_, index) => `c${index}`)
      // A row of one NULL is an empty line, which is not a record: one column has a header, and rows that are not empty.
      const bytes = Buffer.from(formatRows([header, ...rows]))
      const back = await parseAll(bytes, size)
      assert.equal(back, [header, ...rows])
    }),
    { numRuns: 300 },
  )
})

test('text and NULL are the same to any reader (property)', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.option(fc.oneof(text, nasty)), { minLength: 2, maxLength: 2 }), { minLength: 1 }),
      (rows) => {
        assert.equal(readCsv(formatRows(rows)), rows)
      },
    ),
  )
})

test('counts records whatever is in them, and however the bytes are cut (property)', async () => {
  await fc.assert(
    fc.asyncProperty(table, fc.integer({ min: 1, max: 20 }), async (rows, size) => {
      const counter = new RecordCounter()
      for await (const piece of pieces(Buffer.from(formatRows([['h'], ...rows])), size)) counter.update(piece)
      assert.is(counter.records, rows.length)
    }),
  )
})

test('numbers are not quoted, text always is, a REAL keeps its point', () => {
  assert.is(
    formatRows([
      [
        1n,
        1,
        -0,
        0.1,
        1e21,
        Infinity,
        -Infinity,
        '1',
        null,
        '',
        Buffer.from('A'),
        new InvalidText(Buffer.from([0xff])),
      ],
    ]),
    '1,1.0,-0.0,0.1,1e+21,Infinity,-Infinity,"1",,"",\\x41,\\tff\n',
  )
})

test('records as plain text tell NULL from the empty text, and from text without quotes', async () => {
  const records: [string, boolean][][] = []
  for await (const record of readRecords(Readable.from([Buffer.from('a,b,c,d\n,"",x,"y"\n')]))) {
    records.push(record.map((field) => [field.text, field.isNull]))
  }
  assert.equal(records[1], [
    ['', true],
    ['', false],
    ['x', false],
    ['y', false],
  ])
})

test('the header, with and without a byte order mark', async () => {
  for (const header of ['id,"a ""b""","c,d"\n', '"id","a ""b""","c,d"\n1,2,3\n']) {
    assert.equal(await readHeader(Readable.from([Buffer.from(header)])), ['id', 'a "b"', 'c,d'])
    assert.equal(await readHeader(Readable.from([byteOrderMark, Buffer.from(header)])), ['id', 'a "b"', 'c,d'])
  }
  await rejects(readHeader(Readable.from([])), /The archive is empty/)
})

test('rows are the records that another parser finds, and never where it refuses (property)', async () => {
  const piece = fc.oneof(
    fc.constantFrom('"', '""', ',', '\n', '\r', ' ', '1', '-2', '\ufeff', '"a"', '"a,\n""b"', '\\x00', '한', '🎉'),
    fc.string({ unit: 'binary', maxLength: 3 }).filter((value) => value.isWellFormed()),
  )
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 12 }), fc.integer({ min: 1, max: 9 }), async (parts, size) => {
      const bytes = Buffer.from(`${parts.join('')}\n`)
      // Text without quotes is a record's for the other parser, and for this one no value of SQLite's.
      const rows = await parseAll(bytes, size).catch(() => undefined)
      if (rows === undefined) return
      accepted += 1
      const records: Field[][] = []
      for await (const record of readRecords(pieces(bytes, size))) records.push([...record])
      const seen = (value: Cell | undefined, field: Field): unknown =>
        typeof value === 'string' ? field.text : field.isNull
      assert.equal(
        rows.map((row) => row.map((value) => (typeof value === 'string' ? value : value === null))),
        records.map((record, index) => record.map((field, at) => seen(rows[index]?.[at], field))),
      )
    }),
    { numRuns: 3000 },
  )
  assert.ok(accepted > 100)
})

test('a record that is longer than any piece of it (property)', async () => {
  const long = `a"${'한글 🎉 x'.repeat(20_000)}`
  for (const size of [1000, 16_384, 65_537]) {
    assert.equal(await parseAll(Buffer.from(formatRows([['c'], [long], ['z'], [long]])), size), [
      ['c'],
      [long],
      ['z'],
      [long],
    ])
  }
})

test('what is no such CSV is refused: any bytes, without a crash (property)', async () => {
  for (const [bytes, message] of [
    ['a,b\n"x\n', /ends in the middle of a record/],
    ['a,b\n1,2', /ends in the middle of a record/],
    ['a,b\n1,"2"', /ends in the middle of a record/],
    ['a,b\n1\n', /records differ in length/],
    ['a,b\n1,2,3\n', /records differ in length/],
    ['a,b\nx,y\n', /neither quoted text nor a number/],
    ['a,b\n"x"y,1\n', /something follows a closing quote/],
    ['a,b\n1"2",1\n', /a quote in a field that does not begin with one/],
    ['a,b\n1,\\xgg\n', /neither quoted text nor a number/],
  ] as const) {
    await rejects(parseAll(Buffer.from(bytes.replace('a,b', '"a","b"'))), message)
  }
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      await parseAll(Buffer.from(bytes)).catch((error: unknown) =>
        assert.is((error as { code?: string }).code, 'ARCHIVE_CHANGED', String(error)),
      )
    }),
  )
})

test('names', () => {
  assert.equal(
    [1, 2, 10, 12345].map((number) => archiveName('log_backup_20260516', number)),
    [
      'log_backup_20260516.csv',
      'log_backup_20260516_0002.csv',
      'log_backup_20260516_0010.csv',
      'log_backup_20260516_12345.csv',
    ],
  )
  assert.is(archiveOfManifest(manifestName('a.csv')), 'a.csv')
  assert.is(archiveOfManifest('a.csv'), undefined)
  for (const [name, policy] of [
    ['log_backup_20260516.csv', 'log'],
    ['log_backup_20260516_0002.csv', 'log'],
    ['log_backup_20260516.csv.manifest.json', 'log'],
    ['.log_backup_20260516.csv.0123456789ab.tmp', 'log'],
    ['a_backup_20260101_backup_20260516.csv', 'a_backup_20260101'],
    ['README.md', undefined],
    ['log.csv', undefined],
  ] as const) {
    assert.is(policyOfArchive(name), policy, name)
  }
})

test.run()

async function rejects(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.match(String(error), message)
}
