/** Lossless on SQLite: restore(apply(table)) = table, for every storage class in every kind of column. */
import { readFileSync } from 'node:fs'
import path from 'node:path'

import Sqlite from 'better-sqlite3'
import fc from 'fast-check'
import { sql } from 'kysely'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { formatRows, InvalidText, type Cell } from '../src/archive/csv.ts'
import { declaredCollations } from '../src/database/sqlite/collations.ts'
import { connect, sqliteFile } from '../src/database/sqlite/connection.ts'
import { csvPieces } from '../src/database/sqlite/pieces.ts'
import { csvQuery } from '../src/database/sqlite/rows.ts'
import { findTable, orderPart } from '../src/database/sqlite/table.ts'
import { apply, plan, restore } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import { timesOf } from './support/depth.ts'
import { erasableRows } from './support/erasable.ts'
import { redactTrip } from './support/redact.ts'
import { now, overDatabases, type Scene } from './support/scene.ts'

const test = suite('types on SQLite')

/** Archives a table whole and puts it back, and asserts that it is the same; `at` ages its rows. */
async function roundTrip({ db, project }: Scene, table: string): Promise<string> {
  const before = await db.dump(table)
  assert.ok(before.length > 0)
  const { folder } = project({ it: { table: `"${table}"`, column: 'at', days: 30 } })
  const [report] = (await apply({ cwd: folder, now })).policies
  assert.is(report?.archived, before.length, report?.error?.message)
  assert.equal(await db.dump(table), [])
  assert.is(await erasableRows(folder, 'it', report?.archives), before.length)
  for (const { name } of report?.archives ?? []) {
    // Chosen among, rows go another way, through columns with types.
    const chosen = await restore({ cwd: folder, file: name, now, where: 'true', dryRun: true })
    assert.is(chosen.state, 'restored')
    await restore({ cwd: folder, file: name, now })
  }
  assert.equal(await db.dump(table), before)
  return folder
}

const old = "'2020-02-29T12:34:56Z'"

/** A value of every storage class, and of those that look like another. */
const values = [
  'null',
  "''",
  "'text'",
  "'123'",
  "'1.5'",
  "'1e5'",
  "'-0'",
  "' 12 '",
  "'NULL'",
  "'\\x41'",
  "'\\t41'",
  "'Infinity'",
  `'a "quoted", text'`,
  "'line' || char(10) || 'break' || char(13) || char(10)",
  "'nul' || char(0) || 'inside'",
  "'한국어 🎉' || char(65279) || char(65533)",
  '0',
  '1',
  '-1',
  '9223372036854775807',
  '-9223372036854775808',
  '9007199254740993',
  '1.0',
  '-0.0',
  '0.1',
  '1e300',
  '5e-324',
  '1e999',
  '-1e999',
  '12345678901234567890.0',
  "x''",
  "x'00ff'",
  "x'313233'",
  "x'74657874'",
  "cast(x'ff' as text)",
  "cast(x'61ff22c3' as text)",
  "cast(x'efbfbdff' as text)",
]

const kinds = ['', 'integer', 'real', 'text', 'blob', 'numeric', 'varchar(3)', 'boolean', 'datetime']

