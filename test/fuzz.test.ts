/** Bad input to everything: no crash, no stack for a mistake, nothing unquoted in SQL, no secret in any output. */
import { readFileSync } from 'node:fs'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore, status, verify } from '../src/index.ts'
import { loadProject } from '../src/config/project.ts'
import { formatTableName } from '../src/config/fields.ts'
import { RetentionError } from '../src/errors.ts'
import { createDatabase, onCluster, type TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { compareRows, tableRows } from './support/judge.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('fuzz')

const cutoff = '2026-05-16T00:00:00Z'

test('any words on the command line: an exit code that is documented, and no stack (property)', async () => {
  const db = await createDatabase('sqlite')
  const made = new TestProject({ database: db.address }, { log: logPolicy })
  await seedLog(db, minutesBefore(cutoff, 2))
  const word = fc.oneof(
    fc.constantFrom(
      'apply',
      'plan',
      'status',
      'restore',
      'verify',
      'init',
      'hold',
      'add',
      'list',
      'release',
      '--json',
      '--quiet',
      '--config',
      '--dry-run',
      '--yes',
    ),
    fc.constantFrom(
      '--limit-rows',
      '--max-time',
      '--before',
      '--hold',
      '--into',
      '--reason',
      '--where',
      '--until',
      '--archive',
      '--on-conflict',
      '--table',
      '--days',
      '--repair',
      '--deep',
    ),
    fc.constantFrom(
      'log',
      '0',
      '-1',
      '1e999',
      '2026-02-30',
      '10m',
      'NaN',
      '',
      '--',
      '-',
      '__proto__',
      '--constructor',
      '--no-json',
      '=',
      '--=x',
    ),
    fc.string({ maxLength: 12 }).filter((text) => !text.includes('\0')),
  )
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 6 }), async (words) => {
        const { code, stdout, stderr } = await made.run(words)
        assert.ok([0, 1, 2, 3, 4].includes(code ?? -1), `exit ${code}: ${stderr}`)
        assert.not.match(stdout + stderr, /^ {4}at |Unexpected:|UNEXPECTED/m)
        if (words.includes('--json') && stdout !== '' && !words.includes('--')) {
          assert.ok(stdout.startsWith('{') || /^(retention|Usage)/.test(stdout), stdout)
        }
      }),
      { numRuns: timesOf(20) },
    )
  } finally {
    made.remove()
    await db.drop()
  }
})

test('any policy and config file: loaded, or told as a mistake (property)', async () => {
  const made = new TestProject({})
  const field = fc.constantFrom(
    'table',
    'column',
    'days',
    'archive',
    'where',
    'batch',
    'pause',
    'maxRows',
    'columnTimezone',
    'to',
    'x',
  )
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom('log', 30, '2s', -1, 0.5, '', null, 'UTC', './a', 's3://b/c'))
  const content = fc.oneof(
    fc.dictionary(field, value).map((object) => JSON.stringify(object)),
    fc.jsonValue().map((json) => JSON.stringify(json) ?? ''),
    fc.string({ unit: 'binary' }),
    fc.string().map((text) => `{${text}`),
  )
  const file = fc.constantFrom(
    'p.json',
    'p.yaml',
    'p.yml',
    'p.ts',
    'p.js',
    'p.mjs',
    '../retention.config.json',
    '../.retentionrc',
  )
  try {
    await fc.assert(
      fc.asyncProperty(file, content, async (name, text) => {
        // What a program may do when it is run is its own affair.
        fc.pre(!/\.[mc]?[tj]s$/.test(name) || !/[a-z]/i.test(text))
        made.write(`policies/${name}`, text)
        const error = await loadProject({ cwd: made.folder }).then(
          () => undefined,
          (reason: unknown) => reason,
        )
        made.write(`policies/${name}`, '')
        if (error !== undefined && !(error instanceof RetentionError)) throw error
        assert.ok(error === undefined || error.code !== 'UNEXPECTED')
      }),
      { numRuns: timesOf(120) },
    )
  } finally {
    made.remove()
  }
})

