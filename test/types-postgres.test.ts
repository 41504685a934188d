/** Lossless on Postgres: restore(apply(table)) = table, for every type, whatever the sessions are set to. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import fc from 'fast-check'
import { Client } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import type { TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { erasableRows } from './support/erasable.ts'
import { redactTrip } from './support/redact.ts'
import { now, overDatabases, type Scene } from './support/scene.ts'

const test = suite('types on Postgres')

/** Archives a table whole and puts it back, and asserts that it is the same; `at` ages its rows. */
async function roundTrip(
  { db, project }: Scene,
  table: string,
  policy: { table?: string; column?: string } = {},
): Promise<string> {
  const before = await db.dump(table)
  assert.ok(before.length > 0)
  const { folder } = project({ it: { table, column: 'at', days: 30, ...policy } })
  const [report] = (await apply({ cwd: folder, now })).policies
  assert.is(report?.status, 'applied', report?.error?.message)
  assert.is(report?.archived, before.length)
  assert.equal(await db.dump(table), [])
  assert.is(await erasableRows(folder, 'it', report?.archives), before.length)
  for (const { name } of report?.archives ?? []) {
    // Chosen among, rows go another way, by their types' casts.
    const chosen = await restore({ cwd: folder, file: name, now, where: 'true', dryRun: true })
    assert.is(chosen.state, 'restored')
    const restored = await restore({ cwd: folder, file: name, now, hold: 'none' })
    assert.is(restored.restored, restored.rows)
  }
  assert.equal(await db.dump(table), before)
  return folder
}

const old = "'2020-02-29 12:34:56.789012+00'"

