/** The command line, as a process: what goes where, exit codes, signals, and old versions of Node. */
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { type ApplyReport, type InitReport, type RestoreReport, type StatusReport } from '../src/index.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog } from './support/scene.ts'

const test = suite('cli')

const repository = path.join(import.meta.dirname, '..')

test('help, version, and mistakes in how it is called', async () => {
  const made = new TestProject({})
  try {
    const help = await made.cli(['--help'])
    assert.is(help.code, 0)
    for (const command of ['init', 'plan', 'apply', 'status', 'restore <file>', 'verify', 'hold'])
      assert.ok(help.stdout.includes(`retention ${command}`), command)
    for (const command of ['init', 'plan', 'apply', 'status', 'restore', 'verify']) {
      const { code, stdout } = await made.cli([command, '--help'])
      assert.is(code, 0)
      for (const option of ['--config', '--json', '--quiet']) assert.ok(stdout.includes(option), `${command} ${option}`)
    }
    assert.match((await made.cli(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/)
    for (const [args, message] of [
      [[], /Name a command/],
      [['aply'], /Did you mean apply\?/],
      [['apply', '--limit-row', '5'], /Unknown argument/],
      [['apply', '--limit-rows', 'five'], /--limit-rows is "five"; allowed: a number/],
      [['apply', '--limit-rows'], /Not enough arguments/],
      [['restore'], /Name the archive: retention restore <file>/],
      [['hold', 'release'], /Name the hold: retention hold release <id>/],
      [['restore', 'x', '--on-conflict', 'maybe'], /Invalid values/],
    ] as const) {
      const run = await made.run(args)
      assert.is(run.code, 2, args.join(' '))
      assert.match(run.stderr, message)
      assert.is(run.stdout, '')
      assert.not.match(run.stderr, /\n\s+at /)
    }
  } finally {
    made.remove()
  }
})

overDatabases(test, 'options that a run cannot take are told before anything is touched', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 2))
  const made = project()
  for (const [args, message] of [
    [['apply', '--limit-rows', '0'], /--limit-rows is 0; allowed: a whole number, at least 1/],
    [['apply', '--limit-rows', '1.5'], /--limit-rows is 1\.5/],
    [['apply', '--max-time', 'soon'], /--max-time is "soon"; allowed: a duration/],
    [['apply', '--max-step-time', '0s'], /--max-step-time is "0s"; allowed: a duration/],
    [['apply', '--before', 'yesterday'], /--before is "yesterday"; allowed: a day/],
    [['restore', 'x', '--hold', 'soon'], /--hold is "soon"/],
    [['restore', 'x', '--into', 'a.b.c'], /--into is "a\.b\.c"/],
  ] as const) {
    const run = await made.run(args)
    assert.is(run.code, 2, args.join(' '))
    assert.match(run.stderr, message)
  }
  assert.is(Number(await db.value('select count(*) from log')), 2)
})

overDatabases(test, '--json: one document on stdout, and nothing else there', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 3))
  const made = project()
  const planned = (await made.run(['plan', '--json'])).json<ApplyReport>()
  assert.is(planned.dryRun, true)
  assert.equal((await made.run(['apply', '--dry-run', '--json'])).json<ApplyReport>().policies, planned.policies)
  const run = await made.cli(['apply', '--json'])
  const applied = run.json<ApplyReport>()
  assert.equal(Object.keys(applied), ['run', 'dryRun', 'startedAt', 'finishedAt', 'policies'])
  const [policy] = applied.policies
  for (const field of [
    'policy',
    'table',
    'cutoff',
    'due',
    'archived',
    'skipped',
    'held',
    'remaining',
    'status',
    'archives',
  ])
    assert.ok(policy !== undefined && field in policy, field)
  assert.equal(Object.keys(policy?.archives[0] ?? {}), ['name', 'location', 'rows', 'bytes', 'sha256', 'from', 'to'])
  assert.is(run.stderr, '')
  const standing = (await made.run(['status', '--json'])).json<StatusReport>()
  for (const field of ['policy', 'table', 'cutoff', 'due', 'undated', 'oldest', 'archived', 'lastAppliedAt', 'holds'])
    assert.ok(field in (standing.policies[0] ?? {}), field)
  assert.is(standing.archives[0]?.sha256, policy?.archives[0]?.sha256)
  const restored = (await made.run(['restore', policy?.archives[0]?.name ?? '', '--json'])).json<RestoreReport>()
  assert.is(restored.restored, 3)
  const failed = await made.run(['restore', 'nothing', '--json'])
  assert.is(failed.code, 1)
  assert.is(failed.json<{ error: { code: string } }>().error.code, 'ARCHIVE_NOT_FOUND')
  const wrong = await made.run(['plan', '--nonsense', '--json'])
  assert.is(wrong.json<{ error: { code: string } }>().error.code, 'USAGE')
})

