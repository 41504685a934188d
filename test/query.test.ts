/** query: archives asked by SQL, with the rows, types and NULLs that they have, and with nothing else in reach. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import {
  apply,
  listViews,
  query,
  restore,
  RetentionError,
  streamQuery,
  type PolicyInput,
  type QueryOptions,
  type QueryValue,
} from '../src/index.ts'
import { printAnswer, printViews } from '../src/print/query.ts'
import { readCsv } from './support/archive.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('query')

// What is unsealed goes there, and must be gone afterwards.
const temporary = mkdtempSync(path.join(tmpdir(), 'retention-query-test-'))
process.env['TMPDIR'] = temporary
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))

process.env['RETENTION_ZIP_PASSWORD'] = 'secret'
const sealed = { zip: { password: { env: 'RETENTION_ZIP_PASSWORD' } } } as const

async function archive({ folder }: TestProject, time = now): Promise<void> {
  for (const { status, error } of (await apply({ cwd: folder, now: time })).policies)
    assert.ok(['applied', 'nothing-due'].includes(status), error?.message)
}

async function failure(work: Promise<unknown>): Promise<RetentionError> {
  const error = await work.catch((reason: unknown) => reason)
  if (error instanceof RetentionError) return error
  throw new Error(`it did not fail, but gave ${JSON.stringify(error)}`)
}

/** Asks, and sees that nothing of it is left. */
function asker({ folder }: TestProject): (sql: string, options?: QueryOptions) => Promise<QueryValue[][]> {
  return async (sql, options = {}) => {
    try {
      return [...(await query(sql, { cwd: folder, ...options })).rows].map((row) => [...row])
    } finally {
      nothingIsLeft()
    }
  }
}

/** What tests themselves have there is of no interest. */
function nothingIsLeft(): void {
  assert.equal(
    readdirSync(temporary).filter((name) => name.startsWith('retention-query-')),
    [],
  )
}

overDatabases(
  test,
  'all archives of a policy, however they are stored; NULL and the empty text apart',
  async (scene) => {
    const { db, project } = scene
    // Of each archive one row at least is NULL or empty.
    const text = `'a,"b"' || ${db.kind === 'sqlite' ? 'char' : 'chr'}(10) || '👋'`
    const body = `case id % 3 when 0 then null when 1 then '' else ${text} end`
    await seedLog(db, ['2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'], body)
    // What DuckDB would take for a pattern.
    const made = project({ log: logPolicy }, { archive: { to: './backups [1]', durable: true } })
    await archive(made)
    for (const form of [{ compress: 'gzip' }, { compress: 'zstd' }, { encrypt: sealed }] as const) {
      await db.run(`insert into log (at) values ('2026-02-01T00:00:00Z'), ('2026-02-02T00:00:00Z')`)
      await db.run(`update log set body = ${body}`)
      made.configure({ database: db.address, archive: { to: './backups', durable: true, ...form } })
      await archive(made)
    }
    const ask = asker(made)
    assert.equal(
      await ask('select id, body from log order by id'),
      [1, 2, 3, 4, 5, 6, 7, 8].map((id) => [id, [null, '', 'a,"b"\n👋'][id % 3] ?? null]),
    )
    assert.equal(
      await ask('select count(*), count(distinct _archive), min(_archived_at) > timestamptz \'2020-01-01\' from "log"'),
      [[8, 4, true]],
    )
    const { archives } = await query('select 1 from log where id = 1', { cwd: made.folder })
    assert.is(archives.length, 4)

    assert.is((await ask('describe log')).length, 5)
    assert.equal(await ask('select 1 as a, 2 as a from log limit 1; -- done'), [[1, 2]])

    // What has been restored is in the table again.
    await restore({ cwd: made.folder, file: archives.at(-1) ?? '', now })
    assert.equal(await ask('select count(*), max(id) from log'), [[6, 6]])
  },
)