/** One column of a type, with values worth doubting. */
const columns: readonly { type: string; values: readonly string[] }[] = [
  { type: 'smallint', values: ['-32768', '32767', '0'] },
  { type: 'integer', values: ['-2147483648', '2147483647'] },
  { type: 'bigint', values: ['-9223372036854775808', '9223372036854775807'] },
  {
    type: 'numeric',
    values: [
      "'NaN'",
      "'Infinity'",
      '123456789012345678901234567890.123456789012345678901234567890',
      '0.0000000000000000000001',
      '1.10',
    ],
  },
  { type: 'numeric(40,10)', values: ['-1.1', '123456789012345678901234567890.0123456789'] },
  { type: 'real', values: ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", '1e-45', '3.4028235e38', '0.1'] },
  {
    type: 'double precision',
    values: [
      "'NaN'",
      "'Infinity'",
      "'-Infinity'",
      "'-0'",
      '5e-324',
      '1.7976931348623157e308',
      '0.1',
      '0.30000000000000004',
    ],
  },
  { type: 'boolean', values: ['true', 'false'] },
  { type: 'char(5)', values: ["'ab'", "''", "'abcde'"] },
  { type: '"char"', values: ["'x'", "''"] },
  { type: 'name', values: ["'a name'"] },
  { type: 'varchar(10)', values: ["'  x  '", "''"] },
  {
    type: 'text',
    values: [
      "''",
      "'NULL'",
      "'null'",
      `'\\N'`,
      `'\\.'`,
      "E'a\\n\\\\.\\nb'",
      "','",
      `'"'`,
      `'""'`,
      "E'\\r'",
      "E'\\n'",
      "E'\\r\\n'",
      "E'\\t'",
      `'\\x41'`,
      "' '",
      "'한국어 텍스트'",
      "'🎉👩‍👩‍👧'",
      "'\ufeff'",
      "'=1+1'",
      "U&'\\0001\\001f\\007f\\0085\\2028'",
    ],
  },
  { type: 'bytea', values: [`'\\x'`, `'\\x00ff0a0d2c22'`, `'\\x5c'`] },
  { type: 'uuid', values: ["'00000000-0000-0000-0000-000000000000'", 'gen_random_uuid()'] },
  { type: 'json', values: [`'{"b" : 1,   "a":[null, 1.0, "x\\ny"], "b":2}'`, "'null'", `'"text"'`] },
  { type: 'jsonb', values: [`'{"b": 1, "a": [null, 1.0, "\\u0001"]}'`, "'null'", "'12345678901234567890.123'"] },
  { type: 'jsonpath', values: ["'$.a[*] ? (@ > 1)'"] },
  {
    type: 'text[]',
    values: [
      "'{}'",
      `array['a', null, 'NULL', '"', 'a,b', '{}', E'\\n', '\\']`,
      "array[['a','b'],['c',null]]",
      "'[0:1]={x,y}'",
    ],
  },
  { type: 'integer[]', values: ['array[1,null,3]', 'array[[1,2],[3,4]]'] },
  {
    type: 'timestamptz',
    values: [
      "'infinity'",
      "'-infinity'",
      "'2020-01-01 00:00:00.000001+09'",
      "'0044-03-15 12:00:00+00 BC'",
      "'294276-12-31 23:59:59.999999+00'",
    ],
  },
  { type: 'timestamp', values: ["'infinity'", "'2020-01-01 00:00:00.123456'", "'4713-01-01 00:00:00 BC'"] },
  { type: 'date', values: ["'infinity'", "'-infinity'", "'2020-02-29'", "'0044-03-15 BC'", "'5874897-12-31'"] },
  { type: 'time', values: ["'00:00:00.000001'", "'24:00:00'"] },
  { type: 'timetz', values: ["'12:34:56.789012+15:59:59'", "'12:34:56-03:30'"] },
  {
    type: 'interval',
    values: ["'1 year -2 mons +3 days -04:05:06.789012'", "'-178000000 years'", "'0'", "'1 microsecond'"],
  },
  { type: 'inet', values: ["'192.168.0.1'", "'192.168.0.1/24'", "'::1'", "'2001:db8::1/64'"] },
  { type: 'cidr', values: ["'192.168.0.0/24'", "'2001:db8::/32'"] },
  { type: 'macaddr', values: ["'08:00:2b:01:02:03'"] },
  { type: 'macaddr8', values: ["'08:00:2b:01:02:03:04:05'"] },
  { type: 'bit(5)', values: ["B'10101'"] },
  { type: 'bit varying', values: ["B''", "B'1'"] },
  { type: 'money', values: ["'12345678.90'", "'-0.01'"] },
  { type: 'tsvector', values: [`'''it''''s'':1A fat:2B,4C cat:5D'`] },
  { type: 'tsquery', values: ["'fat & ( rat | cat:*B )'"] },
  { type: 'point', values: ["'(0.1,-0)'"] },
  { type: 'polygon', values: ["'((0,0),(1,1),(1,0))'"] },
  { type: 'circle', values: ["'<(1.5,2.5),3>'"] },
  { type: 'box', values: ["'(2,2),(0,0)'"] },
  { type: 'path', values: ["'[(0,0),(1,1)]'"] },
  { type: 'lseg', values: ["'[(0,0),(1,1)]'"] },
  { type: 'line', values: ["'{1,2,3}'"] },
  { type: 'int4range', values: ["'empty'", "'[1,5)'", "'(,)'"] },
  { type: 'tstzrange', values: ["'[2020-01-01 00:00:00.5+00,)'"] },
  { type: 'datemultirange', values: ["'{[2020-01-01,2020-02-01),[2021-01-01,)}'"] },
  { type: 'oid', values: ['4294967295'] },
  { type: 'pg_lsn', values: ["'16/B374D848'"] },
  { type: 'xid8', values: ["'18446744073709551615'"] },
  { type: 'regclass', values: ["'pg_class'"] },
  { type: 'mood', values: ['\'sad, "very"\'', "'happy'"] },
  { type: 'positive', values: ['1', '99'] },
  { type: 'pair', values: [`row(1, 'a "b", (c)')::pair`, 'row(null, null)::pair', `row(1, '')::pair`] },
  { type: 'pair[]', values: [`array[row(1, 'a,"b"')::pair, null]`] },
]

const types = `
  create type mood as enum ('happy', 'sad, "very"');
  create domain positive as integer check (value > 0);
  create type pair as (n integer, t text);
`

overDatabases(
  test,
  'every type comes back, from and to hostile settings',
  async (scene) => {
    const { db } = scene
    await db.run(types)
    const list = columns.map(({ type }, index) => `c${index} ${type}`).join(', ')
    await db.run(
      `create table everything (id bigint generated always as identity primary key, at timestamptz not null, ${list})`,
    )
    await db.run(`insert into everything (at) values (${old})`)
    for (const [index, { values }] of columns.entries()) {
      for (const value of values) await db.run(`insert into everything (at, c${index}) values (${old}, ${value})`)
    }
    await hostile(db)
    await roundTrip(scene, 'everything')
    const names = columns.map((_, index) => `c${index}`)
    await redactTrip(scene, 'everything', names)
  },
  ['postgres'],
)

/** Settings of the database that change how values are written, unless a session pins them. */
async function hostile(db: TestDatabase): Promise<void> {
  const name = String(await db.value('select current_database()'))
  const settings = {
    timezone: 'America/St_Johns',
    datestyle: 'SQL, DMY',
    intervalstyle: 'iso_8601',
    extra_float_digits: '-15',
    bytea_output: 'escape',
    standard_conforming_strings: 'off',
    xmloption: 'document',
    default_transaction_read_only: 'on',
    default_transaction_isolation: 'serializable',
    idle_in_transaction_session_timeout: '1000',
    statement_timeout: '900',
    synchronous_commit: 'off',
    client_encoding: 'LATIN1',
    transform_null_equals: 'on',
  }
  for (const [setting, value] of Object.entries(settings))
    await db.run(`alter database "${name}" set ${setting} = '${value}'`)
}

overDatabases(
  test,
  'NULL and the empty text stay apart in the file',
  async (scene) => {
    await scene.db.run(
      `create table t (id int primary key, at timestamptz, a text, b text); insert into t values (1, ${old}, null, '')`,
    )
    const folder = await roundTrip(scene, 't')
    assert.equal(readArchive(folder, 'it_backup_20260516.csv').rows[0]?.slice(2), [null, ''])
  },
  ['postgres'],
)

overDatabases(
  test,
  'xml and hstore, where the server has them',
  async (scene) => {
    const { db } = scene
    const extensions = (await db.rows('select name from pg_available_extensions')).map(([name]) => name)
    const hstore = extensions.includes('hstore')
    if (hstore) await db.run('create extension hstore')
    const xml = await db.run("select '<a/>'::xml").then(
      () => true,
      () => false,
    )
    await db.run('create table t (id int primary key, at timestamptz)')
    if (xml) await db.run('alter table t add x xml')
    if (hstore) await db.run('alter table t add h hstore')
    await db.run(`insert into t (id, at) values (1, ${old}), (2, ${old})`)
    if (xml)
      await db.run(
        `update t set x = '<?xml version="1.0"?><!DOCTYPE a><a b="1">text, "q"</a>' where id = 1; update t set x = 'plain <b/> content' where id = 2`,
      )
    if (hstore) await db.run(`update t set h = 'a=>NULL, "b c"=>"d,\\"e"'`)
    await roundTrip(scene, 't')
    await redactTrip(scene, 't', [...(xml ? ['x'] : []), ...(hstore ? ['h'] : [])])
  },
  ['postgres'],
)

overDatabases(
  test,
  'generated and identity columns, and columns named to hurt',
  async (scene) => {
    const { db } = scene
    await db.run(`
      create schema "Old ""Data""";
      create table "Old ""Data"""."Log, 한글" (
        "Id" bigint generated always as identity primary key,
        "at.time" timestamptz not null,
        "a""b" text, "select" int, "$1" text, "retention_n" int, "retention_skip" text, "key" text,
        doubled int generated always as ("select" * 2) stored,
        "Mixed Case" text default 'x'
      );
      insert into "Old ""Data"""."Log, 한글" ("at.time", "a""b", "select", "$1", "retention_n") values
        (${old}, 'it''s', 1, '$1', 7), (${old}, null, null, '', null)`)
    const table = `"Old ""Data"""."Log, 한글"`
    const dump = async (): Promise<string[]> =>
      (await db.rows(`select t::text from ${table} t`)).map(([row]) => String(row)).toSorted()
    const before = await dump()
    const { folder } = scene.project({ it: { table, column: 'at.time', days: 30 } })
    const [report] = (await apply({ cwd: folder, now })).policies
    assert.is(report?.archived, 2, report?.error?.message)
    assert.equal(await dump(), [])
    const { header } = readArchive(folder, 'it_backup_20260516.csv')
    assert.not.ok(header.includes('doubled'))
    await restore({ cwd: folder, file: 'it_backup_20260516.csv', now })
    assert.equal(await dump(), before)
    // The identity goes on behind the restored rows.
    await db.run(`insert into ${table} ("at.time") values (now())`)
    assert.is(Number(await db.value(`select max("Id") from ${table}`)), 3)
  },
  ['postgres'],
)

overDatabases(
  test,
  'tables without a key, partitioned tables, partitions',
  async (scene) => {
    const { db } = scene
    await db.run(`
      create table bare (at timestamptz, body text);
      insert into bare select ${old}, case when i % 3 = 0 then null else 'same' end from generate_series(1, 30) i;
      create table parts (id int, at timestamptz not null, body text) partition by range (at);
      create table parts_2019 partition of parts for values from ('2019-01-01') to ('2020-01-01');
      create table parts_2020 partition of parts for values from ('2020-01-01') to ('2021-01-01');
      insert into parts select i, '2019-12-25'::timestamptz + i * interval '1 day', 'row ' || i from generate_series(1, 30) i`)
    await roundTrip(scene, 'bare')
    await roundTrip(scene, 'parts')
    await roundTrip(scene, 'parts_2020')
  },
  ['postgres'],
)

overDatabases(
  test,
  'columns that age rows: timestamp with a zone of its own, date, and domains over them',
  async ({ db, project }) => {
    // The cutoff is 2026-05-16 00:00 in UTC, which a clock in Seoul shows as 09:00.
    await db.run(`
      create domain moment as timestamptz;
      create table t (id int primary key, w timestamp, d date, m moment);
      insert into t values
        (1, '2026-05-16 08:59:59.999999', '2026-05-15', '2026-05-16 08:59:59.999999+09'),
        (2, '2026-05-16 09:00:00', '2026-05-16', '2026-05-16 09:00:00+09')`)
    await hostile(db)
    const ids = async (): Promise<unknown[]> => (await db.rows('select id from t order by id')).map(([id]) => id)
    for (const [name, column] of [
      ['wall', 'w'],
      ['date', 'd'],
      ['domain', 'm'],
    ] as const) {
      const { folder } = project({ [name]: { table: 't', column, days: 30, columnTimezone: 'Asia/Seoul' } })
      const [report] = (await apply({ cwd: folder, now })).policies
      assert.is(report?.archived, 1, `${name}: ${report?.error?.message ?? ''}`)
      assert.equal(await ids(), [2], name)
      await restore({ cwd: folder, file: `${name}_backup_20260516.csv`, hold: 'none', now })
      assert.equal(await ids(), [1, 2], name)
    }
  },
  ['postgres'],
)

overDatabases(
  test,
  'any text, any bytes, any numbers (property)',
  async (scene) => {
    const { db, project } = scene
    await db.run(
      'create table t (id int primary key, at timestamptz, body text, bytes bytea, number double precision, list text[])',
    )
    const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
    const text = fc
      .string({ unit: 'binary' })
      .map((value) => value.replaceAll('\0', '').replaceAll(/[\ud800-\udfff]/gu, ''))
    const row = fc.record({
      body: fc.option(text),
      bytes: fc.option(fc.uint8Array()),
      number: fc.option(fc.double()),
      list: fc.option(fc.array(fc.option(text))),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (rows) => {
        await db.run('truncate t')
        for (const [id, { body, bytes, number, list }] of rows.entries()) {
          await db.run('insert into t values ($1, $2, $3, $4, $5, $6)', [
            id,
            '2020-01-01',
            body,
            bytes === null ? null : Buffer.from(bytes),
            number,
            list,
          ])
        }
        const before = await db.dump('t')
        const [report] = (await apply({ cwd: folder, now })).policies
        assert.is(report?.archived, rows.length, report?.error?.message)
        assert.equal(
          readArchive(folder, report?.archives[0]?.name ?? '')
            .rows.map((fields) => fields[2] ?? 'NULL')
            .toSorted(),
          rows.map(({ body }) => body ?? 'NULL').toSorted(),
        )
        await restore({ cwd: folder, file: report?.archives[0]?.name ?? '', hold: 'none', now })
        assert.equal(await db.dump('t'), before)
      }),
      { numRuns: timesOf(8) },
    )
  },
  ['postgres'],
)

overDatabases(
  test,
  'COPY … FROM reads an archive as it is',
  async ({ db, project }) => {
    await db.run(types)
    await db.run(
      `create table t (id int primary key, "at" timestamptz, a text, b pair); insert into t values (1, ${old}, null, row(1, '"')::pair), (2, ${old}, '', null)`,
    )
    const before = await db.dump('t')
    const { folder } = project({ it: { table: 't', column: 'at', days: 30 } })
    await apply({ cwd: folder, now })
    const text = readArchiveText(folder, 'it_backup_20260516.csv')
    await db.run('create table loaded (like t)')
    await copyIn(db, 'copy loaded (id, at, a, b) from stdin (format csv, header)', text)
    assert.equal(await db.dump('loaded'), before)
  },
  ['postgres'],
)

test.run()

function readArchiveText(folder: string, name: string): Buffer {
  return readFileSync(path.join(folder, 'backups', name))
}

async function copyIn(db: TestDatabase, statement: string, bytes: Buffer): Promise<void> {
  const client = new Client({ connectionString: db.address })
  await client.connect()
  try {
    await pipeline(Readable.from([bytes]), client.query(copyFrom(statement)))
  } finally {
    await client.end()
  }
}
