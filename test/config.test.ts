/** Config and policies: found, read in every language, and every mistake told at once. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { plan, restore, RetentionError, status } from '../src/index.ts'
import { loadConfig, loadProject } from '../src/config/project.ts'
import { sqliteFile } from '../src/database/sqlite/connection.ts'
import { withoutSecrets } from '../src/errors.ts'
import { bytes, formatTableName, milliseconds, parseTableName } from '../src/config/fields.ts'
import { createDatabase } from './support/database.ts'
import { TestProject } from './support/project.ts'
import { seedLog } from './support/scene.ts'

const test = suite('config')

const policy = { table: 'log', column: 'at', days: 30 }

/** A project's folder, and what loading it says. */
async function mistakesOf(made: TestProject): Promise<string> {
  const error = await loadProject({ cwd: made.folder }).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.instance(error, RetentionError)
  return error instanceof Error ? error.message : ''
}

function withProject(name: string, body: (made: TestProject) => Promise<void>, policies = { log: policy }): void {
  test(name, async () => {
    const made = new TestProject({ database: 'sqlite:./local.db' }, policies)
    try {
      await body(made)
    } finally {
      made.remove()
    }
  })
}

withProject('is found from any folder below, and relative paths start at its own', async (made) => {
  mkdirSync(made.path('a/b'), { recursive: true })
  const { config, policies } = await loadProject({ cwd: made.path('a/b') })
  assert.is(config.folder, made.folder)
  assert.is(config.policies, made.path('policies'))
  assert.equal(
    policies.map(({ name }) => name),
    ['log'],
  )
})

withProject('has defaults for everything', async (made) => {
  made.write('retention.config.ts', 'export default {}')
  const { config, policies } = await loadProject({ cwd: made.folder })
  assert.is(config.timezone, 'UTC')
  assert.equal(config.archive, { to: './backups', durable: false, bom: true })
  assert.equal(config.ledger, { schema: undefined, name: 'retention_ledger' })
  assert.is(policies[0]?.batch, 50_000)
  assert.is(policies[0]?.columnTimezone, 'UTC')
})

test('sizes: bytes, or a number with a unit of thousands or of 1024', () => {
  const sizes = { '0B': 0, '500kB': 5e5, '64 MB': 64e6, '1.5gb': 1.5e9, '2TB': 2e12, '1KiB': 1024, '64MiB': 2 ** 26 }
  for (const [written, size] of Object.entries(sizes)) assert.is(bytes(written), size, written)
  assert.is(bytes(1000), 1000)
  for (const wrong of ['', '64', '64M', 'MB', '-1MB', '1e3MB', '1,5MB', '64MBit', '1iB', -1, NaN, Infinity]) {
    assert.is(bytes(wrong), undefined, String(wrong))
  }
})

withProject('limits of throttle and batchBytes are checked, and mistakes in them are told', async (made) => {
  made.write(
    'retention.config.ts',
    'export default { throttle: { replicaLg: 1, walBacklog: "much", maxWait: 0 }, gentle: 1 }',
  )
  made.write(
    'policies/log.ts',
    'export default { table: "t", column: "c", days: 1, batchBytes: "2GB", throttle: true }',
  )
  const message = await mistakesOf(made)
  assert.match(message, /unknown field "throttle\.replicaLg" \(did you mean "replicaLag"\?\)/)
  assert.match(message, /"throttle\.walBacklog" is "much"; allowed: a size, such as/)
  assert.match(message, /"throttle\.maxWait" is 0; allowed: a duration from "1ms"/)
  assert.match(message, /"gentle" is 1; allowed: true or false/)
  assert.match(message, /"batchBytes" is "2GB"; allowed: a size from "1kB" to "1GB"/)
  assert.match(message, /"throttle" is true; allowed: false, or an object with replicaLag, /)
})