overDatabases(
  test,
  'only archives that may have asked times are read, and a view has its columns all the same',
  async ({ db, project }) => {
    await seedLog(db, ['2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z', '2026-03-01T00:00:00Z', '2026-04-01T00:00:00Z'])
    const made = project({ log: { ...logPolicy, batch: 1 } })
    await archive(made)
    await db.run('alter table log add column extra integer')
    await db.run(`insert into log (at, extra) values ('2026-04-02T00:00:00Z', 7)`)
    await archive(made)
    const ask = asker(made)
    const read = async (where: string, options = {}): Promise<string[]> => {
      const sql = `select n from (select id as n from log ${where}) order by 1`
      const { archives, rows } = await query(sql, { cwd: made.folder, ...options })
      const numbers = archives.map((name) => /_000(\d)/.exec(name)?.[1] ?? '1')
      return [...numbers.toSorted(), ...rows.map(([id]) => `id ${JSON.stringify(id)}`)]
    }
    assert.equal(await read(`where "at" >= '2026-02-28' and "at" <= '2026-03-10'`), ['3', 'id 3'])
    assert.equal(await read(`l where l."at" between '2026-01-31' and '2026-02-02' and id > 0`), ['2', 'id 2'])
    assert.equal(
      await read(
        db.kind === 'sqlite' ? `where '2026-01-18' > "at"` : `where timestamp '2026-01-20' - interval 2 days > "at"`,
      ),
      ['1', 'id 1'],
    )
    assert.equal(await read(`where "at" > '2027-01-01'`), [])
    assert.equal(await read('', { from: '2026-03-31T12:00:00Z' }), ['4', '5', 'id 4', 'id 5'])
    assert.equal(await read('', { to: '2026-01-15' }), ['1', 'id 1'])
    // None of these says that other rows are not asked for.
    const everything = ['1', '2', '3', '4', '5']
    for (const where of [
      `where "at" > '2026-03-20' or id = 1`,
      `where id > 0 and "at" > (select max("at") from log where id = 1)`,
      `where "at" > (select '2026-03-20'::varchar)::${db.kind === 'sqlite' ? 'varchar' : 'timestamptz'}`,
      `left join (select 1 as one) on "at" > '2026-03-20'`,
      `where "at" > '2026-03-20' union all select id from query_table('log') where id < 0`,
    ])
      assert.equal(
        (await read(where)).filter((one) => !one.startsWith('id')),
        everything,
        where,
      )

    // The first archive is not looked for, unless it is needed.
    rmSync(made.path(`backups/${made.list()[0] ?? ''}`))
    assert.equal(await ask(`select id, extra from log where "at" > '2026-03-20' order by id`), [
      [4, null],
      [5, 7],
    ])
    const missing = await failure(query('select * from log', { cwd: made.folder }))
    assert.is(missing.code, 'ARCHIVE_NOT_FOUND')
    assert.match(missing.hint ?? '', '--from')
    // A view has its columns, and no rows, where no archive has such times.
    assert.equal(await ask(`select extra from log where "at" < '2025-01-01'`), [])
    assert.is((await failure(query('select 1 from log', { cwd: made.folder, from: 'soon' }))).code, 'USAGE')
  },
)

overDatabases(test, 'children are views of their own; references are none', async ({ db, project }) => {
  await db.run(
    `create table parent (id bigint primary key, at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'});
    create table child (id bigint primary key, parent_id bigint references parent (id) on delete cascade, b boolean);
    create table note (id bigint primary key, child_id bigint references child (id) on delete set null);
    insert into parent values (1, '2020-01-01T00:00:00Z'); insert into child values (10, 1, true); insert into note values (9, 10)`,
  )
  const policy: PolicyInput = { table: 'parent', column: 'at', days: 30, children: 'archive' }
  const made = project({ 'my-parent': policy }, { archive: { to: './backups', durable: true, encrypt: sealed } })
  await archive(made)
  assert.equal(
    await asker(made)(
      'select c.* exclude (_archived_at) from "my-parent" p join "my-parent_child" c on c.parent_id = p.id',
    ),
    [[10, 1, db.kind === 'sqlite' ? '1' : true, 'my-parent_backup_20260516.csv']],
  )
  const views = await listViews({ cwd: made.folder })
  assert.equal(
    views.map(({ name, columns, archives, rows }) => [
      name,
      columns.map((column) => column.name).join(),
      archives,
      rows,
    ]),
    [
      ['my-parent', 'id,at,_archive,_archived_at', 1, 1],
      ['my-parent_child', 'id,parent_id,b,_archive,_archived_at', 1, 1],
    ],
  )
})