/** A name as SQL quotes it. */
const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

const hardNames = [
  'Robert"); drop table log; --',
  'a.b',
  '"',
  "'",
  '로그 🙂',
  '--',
  '/* */',
  '\\',
  '$1',
  '%s',
  '${x}',
  'select',
  'id',
  'ID',
  'é',
  'a\nb',
  'retention_staged',
  'n',
  's',
  't',
  'excluded',
]

overDatabases(test, 'tables and columns of any name: quoted wherever they go (property)', async ({ db, project }) => {
  const name = fc
    .oneof(fc.constantFrom(...hardNames), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 15 }))
    .filter((text) => !text.includes('\0') && text.isWellFormed() && text.trim() !== '')
    .filter((text) => Buffer.byteLength(text) <= 63 && !/^(sqlite_|main$|rowid$|_rowid_$|oid$)/i.test(text))
    // Names of Postgres's own columns.
    .filter((text) => !['tableoid', 'ctid', 'xmin', 'cmin', 'xmax', 'cmax'].includes(text))
  const names = fc
    .tuple(name, name, name, name)
    .filter(([, ...columns]) => new Set(columns.map((text) => text.toLowerCase())).size === 3)
  await db.run('create table bystander (x integer); insert into bystander values (1)')
  let count = 0
  await fc.assert(
    fc.asyncProperty(names, fc.boolean(), async ([table, id, at, body], hasKey) => {
      count += 1
      const [key, time] = [hasKey ? 'primary key not null' : '', db.kind === 'sqlite' ? 'text' : 'timestamptz']
      await db.run(
        `create table ${quoted(table)} (${quoted(id)} integer ${key}, ${quoted(at)} ${time}, ${quoted(body)} text)`,
      )
      await db.run(
        `insert into ${quoted(table)} values (1, '2020-01-01', 'one'), (2, '2020-01-02', 'two''s "quotes"'), (3, '2099-01-01', null)`,
      )
      const made = project({
        [`p${count}`]: { table: formatTableName({ schema: undefined, name: table }), column: at, days: 30, batch: 1 },
      })
      try {
        const before = await db.rows(`select * from ${quoted(table)} order by 1`)
        const [policy] = (await apply({ cwd: made.folder, now })).policies
        assert.is(policy?.archived, 2, policy?.error?.message)
        for (const archive of policy?.archives ?? []) {
          await restore({ cwd: made.folder, file: archive.name, now })
        }
        assert.equal(await db.rows(`select * from ${quoted(table)} order by 1`), before)
        assert.is((await apply({ cwd: made.folder, now })).policies[0]?.held, 2)
      } finally {
        await db.run(`drop table ${quoted(table)}; delete from retention_ledger_holds`)
      }
    }),
    {
      numRuns: timesOf(12),
      examples: hardNames
        .slice(0, 8)
        .map(
          (text) => [[text, `${text}1`, `${text}2`, `${text}3`], true] as [[string, string, string, string], boolean],
        ),
    },
  )
  assert.is(Number(await db.value('select count(*) from bystander')), 1)
})

overDatabases(test, 'a name that is too long, or has a NUL in it, is told as a mistake', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 1))
  for (const table of ['x'.repeat(64), 'x'.repeat(10_000), '가'.repeat(40)]) {
    const [policy] = (await apply({ cwd: project({ log: { ...logPolicy, table } }).folder, now })).policies
    assert.is(policy?.status, 'refused')
    assert.match(policy?.error?.message ?? '', /There is no table/)
  }
  const error = await apply({ cwd: project({ log: { ...logPolicy, table: 'a\0b' } }).folder, now }).catch(
    (reason: unknown) => reason,
  )
  assert.match(String(error), /field "table" is .*allowed: a table/)
})

const secret = 'hunter2-S3cret'