withProject('takes the database from DATABASE_URL, and an empty variable for none', async (made) => {
  const { DATABASE_URL } = process.env
  try {
    for (const [value, expected] of [
      ['postgres://host/db', 'postgres://host/db'],
      ['', 'sqlite:./local.db'],
      [undefined, 'sqlite:./local.db'],
    ]) {
      if (value === undefined) delete process.env['DATABASE_URL']
      else process.env['DATABASE_URL'] = value
      made.write('retention.config.ts', 'export default {}')
      assert.is((await loadProject({ cwd: made.folder })).config.database, expected)
    }
  } finally {
    if (DATABASE_URL === undefined) delete process.env['DATABASE_URL']
    else process.env['DATABASE_URL'] = DATABASE_URL
  }
})

const languages: Record<string, string> = {
  ts: 'const days: number = 30\nexport default { table: "log", column: "at", days }',
  mts: 'export default { table: "log", column: "at", days: 30 as number }',
  cts: 'module.exports = { table: "log", column: "at", days: 30 as number }',
  js: 'export default { table: "log", column: "at", days: 30 }',
  mjs: 'export default { table: "log", column: "at", days: 30 }',
  cjs: 'module.exports = { table: "log", column: "at", days: 30 }',
  json: '{ "table": "log", "column": "at", "days": 30 }',
  yaml: 'table: log\ncolumn: at\ndays: 30\n',
  yml: 'table: log\ncolumn: at\ndays: 30\n',
}

for (const kind of ['module', 'commonjs', undefined]) {
  withProject(`policies in every language, in a package of type ${kind ?? 'unsaid'}`, async (made) => {
    made.write('package.json', JSON.stringify({ type: kind }))
    made.write(
      'retention.config.ts',
      'import path from "node:path"\nexport default { database: "sqlite:" + path.join(".", "x.db") }',
    )
    for (const [extension, text] of Object.entries(languages)) {
      if (extension === 'js' && kind === 'commonjs') made.write('policies/in_js.js', languages['cjs'] ?? '')
      else made.write(`policies/in_${extension}.${extension}`, text)
    }
    made.write('policies/README.md', 'not a policy')
    made.write('policies/types.d.ts', 'not a policy')
    const { policies } = await loadProject({ cwd: made.folder })
    assert.equal(
      policies.map(({ name }) => name).toSorted(),
      ['log', ...Object.keys(languages).map((extension) => `in_${extension}`)].toSorted(),
    )
    for (const one of policies) assert.is(one.days, 30)
    // Whoever runs us has no use for Node's remarks on how the package is written.
    assert.not.match((await made.cli(['plan'])).stderr, /Warning/)
  })
}

for (const [file, text] of Object.entries({
  'retention.config.js': 'export default { timezone: "Asia/Seoul" }',
  'retention.config.json': '{ "timezone": "Asia/Seoul" }',
  'retention.config.yaml': 'timezone: Asia/Seoul',
  '.retentionrc': 'timezone: Asia/Seoul',
  '.retentionrc.json': '{ "timezone": "Asia/Seoul" }',
  'package.json': '{ "retention": { "timezone": "Asia/Seoul" } }',
})) {
  withProject(`config in ${file}`, async (made) => {
    rmSync(made.path('retention.config.ts'))
    made.write(file, text)
    assert.is((await loadProject({ cwd: made.folder })).config.timezone, 'Asia/Seoul')
  })
}