overDatabases(
  test,
  'every type of Postgres, exact or as text; a value that its type does not hold is named',
  async ({ db, project }) => {
    const columns: Record<string, [type: string, duckdb: string, value: string, read: QueryValue]> = {
      small: ['smallint', 'SMALLINT', '-5', -5],
      big: ['bigint', 'BIGINT', '9223372036854775807', '9223372036854775807'],
      money: [
        'numeric(38,2)',
        'DECIMAL(38,2)',
        '123456789012345678901234567890123456.70',
        '123456789012345678901234567890123456.70',
      ],
      any_numeric: ['numeric', 'VARCHAR', '0.10', '0.10'],
      single: ['real', 'DOUBLE', '0.1', 0.1],
      not_a_number: ['double precision', 'DOUBLE', "'NaN'", 'NaN'],
      yes: ['boolean', 'BOOLEAN', 'true', true],
      day: ['date', 'DATE', "'0044-03-15 BC'", '0044-03-15 (BC)'],
      ever: ['date', 'DATE', "'infinity'", 'infinity'],
      clock: ['time(3)', 'TIME', "'24:00'", '24:00:00'],
      zoned: ['timestamptz(6)', 'TIMESTAMPTZ', "'2020-02-29 12:34:56.789012+09'", '2020-02-29 03:34:56.789012+00'],
      never: ['timestamp', 'TIMESTAMP', "'-infinity'", '-infinity'],
      span: ['interval', 'INTERVAL', "'-1 year 2 days -04:05:06.5'", '-1 year 2 days -04:05:06.5'],
      uuid: ['uuid', 'UUID', "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
      doc: ['jsonb', 'JSON', `'{"a": [1]}'`, '{"a": [1]}'],
      bytes: ['bytea', 'BLOB', String.raw`'\x00ff'`, String.raw`\x00ff`],
      many: ['integer[]', 'VARCHAR', "'{1,NULL}'", '{1,NULL}'],
      Small: ['text', 'VARCHAR', "'another'", 'another'],
      _archive: ['text', 'VARCHAR', "'theirs'", 'theirs'],
    }
    const names = Object.keys(columns)
    const quoted = names.map((name) => `"${name}"`)
    const entries = Object.values(columns)
    await db.run(`create table t (at timestamptz, ${names.map((name, index) => `"${name}" ${entries[index]?.[0] ?? ''}`).join()});
      insert into t values ('2020-01-01', ${entries.map(([, , value]) => value).join()}), ('2020-01-01'${', null'.repeat(names.length)})`)
    const made = project({ t: { table: 't', column: 'at', days: 30 } })
    await archive(made)
    const listed = (await listViews({ cwd: made.folder }))[0]?.columns ?? []
    assert.equal(
      Object.fromEntries(listed.map(({ name, type }) => [name, type])),
      Object.fromEntries([
        ['at', 'TIMESTAMPTZ'],
        ...names.map((name) => [name.replace('Small', 'Small_'), columns[name]?.[1]]),
        ['_archived_at', 'TIMESTAMPTZ'],
      ]),
    )
    const ask = asker(made)
    const rows = await ask(`select ${quoted.join().replace('"Small"', '"Small_"')} from t order by big nulls last`)
    assert.equal(rows, [entries.map(([, , , read]) => read), names.map(() => null)])
    assert.equal(await ask(`select unhex('00ff') = bytes, doc ->> '$.a[0]', money + 1 > money from t where big > 0`), [
      [true, '1', true],
    ])

    await db.run(`insert into t (at, never, money) values ('2020-01-01', '0044-03-15 12:00:00 BC', 'NaN')`)
    await archive(made)
    const unfit = await failure(ask('select never from t'))
    assert.is(unfit.code, 'ROWS_UNFIT')
    assert.is(
      unfit.message,
      'Column "never" of t_backup_20260516_0002.csv has "0044-03-15 12:00:00 BC", which is no TIMESTAMP of DuckDB\'s',
    )
    assert.equal(await ask('select never, money from t where never > $$0$$', { text: true }), [
      ['0044-03-15 12:00:00 BC', 'NaN'],
    ])
    // What is not asked for is not looked at.
    assert.equal(await ask('select count(*), count(big) from t'), [[3, 1]])
  },
  ['postgres'],
)

overDatabases(
  test,
  "SQLite: a column's values as they are; where not all are of its type, they are text, and it is said",
  async ({ db, project }) => {
    await db.run(`create table t (at text, n integer, r real, b blob, d decimal(10, 2), raw)`)
    const values = [
      "9223372036854775807, 1e300, x'00ff', 9007199254740993, 'text'",
      "-1, 2, x'', 1.5, 3",
      'null, null, null, null, null',
    ]
    for (const value of values) await db.run(`insert into t values ('2020-01-01', ${value})`)
    const made = project({ t: { table: 't', column: 'at', days: 30 } })
    await archive(made)
    const ask = asker(made)
    assert.equal(await ask('select n, r, b, d, raw from t order by n nulls last'), [
      [-1, 2, '\\x', '1.5', '3'],
      ['9223372036854775807', 1e300, '\\x00ff', '9007199254740993', 'text'],
      [null, null, null, null, null],
    ])
    // Each of them DuckDB would take for a number, or for another one.
    for (const value of ['1.5', "'1_000'", "'0x10'"])
      await db.run(`insert into t (at, n) values ('2020-01-02', ${value})`)
    await archive(made)
    const { rows, notes } = await query('select n from t where n is not null order by n', { cwd: made.folder })
    assert.equal(rows.flat(), ['-1', '0x10', '1.5', '1_000', '9223372036854775807'])
    assert.match(notes.join('\n'), /^Column "n" of t_backup_20260516_0002.csv has "1.5", which is no BIGINT .*text$/)
    assert.equal(await ask('select sum(r) from t'), [[1e300]])
  },
  ['sqlite'],
)

overDatabases(test, 'a column that came, went or became another; long rows', async ({ db, project }) => {
  const time = db.kind === 'sqlite' ? 'text' : 'timestamptz'
  await db.run(
    `create table t (at ${time}, n integer, gone text); insert into t values ('2020-01-01T00:00:00Z', 1, 'g')`,
  )
  const made = project({ t: { table: 't', column: 'at', days: 30 } })
  await archive(made)
  await db.run(
    `alter table t drop column gone; alter table t drop column n; alter table t add column n text; alter table t add column body text`,
  )
  await db.run(`insert into t values ('2020-01-02T00:00:00Z', 'one', '${'x'.repeat(3_000_000)}')`)
  await archive(made)
  assert.equal(await asker(made)('select n, gone, length(body) from t order by "at"'), [
    ['1', 'g', null],
    ['one', null, 3_000_000],
  ])
})

overDatabases(
  test,
  'nothing but archives can be read, and nothing written; what fails or is interrupted gives no part of an answer',
  async ({ db, project }) => {
    await seedLog(db, ['2026-01-01T00:00:00Z'])
    const made = project()
    await archive(made)
    const file = made.path('backups/log_backup_20260516.csv')
    const before = made.read('backups/log_backup_20260516.csv')
    mkdirSync(made.path('other'))
    writeFileSync(made.path('other/secret.csv'), 'a\n1\n')
    const code = async (sql: string): Promise<string> => (await failure(query(sql, { cwd: made.folder }))).code
    for (const sql of [
      `select * from read_csv('${made.path('other/secret.csv')}')`,
      `select * from read_text('/etc/passwd')`,
      `select * from '${made.path('other/secret.csv')}'`,
      `select * from glob('/etc/*')`,
      `select * from sqlite_scan('${made.path('local.db')}', 'log')`,
      'select * from nobody',
      'selec 1',
    ])
      assert.is(await code(sql), 'QUERY_FAILED', sql)
    const reserved = await failure(query('select at from log', { cwd: made.folder }))
    assert.match(reserved.hint ?? '', /double quotes: "at"/)
    for (const sql of [
      `copy (select 1) to '${file}' -- log`,
      `explain analyze copy (select 1) to '${file}' -- log`,
      `set enable_external_access = true`,
      `create table x as select 1`,
      'select 1; select 2',
      '',
    ])
      assert.ok(['USAGE', 'QUERY_FAILED'].includes(await code(sql)), sql)
    assert.is(made.read('backups/log_backup_20260516.csv'), before)
    assert.equal(made.list(), ['log_backup_20260516.csv', 'log_backup_20260516.csv.manifest.json'])
    made.write('backups/log_backup_20260516.csv', before.slice(0, before.indexOf('\n') + 1))
    assert.is(await code('select * from log'), 'ARCHIVE_CHANGED')
    made.write('backups/log_backup_20260516.csv', before)
    const late = `select case range when 300000 then error('too late') else range end as n from range(400000)`
    const given: unknown[] = []
    const failed = streamQuery(late, { cwd: made.folder }, async ({ rows }) => {
      for await (const some of rows) given.push(some)
    })
    assert.match((await failure(failed)).message, /too late/)
    assert.equal(given, [])
    const stop = new AbortController()
    const asked = streamQuery(
      'select a.range from log, range(300000) a',
      { cwd: made.folder, signal: stop.signal },
      async ({ rows }) => {
        for await (const some of rows) if (some.length > 0) stop.abort()
      },
    )
    assert.is((await failure(asked)).code, 'INTERRUPTED')
    nothingIsLeft()
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a terminal that is closed and an impatient Ctrl-C leave nothing unsealed behind',
  async ({ db, project }) => {
    await seedLog(db, ['2026-01-01T00:00:00Z'])
    const made = project({ log: logPolicy }, { archive: { to: './backups', durable: true, encrypt: sealed } })
    await archive(made)
    mkdirSync(made.path('tmp'))
    const left = (): string[] =>
      readdirSync(made.path('tmp'), { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('query-'))
    const endless =
      'select count(*) from log, range(1000000000) a, range(1000000000) b where hash(a.range, b.range) = 7'
    for (const signals of [['SIGHUP'], ['SIGINT', 'SIGINT']] as const) {
      const child = spawn(process.execPath, [path.join(import.meta.dirname, '../src/bin.ts'), 'query', endless], {
        cwd: made.folder,
        env: { ...process.env, TMPDIR: made.path('tmp') },
        stdio: 'ignore',
      })
      const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
      while (!left().some((name) => name.endsWith('.csv'))) await sleep(10)
      for (const signal of signals) child.kill(signal)
      assert.is(await closed, 130)
      assert.equal(left(), [])
    }
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a table, CSV, JSON, and what can be asked; on the command line',
  async ({ db, project }) => {
    await seedLog(
      db,
      ['2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'],
      `case id when 1 then '' else 'a "b",' || char(10) end`,
    )
    const made = project()
    await archive(made)
    const sql = `select id, body, null as nothing, 'NULL' as word from log order by id`
    const printed = async (format: string, limit?: number): Promise<string> =>
      streamQuery(sql, { cwd: made.folder }, async (answer) => {
        let text = ''
        for await (const piece of printAnswer(answer, format, limit)) text += piece
        return text
      })
    assert.is(
      await printed('table'),
      [
        '  id  body          nothing  word',
        '   1  ""               NULL  "NULL"',
        String.raw`   2  "a \"b\",\n"     NULL  "NULL"`,
        '',
        '  2 rows · 1 archive read',
        '',
      ].join('\n'),
    )
    assert.match(await printed('table', 1), /"NULL"\n\n {2}The first 1 row; --limit shows more · 1 archive read\n$/)
    assert.match(printViews(await listViews({ cwd: made.folder })), /^log {2}2 rows in 1 archive\n.*\n {2}id +BIGINT\n/)
    assert.equal(readCsv(await printed('csv')), [
      ['id', 'body', 'nothing', 'word'],
      ['1', '', null, 'NULL'],
      ['2', 'a "b",\n', null, 'NULL'],
    ])
    // A module that fails as one does which is not there.
    made.write(
      'hook.mjs',
      `import { registerHooks } from 'node:module'
      registerHooks({ resolve(name, context, next) { if (name === '@duckdb/node-api') throw new Error('not there'); return next(name, context) } })`,
    )
    const [json, without] = await Promise.all([
      made.cli(['query', sql, '--json']),
      made.cli(['query', sql], { node: ['--import', made.path('hook.mjs')] }),
    ])
    assert.equal(json.json(), [
      { id: 1, body: '', nothing: null, word: 'NULL' },
      { id: 2, body: 'a "b",\n', nothing: null, word: 'NULL' },
    ])
    assert.equal([json.code, without.code], [0, 1])
    assert.match(without.stderr, 'npm install @duckdb/node-api')
  },
  ['sqlite'],
)

test.run()