overDatabases(
  test,
  'every storage class in every column affinity',
  async (scene) => {
    const { db } = scene
    await db.run(
      `create table t (id integer primary key autoincrement, at text, ${kinds.map((kind, index) => `c${index} ${kind}`).join(', ')})`,
    )
    for (const [index] of kinds.entries()) {
      for (const value of values) await db.run(`insert into t (at, c${index}) values (${old}, ${value})`)
    }
    await roundTrip(scene, 't')
    const names = kinds.map((_, index) => `c${index}`)
    await redactTrip(scene, 't', names)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'WITHOUT ROWID, STRICT, generated columns, no primary key, a composite key, hidden row numbers',
  async (scene) => {
    const { db } = scene
    await db.run(`
      create table without_rowid (a text, b integer, at text, v, primary key (a, b)) without rowid;
      create table "strict" (id integer primary key autoincrement, at text not null, i int, r real, t text, b blob, a any) strict;
      create table "gen erated" (at text, a int, s int generated always as (a * 2) stored, v int as (a * 3) virtual);
      create table bare (at text, v);
      create table composite (x, y, at text, unique (x, y));
      create table hidden (rowid text, _rowid_ text, at text);
      create table taken (rowid text not null unique, _rowid_ text, oid text, at text);
      insert into taken values ('a', 'b', 'c', ${old}), ('d', 'e', 'f', ${old});
      insert into hidden values ('a', 'b', ${old}), ('c', null, ${old});
      insert into "strict" (at, i, r, t, b, a) values (${old}, 1, 1, '1', x'31', 1.0), (${old}, null, 1.5, '', x'', '1');
      insert into "gen erated" (at, a) values (${old}, 1), (${old}, 1), (${old}, null);`)
    for (const [index, value] of values.entries()) {
      await db.run(`insert into without_rowid values ('k' || ${index}, ${index}, ${old}, ${value})`)
      await db.run(`insert into bare values (${old}, ${value}), (${old}, ${value})`)
      await db.run(`insert into composite values (${index}, ${value}, ${old})`)
    }
    for (const table of ['without_rowid', 'strict', 'gen erated', 'bare', 'composite', 'hidden', 'taken'])
      await roundTrip(scene, table)
    await redactTrip(scene, 'without_rowid', ['v'])
    await redactTrip(scene, 'strict', ['i', 'r', 't', 'b', 'a'])
    await redactTrip(scene, 'taken', ['_rowid_', 'oid'])
  },
  ['sqlite'],
)

overDatabases(
  test,
  'columns and tables named to hurt',
  async (scene) => {
    await scene.db.run(`
      create table "Old ""Log"", 한글; --" ("i'd" integer primary key autoincrement, at text, "select" text, "a.b" text, "c0" text, "n" text, "placed" text, "skip" text);
      insert into "Old ""Log"", 한글; --" (at, "select", "a.b", "c0", "n") values (${old}, 'x', null, 'y', 'z');`)
    const { db, project } = scene
    const table = 'Old "Log", 한글; --'
    const before = await db.dump(table)
    const { folder } = project({ it: { table: `"Old ""Log"", 한글; --"`, column: 'at', days: 30 } })
    const [report] = (await apply({ cwd: folder, now })).policies
    assert.is(report?.archived, 1, report?.error?.message)
    await restore({ cwd: folder, file: report?.archives[0]?.name ?? '', now })
    assert.equal(await db.dump(table), before)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a UTF-16 database',
  async (scene) => {
    await scene.db.run("pragma encoding = 'UTF-16le'")
    await scene.db.run(
      `create table t (at text, v); insert into t values (${old}, '한국어 🎉'), (${old}, ''), (${old}, cast(x'00d8' as text))`,
    )
    await roundTrip(scene, 't')
  },
  ['sqlite'],
)

overDatabases(
  test,
  'the file shows the storage class: text quoted, numbers not, a REAL with its point',
  async (scene) => {
    await scene.db.run(
      `create table t (at text, a, b, c, d, e, f); insert into t values (${old}, '1', 1, 1.0, x'31', null, '')`,
    )
    const folder = await roundTrip(scene, 't')
    const text = scene.db.kind === 'sqlite' ? new TextDecoder().decode(readBytes(folder)) : ''
    assert.ok(text.includes(`${old.replaceAll("'", '"')},"1",1,1.0,\\x31,,""\n`), text)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'any values in any column (property)',
  async (scene) => {
    const { db, project } = scene
    await db.run('create table t (at text, a, b integer, c real, d text, e blob, f numeric)')
    const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
    const value = fc.oneof(
      fc.constant(null),
      fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed()),
      fc.double().filter((number) => !Number.isNaN(number)),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(value, value, value, value, value, value), { minLength: 1, maxLength: 30 }),
        async (rows) => {
          await db.run('delete from t')
          for (const row of rows)
            await db.run('insert into t values (?, ?, ?, ?, ?, ?, ?)', ['2020-01-01 00:00:00', ...row])
          const before = await db.dump('t')
          const [report] = (await apply({ cwd: folder, now })).policies
          assert.is(report?.archived, rows.length, report?.error?.message)
          const [archive] = report?.archives ?? []
          assert.is(readArchive(folder, archive?.name ?? '').rows.length, rows.length)
          await restore({ cwd: folder, file: archive?.name ?? '', hold: 'none', now })
          assert.equal(await db.dump('t'), before)
        },
      ),
      { numRuns: timesOf(15) },
    )
  },
  ['sqlite'],
)