overDatabases(test, 'to a pipe: no colour, no progress bar; --quiet: nothing but errors', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 3))
  const made = project({ log: { ...logPolicy, batch: 1 } })
  const env = { FORCE_COLOR: undefined, NO_COLOR: undefined }
  const planned = await made.cli(['plan'], { env })
  assert.match(planned.stdout, /3 rows due, 3 archives/)
  assert.not.ok(planned.stdout.includes('\u001b'))
  const run = await made.cli(['apply'], { env })
  assert.not.ok((run.stdout + run.stderr).includes('\u001b'))
  assert.is(run.stderr, '')
  assert.match(run.stdout, /3 rows archived and deleted, 3 archives/)
  const quiet = await made.run(['status', '--quiet'])
  assert.is(quiet.stdout + quiet.stderr, '')
  assert.match((await made.run(['restore', 'nothing', '--quiet'])).stderr, /There is no archive "nothing"/)
})

overDatabases(test, '--quiet: what is wrong is told on stderr, whatever the command', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 3))
  const made = project({ log: logPolicy, broken: { ...logPolicy, column: 'nope' } })
  const due = await made.run(['status', 'log', '--exit-code', '--quiet'])
  assert.equal([due.code, due.stdout], [3, ''])
  assert.match(due.stderr, /3 overdue/)
  const run = await made.cli(['apply', '--quiet'])
  assert.equal([run.code, run.stdout], [1, ''])
  assert.match(run.stderr, /has no column "nope"/)
  made.write('backups/log_backup_20200101_0002.csv', 'unknown')
  const checked = await made.run(['verify', '--quiet'])
  assert.equal([checked.code, checked.stdout], [3, ''])
  assert.match(checked.stderr, /orphan +.*log_backup_20200101_0002\.csv/)
})

/** Starts `retention apply` and gives what it says; `when` is waited for before the signals are sent. */
async function interrupt(
  made: TestProject,
  signals: readonly NodeJS.Signals[],
  when: () => Promise<boolean>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [path.join(repository, 'src/bin.ts'), 'apply'], {
    cwd: made.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
  while (!(await when())) await sleep(20)
  for (const signal of signals) {
    child.kill(signal)
    // A second signal counts as a second one only when the first has been seen.
    while (!stderr.includes('Finishing the running step')) await sleep(5)
  }
  return { code: await closed, stdout, stderr }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  overDatabases(test, `${signal} lets the running step finish, and exits with 130`, async ({ db, project }) => {
    await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 50))
    const made = project({ log: { ...logPolicy, batch: 1, pause: '200ms' } })
    const { code, stdout, stderr } = await interrupt(made, [signal], async () => made.list().length >= 4)
    assert.is(code, 130)
    assert.match(stderr, /Finishing the running step; once more rolls it back/)
    assert.match(stdout, /interrupted: \d+ rows? archived/)
    const left = Number(await db.value('select count(*) from log'))
    assert.ok(left > 0 && left < 50)
    assert.is(Number(await db.value('select sum(rows) from retention_ledger')), 50 - left)
    assert.is((await made.run(['verify'])).code, 0)
    assert.is((await made.run(['apply', '--max-time', '0s'])).code, 4)
  })
}

overDatabases(
  test,
  'a second Ctrl-C rolls the running step back',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 100))
    await db.run(`create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return old; end $$;
      create trigger slow before delete on log for each row execute function slow()`)
    const made = project()
    const running = "select count(*) from pg_stat_activity where query like 'copy%' and datname = current_database()"
    const { code, stdout, stderr } = await interrupt(
      made,
      ['SIGINT', 'SIGINT'],
      async () => Number(await db.value(running)) > 0,
    )
    assert.is(code, 130)
    assert.match(stderr, /Rolling the running step back/)
    assert.match(stdout, /the running step was rolled back/)
    assert.is(Number(await db.value('select count(*) from log')), 100)
    assert.equal(made.list(), [])
  },
  ['postgres'],
)

test('on an older Node: one line, exit 2, and nothing native is loaded', async () => {
  const made = new TestProject({})
  try {
    for (const version of ['20.20.2', '22.17.1', '18.0.0']) {
      // The version is what tells; the rest of an old Node is not at hand.
      made.write(
        'old.mjs',
        `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`,
      )
      const { code, stdout, stderr } = await made.cli(['status'], { node: ['--import', made.path('old.mjs')] })
      assert.is(code, 2)
      assert.is(stdout, '')
      assert.is(stderr, `retention needs Node.js 22.18 or newer; this is ${version}. See https://nodejs.org.\n`)
    }
  } finally {
    made.remove()
  }
})