withProject('tells every mistake of every file at once, with file, field, value and what is allowed', async (made) => {
  made.write(
    'retention.config.ts',
    'export default { databse: "x", timezone: "Mars/Olympus", archive: { to: "", durabel: true }, ledger: "a b" }',
  )
  made.write('policies/a.ts', 'export default { tabel: "log", column: "", days: -3, batch: 1.5, pause: "soon" }')
  made.write(
    'policies/b.ts',
    'export default { table: "log", column: "at", days: Number("x"), maxPercent: 101, archive: "gs://bucket" }',
  )
  made.write('policies/c.ts', 'export default {\n  table: "log"\n  column: "at"\n}')
  made.write('policies/d.ts', 'export const policy = {}')
  made.write('policies/e.yaml', 'table: [')
  made.write('policies/Log.json', '{}')
  made.write('policies/f.ts', 'throw new Error("no luck")\nexport default {}')
  made.write('policies/g.ts', 'import x from "not-installed"\nexport default x')
  made.write('policies/h i.ts', 'export default { table: "log", column: "at", days: 1 }')
  const text = await mistakesOf(made)
  for (const expected of [
    /There are \d+ mistakes in the configuration:/,
    /retention\.config\.ts: unknown field "databse" \(did you mean "database"\?\); allowed: database, databases, parallel, policies/,
    /field "timezone" is "Mars\/Olympus"; allowed: an IANA time zone/,
    /unknown field "archive\.durabel" \(did you mean "durable"\?\)/,
    /field "archive\.to" is ""; allowed: a folder/,
    /field "ledger" is "a b"; allowed: a name of letters/,
    /policies\/a\.ts: unknown field "tabel" \(did you mean "table"\?\)/,
    /policies\/a\.ts: field "table" is missing; allowed: a table/,
    /policies\/a\.ts: field "column" is ""; allowed: the name of a column/,
    /policies\/a\.ts: field "days" is -3; allowed: a whole number, at least 1/,
    /policies\/a\.ts: field "batch" is 1\.5; allowed: a whole number/,
    /policies\/a\.ts: field "pause" is "soon"; allowed: a duration/,
    /policies\/b\.ts: field "days" is NaN; allowed: a whole number/,
    /policies\/b\.ts: field "maxPercent" is 101; allowed: a number above 0/,
    /policies\/b\.ts: field "archive" is "gs:\/\/bucket"; allowed: a folder, or an address that begins with s3/,
    /policies\/c\.ts: cannot be read: line 3: /,
    /policies\/d\.ts: exports undefined; allowed: an object with table, column and days/,
    /policies\/e\.yaml: cannot be read: /,
    /policies\/(Log\.json|log\.ts): duplicate policy "[Ll]og": (log\.ts|Log\.json) has that name too/,
    /policies\/f\.ts: cannot be read: line 1: no luck/,
    /policies\/g\.ts: cannot be read: Cannot find package 'not-installed'/,
    /policies\/h i\.ts: the file's name is the policy's name/,
  ]) {
    assert.match(text, expected)
  }
  const run = await made.run(['plan'])
  assert.is(run.code, 2)
  assert.not.match(run.stderr, /\n\s+at /)
})

withProject('what stands in a file is told as it stands: functions, promises, lists, null', async (made) => {
  for (const [name, text, expected] of [
    ['a', 'export default () => ({})', /a\.ts: exports a function/],
    [
      'b',
      'export default Promise.resolve({ table: "x", column: "y" })',
      /b\.ts: field "days" is missing; allowed: a whole number/,
    ],
    ['c', 'export default [1]', /c\.ts: /],
    ['d', 'export default null', /d\.ts: exports null/],
    [
      'e',
      'export default { table: 5, column: {}, days: "30" }',
      /e\.ts: field "days" is "30"; allowed: a whole number/,
    ],
    [
      'f',
      'export default { table: "a.b.c", column: "x", days: 1 }',
      /f\.ts: field "table" is "a\.b\.c"; allowed: a table/,
    ],
  ] as const) {
    made.write(`policies/${name}.ts`, text)
    assert.match(await mistakesOf(made), expected)
  }
})

withProject('no config, no policies, no folder of them', async (made) => {
  rmSync(made.path('policies/log.ts'))
  assert.match(await mistakesOf(made), /There are no policies in/)
  rmSync(made.path('policies'), { recursive: true })
  assert.match(await mistakesOf(made), /The policies folder .* does not exist/)
  rmSync(made.path('retention.config.ts'))
  assert.match(await mistakesOf(made), /No retention\.config\.ts in/)
  assert.is((await made.run(['status'])).code, 2)
  assert.is((await made.run(['status', '--config', 'nowhere.ts'])).code, 2)
})

withProject('a config that fails to read a file of its own is a mistake, not a missing config', async (made) => {
  made.write(
    'retention.config.ts',
    'import { readFileSync } from "node:fs"\nexport default { database: readFileSync("/nowhere/url", "utf8") }',
  )
  assert.match(await mistakesOf(made), /retention\.config\.ts: cannot be read: .*ENOENT/)
})