overDatabases(
  test,
  'the lines that SQLite writes are those that csv-stringify writes (property)',
  async ({ db }) => {
    await db.run('create table t (a, b integer, c real, d text, e blob, f numeric)')
    const connection = connect(sqliteFile(db.address, ''), false)
    try {
      const table = await findTable(connection.db, { schema: undefined, name: 't' })
      if (table === undefined) throw new Error('no table')
      const rows = { table, where: sql<boolean>`true`, order: [orderPart('rowid')] }
      const query = csvQuery(connection, rows, ['a', 'b', 'c', 'd', 'e', 'f'])
      const [insert, invalid] = ['?, ?, ?, ?, ?, ?', '?, ?, ?, cast(? as text), ?, ?'].map((list) =>
        connection.raw.prepare(`insert into t values (${list})`),
      )
      const value = fc.oneof(
        fc.constant(null),
        fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed()),
        fc.constantFrom('\ufffd', '"', 'a"b', '', '\n', '\0x'),
        fc.double({ noNaN: true }),
        // Of these SQLite's own form has other digits, or more, or an exponent.
        fc.constantFrom(0.1 + 0.2, 1e15, 123456789012345680, 1e21, 1e22, 1e-4, 1e-5, -0, 5e-324, 2 ** 53),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
        fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      )
      const row = fc.record({
        values: fc.tuple(value, value, value, value, value, value),
        bytes: fc.option(fc.uint8Array()),
      })
      fc.assert(
        fc.property(fc.array(row, { minLength: 1, maxLength: 20 }), (all) => {
          connection.raw.exec('delete from t')
          for (const { values: cells, bytes } of all) {
            if (bytes === null) insert?.run(...cells)
            else invalid?.run(...cells.with(3, Buffer.from(bytes)))
          }
          const stored = connection.raw
            .prepare('select *, cast(d as blob) from t order by rowid')
            .raw()
            .all() as Cell[][]
          const expected = stored.map((cells) => {
            const [d, exact] = [cells[3], cells.pop()]
            const isExact = typeof d !== 'string' || !Buffer.isBuffer(exact) || exact.equals(Buffer.from(d))
            return isExact ? cells : cells.with(3, new InvalidText(exact))
          })
          const lines = Buffer.concat([...csvPieces(connection.raw, query)].map(({ bytes }) => bytes)).toString()
          assert.is(lines, formatRows([['a', 'b', 'c', 'd', 'e', 'f'], ...expected]))
        }),
      )
    } finally {
      connection.close()
    }
  },
  ['sqlite'],
)