overDatabases(
  test,
  'init lists the tables with a time column, and what policies would find due',
  async ({ db, project }) => {
    const now = Date.now()
    await seedLog(
      db,
      [20, 60, 120, 400].map((days) => new Date(now - days * 86_400_000).toISOString()),
    )
    await db.run('create table settings (id integer primary key, value text)')
    await db.run(
      db.kind === 'sqlite'
        ? 'create table visits (id integer primary key, ts integer); insert into visits (ts) values (1500000000)'
        : "create table visits (id serial primary key, ts date); insert into visits (ts) values ('2017-07-14')",
    )
    const made = project({})
    // As a process of its own, so that a warning of Node's would be seen.
    const run = await made.cli(['init', '--json'])
    assert.equal([run.code, run.stderr], [0, ''])
    const { candidates, written } = run.json<InitReport>()
    assert.equal(written, [])
    const log = candidates.find(({ table }) => table.name === 'log')
    assert.is(log?.column, 'at')
    assert.is(log?.rows, 4)
    assert.equal(log?.due, [
      { days: 30, rows: 3 },
      { days: 90, rows: 2 },
      { days: 365, rows: 1 },
    ])
    assert.equal(candidates.map(({ table }) => table.name).toSorted(), ['log', 'visits'])
    assert.match(candidates.find(({ table }) => table.name === 'visits')?.oldest ?? '', /^2017-07-14/)
    assert.match((await made.run(['init'])).stdout, /retention init --yes --table/)
  },
)

overDatabases(
  test,
  'init writes a config, a policy and .gitignore, overwrites nothing, and they work',
  async ({ db }) => {
    await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 3))
    const made = new TestProject({})
    try {
      const { rmSync } = await import('node:fs')
      rmSync(made.path('retention.config.ts'))
      rmSync(made.path('policies'), { recursive: true })
      // What npm makes of a new project.
      made.write('package.json', '{ "type": "commonjs" }')
      made.write('.gitignore', 'node_modules')
      mkdirSync(made.path('node_modules'))
      symlinkSync(repository, made.path('node_modules/retention'))
      const env = { DATABASE_URL: db.address, CI: '', GITHUB_ACTIONS: '' }
      const wrong = await made.run(['init', '--yes', '--table', 'lgo', '--days', '7'], { env })
      assert.is(wrong.code, 2)
      assert.match(wrong.stderr, /There is no table "lgo" \(did you mean "log"\?\)/)
      const column = await made.run(['init', '--yes', '--table', 'log', '--column', 'body'], { env })
      assert.is(column.code, 2)
      assert.match(column.stderr, db.kind === 'sqlite' ? /body/ : /"body" of public\.log is of type text/)
      assert.not.ok(existsSync(made.path('retention.config.ts')))

      const run = await made.cli(['init', '--yes', '--table', 'log', '--days', '7'], { env })
      assert.is(run.code, 0, run.stderr)
      assert.equal(
        made.list('.').filter((name) => name !== 'node_modules'),
        ['.gitignore', 'package.json', 'policies', 'retention.config.ts'],
      )
      assert.is(made.read('.gitignore'), 'node_modules\nbackups/\n')
      assert.match(made.read('policies/log.ts'), /days: Number\(process\.env\.LOG_RETENTION_DAYS \|\| 7\)/)
      assert.not.match(made.read('retention.config.ts'), /password/)

      const again = await made.run(['init', '--yes', '--table', 'log'], { env })
      assert.is(again.code, 2)
      assert.match(again.stderr, /policies\/log\.ts is there already; it is left as it is/)

      const planned = await made.cli(['plan', '--json'], { env: { ...env, LOG_RETENTION_DAYS: '' } })
      assert.is(planned.code, 0, planned.stderr)
      assert.is(planned.stderr, '')
      assert.is(planned.json<ApplyReport>().policies[0]?.due, 3)
      assert.is((await made.cli(['apply'], { env })).code, 0)
      assert.is(Number(await db.value('select count(*) from log')), 0)
    } finally {
      made.remove()
    }
  },
)

overDatabases(test, 'whoever reads the output may stop reading it', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2020-01-01T00:00:00Z', 3))
  const made = project()
  const bin = `"${process.execPath}" "${path.join(repository, 'src/bin.ts')}"`
  const shell = async (line: string): Promise<{ stdout: string; stderr: string }> =>
    promisify(execFile)('bash', ['-c', line], { cwd: made.folder })
  for (const command of ['status', 'status --json', 'apply']) {
    const { stdout, stderr } = await shell(`${bin} ${command} | true; echo "code \${PIPESTATUS[0]}"`)
    assert.match(stdout, /code 0/)
    assert.is(stderr, '', command)
  }
  const { stdout, stderr } = await shell(`${bin} status > /dev/full; echo "code $?"`)
  assert.match(stdout, /code 1/)
  assert.match(stderr, /The report cannot be written: .*ENOSPC/)
  assert.not.match(stderr, / at /)
})

test.run()