withProject('a policy that nobody has: names the near miss', async (made) => {
  const run = await made.run(['plan', 'lgo'])
  assert.is(run.code, 2)
  assert.match(run.stderr, /No policy is called "lgo" \(did you mean "log"\?\)/)
})

withProject('a config given as an object, and one given by its path', async (made) => {
  const { config } = await loadProject({ config: { timezone: 'Asia/Seoul' }, cwd: made.folder })
  assert.is(config.timezone, 'Asia/Seoul')
  writeFileSync(made.path('other.ts'), 'export default { timezone: "Europe/Paris" }')
  assert.is((await loadProject({ config: 'other.ts', cwd: made.folder })).config.timezone, 'Europe/Paris')
  assert.is((await loadProject({ config: made.path('other.ts') })).config.timezone, 'Europe/Paris')
})

withProject('a database that is not there is an error, and never made', async (made) => {
  const run = await made.run(['apply'])
  assert.is(run.code, 1)
  assert.match(run.stderr, /There is no SQLite file .*local\.db/)
  assert.equal(made.list('.'), ['package.json', 'policies', 'retention.config.ts'])
  made.write('local.db', 'this is no database, though it is long enough to be read as one')
  assert.match((await made.run(['apply'])).stderr, /Cannot open .*local\.db: file is not a database/)
})

withProject('no secret in any message', async (made) => {
  for (const database of [
    'postgres://user:S3CRET@127.0.0.1:1/db',
    'postgres://user:S3C/RET@127.0.0.1:1/db?password=S3CRET',
    'mysql://user:S3CRET@host/db',
    'postgres://user:S3CRET@nowhere.invalid/db',
  ]) {
    made.configure({ database })
    for (const args of [['plan'], ['apply', '--json'], ['init']]) {
      const { stdout, stderr, code } = await made.run(args)
      assert.ok(code === 1 || code === 2, `${args.join(' ')}: ${code}`)
      assert.not.match(stdout + stderr, /S3C/)
    }
  }
})

test('withoutSecrets leaves no part of a password (property)', () => {
  const part = fc.stringMatching(/^[A-Za-z0-9:/?#[\]@!$&()*+,;=%._~-]{1,20}$/)
  fc.assert(
    fc.property(part, part, (user, password) => {
      const secret = `SECRET${password}SECRET`
      assert.not.match(withoutSecrets(`cannot reach postgres://${user}:${secret}@host/db now`), /SECRET/)
    }),
  )
  assert.is(withoutSecrets('postgres://host/db?user=a&password=b&c=d'), 'postgres://host/db?user=a&password=***&c=d')
})

test('SQLite addresses as people write them', () => {
  for (const [address, expected] of [
    ['sqlite:./local.db', '/app/local.db'],
    ['sqlite:local.db', '/app/local.db'],
    ['sqlite:../local.db', '/local.db'],
    ['sqlite:/var/a.db', '/var/a.db'],
    ['sqlite:///./local.db', '/app/local.db'],
    ['sqlite:///../local.db', '/local.db'],
    ['sqlite:///var/a.db', '/var/a.db'],
    ['sqlite:////var/a.db', '/var/a.db'],
    ['sqlite://local.db', '/app/local.db'],
    ['sqlite://./local.db', '/app/local.db'],
    ['file:./dev.db', '/app/dev.db'],
    ['sqlite:./with space.db', '/app/with space.db'],
  ] as const) {
    assert.is(sqliteFile(address, '/app'), path.normalize(expected), address)
  }
  for (const address of ['sqlite:', 'sqlite::memory:', 'sqlite://', 'sqlite:///']) {
    assert.throws(() => sqliteFile(address, '/app'), /names no SQLite file/, address)
  }
})

test('table names survive being written and read (property)', () => {
  const name = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !text.includes('\0'))
  fc.assert(
    fc.property(fc.option(name, { nil: undefined }), name, (schema, table) => {
      assert.equal(parseTableName(formatTableName({ schema, name: table })), { schema, name: table })
    }),
  )
  for (const bad of ['', '.', 'a.', '.a', 'a.b.c', '"a', 'a"b', '"a"b']) assert.is(parseTableName(bad), undefined, bad)
})

test('durations', () => {
  for (const [duration, expected] of [
    [500, 500],
    ['500ms', 500],
    ['2s', 2000],
    ['1.5 h', 5_400_000],
    ['30d', 2_592_000_000],
    [0, 0],
  ] as const) {
    assert.is(milliseconds(duration), expected)
  }
  for (const bad of ['', 'soon', '5', '-5s', '5 parsecs', -1, Number.NaN, Infinity])
    assert.is(milliseconds(bad), undefined, String(bad))
})

test('a config may be any JSON: no crash, no stack (property)', async () => {
  const made = new TestProject({}, { log: policy })
  try {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (config, one) => {
        made.write('retention.config.json', JSON.stringify(config))
        made.write('policies/any.json', JSON.stringify(one))
        const error = await loadProject({ config: 'retention.config.json', cwd: made.folder }).catch(
          (reason: unknown) => reason,
        )
        assert.ok(error instanceof RetentionError || (typeof error === 'object' && error !== null && 'config' in error))
      }),
    )
  } finally {
    made.remove()
  }
})