/** Ways to store the same four times: long ago, just before the cutoff, at it, after it. */
const ways: Record<string, { type?: string; of: (iso: string) => string; timezone?: string }> = {
  'ISO text with T and Z': { of: (iso) => `'${iso}'` },
  'ISO text with a blank and no zone': { of: (iso) => `'${iso.replace('T', ' ').replace('Z', '')}'` },
  'ISO text with milliseconds': { of: (iso) => `'${iso.replace('Z', '.000Z')}'` },
  'ISO text with some fractions': {
    of: (iso) => (iso.endsWith('00Z') ? `'${iso.replace('Z', '')}'` : `'${iso.replace('Z', '.999999')}'`),
  },
  'ISO text without seconds': { of: (iso) => `'${iso.replace('T', ' ').replace(/:\d\dZ$/, '')}'` },
  'text at an offset': {
    of: (iso) => `'${new Date(Date.parse(iso) + 9 * 3_600_000).toISOString().replace(/\.000Z$/, '+09:00')}'`,
  },
  'text of a zone that is not UTC': {
    of: (iso) =>
      `'${new Date(Date.parse(iso) + 9 * 3_600_000)
        .toISOString()
        .replace('T', ' ')
        .replace(/\.000Z$/, '')}'`,
    timezone: 'Asia/Seoul',
  },
  'unix seconds': { of: (iso) => String(Date.parse(iso) / 1000) },
  'unix seconds with fractions': {
    of: (iso) => (iso.endsWith('00Z') ? `${Date.parse(iso) / 1000}.0` : `${Date.parse(iso) / 1000}.999`),
  },
  milliseconds: { of: (iso) => String(Date.parse(iso)), type: 'integer' },
  'Julian days': { of: (iso) => `julianday('${iso}')`, type: 'real' },
  'text in a DATETIME column': { of: (iso) => `'${iso.replace('T', ' ').replace('Z', '')}'`, type: 'datetime' },
  'seconds in a TIMESTAMP column': { of: (iso) => String(Date.parse(iso) / 1000), type: 'timestamp' },
}

for (const [name, { type = '', of, timezone = 'UTC' }] of Object.entries(ways)) {
  overDatabases(
    test,
    `finds out how time is stored: ${name}`,
    async ({ db, project }) => {
      const times = ['2019-12-31T23:59:59Z', '2026-05-15T23:59:59Z', '2026-05-16T00:00:00Z', '2026-06-01T00:00:00Z']
      await db.run(
        `create table t (id integer primary key autoincrement, at ${type}); insert into t (at) values ${times.map((time) => `(${of(time)})`).join(', ')}`,
      )
      const { folder } = project({ it: { table: 't', column: 'at', days: 30, columnTimezone: timezone } })
      const [report] = (await apply({ cwd: folder, now })).policies
      assert.is(report?.archived, 2, report?.error?.message)
      assert.match(report?.archives[0]?.from ?? '', /^20(19-12-31|20-01-01)T/)
      assert.equal(
        (await db.rows('select id from t order by id')).map(([id]) => Number(id)),
        [3, 4],
      )
    },
    ['sqlite'],
  )
}