overDatabases(
  test,
  'a password is in no output, no ledger, no manifest and no archive, whatever goes wrong',
  async ({ db, project }) => {
    const role = new URL(db.address).pathname.slice(1)
    await onCluster(`create role ${role} login password '${secret}'`)
    await seedLog(db, minutesBefore(cutoff, 2))
    await db.run(
      `grant all on log to ${role}; grant create on schema public to ${role}; grant usage on sequence log_id_seq to ${role}`,
    )
    const url = new URL(db.address)
    url.username = role
    url.password = secret
    const good = url.href
    const made = project({ log: logPolicy, broken: { ...logPolicy, column: 'nope' } }, { database: good })
    const outputs: string[] = []
    const run = async (args: readonly string[], database = good): Promise<void> => {
      made.configure({ database })
      const { stdout, stderr } = await made.run(args, { env: { DATABASE_URL: good, PGPASSWORD: secret } })
      outputs.push(stdout, stderr)
    }
    await run(['apply'])
    await run(['apply', '--json'])
    await run(['status', '--archives', '--json'])
    await run(['verify', '--deep', '--repair', '--json'])
    await run(['restore', 'nothing', '--json'])
    const [archive = ''] = made.list()
    await run(['restore', archive, '--json'])
    await run(['init', '--yes', '--table', 'log', '--column', 'nope'])
    for (const bad of [
      good.replace(/:\d+\//, ':1/'),
      good.replace('127.0.0.1', 'no.such.host.invalid'),
      good.replace(/\/[^/]*$/, '/no_such_database'),
      `${good}?sslmode=require`,
      `${good}?nonsense=${secret}&password=${secret}`,
      good.replace(secret, `${secret}x`),
      good.replace('postgres:', 'mysql:'),
      good.replace('postgres:', 'sqlite:'),
      good.replace('@', '/@'),
      good.replace('@', '#@'),
      `postgres:${secret}@`,
    ]) {
      await run(bad.startsWith('postgres') ? ['apply', '--json'] : ['status'], bad)
    }
    for (const text of outputs) assert.not.match(text, new RegExp(secret), text)
    for (const name of made.list())
      assert.not.match(readFileSync(made.path(`backups/${name}`), 'utf8'), new RegExp(secret))
    for (const table of ['ledger', 'ledger_names', 'ledger_holds', 'ledger_held_runs', 'ledger_held_rows']) {
      assert.not.match((await db.dump(`retention_${table}`)).join('\n'), new RegExp(secret))
    }
    await dropRole(db, role)
  },
  ['postgres'],
)

async function dropRole(db: TestDatabase, role: string): Promise<void> {
  await db.run(`reassign owned by ${role} to postgres; drop owned by ${role}; drop role ${role}`)
}

overDatabases(
  test,
  "text of any kind in a table comes back, and is nobody's command (property)",
  async ({ db, project }) => {
    const text = fc
      .string({ unit: 'binary', maxLength: 30 })
      .filter((value) => value.isWellFormed() && !value.includes('\0'))
    await seedLog(db, [])
    const placeholder = db.kind === 'sqlite' ? '?' : '$1'
    await fc.assert(
      fc.asyncProperty(fc.array(fc.option(text), { minLength: 1, maxLength: 30 }), async (bodies) => {
        await db.run('delete from log')
        for (const body of bodies)
          await db.run(`insert into log (at, body) values ('2020-01-01T00:00:00Z', ${placeholder})`, [body])
        const before = await tableRows(db, 'log')
        const made = project()
        const [policy] = (await apply({ cwd: made.folder, now })).policies
        assert.is(policy?.archived, bodies.length, policy?.error?.message)
        await restore({ cwd: made.folder, file: policy?.archives[0]?.name ?? '', now, hold: 'none' })
        compareRows(await tableRows(db, 'log'), before)
      }),
      { numRuns: timesOf(12) },
    )
    const made = project()
    assert.equal(
      (await verify({ cwd: made.folder })).findings.filter(({ kind }) => kind === 'changed'),
      [],
    )
    assert.ok((await status({ cwd: made.folder, now })).archives.length > 0)
  },
)

test.run()