test('a policy whose file changes is read again by the same process', async () => {
  const db = await createDatabase('sqlite')
  const made = new TestProject({ database: db.address }, { log: policy })
  try {
    await seedLog(db, ['2020-01-01T00:00:00Z'])
    assert.is((await plan({ cwd: made.folder })).policies[0]?.due, 1)
    await new Promise((resolve) => setTimeout(resolve, 10))
    made.policy('log', { ...policy, where: 'false' })
    assert.is((await plan({ cwd: made.folder })).policies[0]?.due, 0)
  } finally {
    made.remove()
    await db.drop()
  }
})

test('an address that could be read in two ways is refused, and no part of its password is shown', async () => {
  const addresses = [
    'postgres://user:1234/hunter2@127.0.0.1/db',
    'postgres://user:hunter2#rest@127.0.0.1/db',
    'postgres://user:12?hunter2@127.0.0.1/db',
    'postgres://user:p@hunter2/word@127.0.0.1/db',
  ]
  const made = new TestProject({}, { log: policy })
  try {
    for (const address of addresses) {
      made.configure({ database: address })
      const { code, stdout, stderr } = await made.run(['status', '--json'])
      assert.is(code, 2, address)
      assert.match(stdout, /written as %2F, %3F and %23/)
      assert.not.match(stdout + stderr, /hunter2|1234/)
    }
  } finally {
    made.remove()
  }
})

test('an empty config is not passed over for one further up', async () => {
  const made = new TestProject({ database: 'sqlite:./prod.db' }, { log: policy })
  try {
    made.write('child/policies/log.json', JSON.stringify(policy))
    for (const [name, text] of [
      ['retention.config.ts', 'export const config = { database: "sqlite:./local.db" }'],
      ['retention.config.ts', ''],
      ['retention.config.json', 'null'],
      ['.retentionrc', ''],
    ] as const) {
      made.write(`child/${name}`, text)
      const { code, stderr } = await made.run(['status'], { cwd: made.path('child') })
      assert.is(code, 2, `${name}: ${stderr}`)
      assert.match(stderr, /exports nothing/)
      rmSync(made.path(`child/${name}`))
    }
  } finally {
    made.remove()
  }
})

test('limits that a database would take for none are refused', async () => {
  for (const lockTimeout of [0, '0.4ms', '30d']) {
    const error = await loadConfig({ config: { lockTimeout } }).catch((reason: unknown) => reason)
    assert.match(String(error), /"lockTimeout".*allowed: a duration from "1ms" to "24d"/)
  }
})

test('what a JavaScript program may pass by mistake is told as such', async () => {
  // None of these is what the types ask for.
  const wrong: [RegExp, () => Promise<unknown>][] = [
    [/"now" is Invalid Date/, () => status({ config: {}, now: new Date(Number.NaN) })],
    [/"config" is 5/, () => status({ config: 5 as unknown as string })],
    [/"file" is undefined/, () => restore({} as { file: string })],
  ]
  for (const [message, call] of wrong) {
    const error = await call().catch((reason: unknown) => reason)
    assert.instance(error, RetentionError)
    assert.match(String(error), message)
  }
})

test.run()