overDatabases(
  test,
  'dates without a time compare by day',
  async ({ db, project }) => {
    await db.run(
      "create table t (id integer primary key autoincrement, at date); insert into t (at) values ('2026-05-15'), ('2026-05-16'), ('0000-00-00'), ('2020-01-01'), ('2020-01-01')",
    )
    const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
    const [report] = (await apply({ cwd: folder, now })).policies
    assert.is(report?.archived, 3, report?.error?.message)
    assert.is(report?.undated, 1)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'rows of another storage class are undated, and told',
  async ({ db, project }) => {
    await db.run(`create table t (id integer primary key autoincrement, at);
      insert into t (at) values (${old}), (${old}), (${old}), ('2026-06-01T00:00:00Z'), (0), (42), (x'00'), (''), (null)`)
    const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
    const [report] = (await apply({ cwd: folder, now })).policies
    assert.is(report?.archived, 3, report?.error?.message)
    assert.is(report?.undated, 5)
    assert.ok(
      report?.warnings.some(({ text }) => /2 as unreadable integer \(such as 0\)/.test(text)),
      JSON.stringify(report?.warnings),
    )
    assert.is(Number(await db.value('select count(*) from t')), 6)
  },
  ['sqlite'],
)

const refused: Record<string, [rows: string, message: RegExp]> = {
  'seconds and milliseconds': [
    '(1500000000), (1500000000), (1500000000000)',
    /several ways: 2 as seconds \(such as 1500000000\), 1 as milliseconds \(such as 1500000000000\)/,
  ],
  'a blank and a T': [`('2020-01-01 00:00:00'), ('2020-01-01T00:00:00')`, /several ways/],
  'with and without a zone': [`('2020-01-01T00:00:00Z'), ('2020-01-01T00:00:00')`, /several ways/],
  'text and numbers by half': [`('2020-01-01 00:00:00'), (1500000000)`, /several ways/],
  'no times at all': [`('yesterday'), ('soon')`, /does not store time in a way that can be read: 2 as unreadable text/],
  'numbers that are no times': ['(1), (2), (3)', /does not store time/],
}

for (const [name, [rows, message]] of Object.entries(refused)) {
  overDatabases(
    test,
    `refuses a column with ${name}`,
    async ({ db, project }) => {
      await db.run(`create table t (id integer primary key autoincrement, at); insert into t (at) values ${rows}`)
      const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
      const [report] = (await plan({ cwd: folder, now })).policies
      assert.is(report?.status, 'refused')
      assert.match(report?.error?.message ?? '', message)
    },
    ['sqlite'],
  )
}

test("columns' collations are those that SQLite itself reads in a table's statement", () => {
  const collate = fc.constantFrom(
    'collate nocase',
    'COLLATE "RTRIM"',
    'collate[binary]',
    "collate'NoCase'",
    'Collate/*,*/`rtrim`',
  )
  const other = fc.constantFrom(
    'not null',
    "default 'x, collate nocase'",
    "default ('a' collate nocase = 'A')",
    "check ('a' collate rtrim <> ',')",
    'constraint "collate nocase" unique',
    'references other (a) on delete set null',
    '-- collate nocase, )\n',
    '/* ( */',
  )
  const name = fc.constantFrom('"collate', '[b, collate c', '`(', '"it\'s)', '"q""uo,te', 'é')
  const type = fc.constantFrom('', 'text', 'varchar(9, 2)', '"collate" [nocase]', 'unsigned big int')
  const column = fc.tuple(name, type, fc.array(fc.oneof(collate, other), { maxLength: 4 }))
  const named = (start: string, at: number): string => {
    const [quote = ''] = start
    return `${start}${at}${quote === '[' ? ']' : quote === 'é' ? '' : quote}`
  }
  const raw = new Sqlite(':memory:')
  fc.assert(
    fc.property(fc.array(column, { minLength: 1, maxLength: 4 }), (columns) => {
      // What was made for the last statement goes first: also where that one failed.
      if (raw.inTransaction) raw.exec('rollback')
      const parts = columns.map(([start, kind, rest], at) => [named(start, at), kind, ...rest].join(' '))
      const key = named(columns[0]?.[0] ?? '', 0)
      raw.exec(`begin; create table "t (" (${parts.join(', ')}\n, unique (${key} collate nocase))`)
      const statement = String(raw.prepare('select sql from sqlite_schema where name = ?').pluck().get('t ('))
      const found = columns.map(([start], at) => {
        raw.exec(`create index i${at} on "t (" (${named(start, at)})`)
        return raw.prepare('select upper(coll) from pragma_index_xinfo(?) where key').pluck().get(`i${at}`)
      })
      assert.equal(
        declaredCollations(statement)
          .slice(0, columns.length)
          .map((one) => one?.toUpperCase() ?? 'BINARY'),
        found,
        statement,
      )
    }),
    { numRuns: timesOf(200) },
  )
  raw.close()
})

test.run()

function readBytes(folder: string): Buffer {
  return readFileSync(path.join(folder, 'backups', 'it_backup_20260516.csv'))
}
