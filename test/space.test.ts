/** What apply leaves behind in the database, and giving it back: measured on the files, the server's statistics and the tables. */
import { execFile, spawn } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

import Sqlite from 'better-sqlite3'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan, type ApplyReport, type PolicyInput, type PolicyReport } from '../src/index.ts'
import { afterStep } from './support/after-step.ts'
import { connectTo, kinds, onCluster, untilAlone, type TestDatabase } from './support/database.ts'
import { judge, tableRows } from './support/judge.ts'
import type { Run } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('space')

const cutoff = '2026-05-16T00:00:00Z'
// Waiting for production has tests of its own.
const reclaimPolicy = { ...logPolicy, reclaim: true, throttle: false } as const
const watcher = path.join(import.meta.dirname, 'support/points.ts')

/** Makes `log` with so many rows of 500 bytes; of them those are due that a condition on `n` says. */
async function fill(db: TestDatabase, rows: number, due: string, table = 'log'): Promise<void> {
  const at = `case when ${due} then '2020-01-01T00:00:00Z' else '2099-01-01T00:00:00Z' end`
  const [id, time] =
    db.kind === 'sqlite' ? ['integer primary key autoincrement', 'text'] : ['int primary key', 'timestamptz']
  await db.run(`create table if not exists ${table} (id ${id}, at ${time}, body text)`)
  await db.run(`insert into ${table} select n, ${db.kind === 'sqlite' ? at : `(${at})::timestamptz`}, '${'x'.repeat(500)}'
    from (with recursive c(n) as (select 1 union all select n + 1 from c where n < ${rows}) select n from c) as c`)
  if (db.kind !== 'postgres') return
  // The rows are counted before they are counted again.
  await db.run('select pg_stat_force_next_flush()')
  await db.run(`analyze ${table}`)
}

function fileOf({ address }: TestDatabase): string {
  return address.replace('sqlite:', '')
}

const tableBytes = (db: TestDatabase): Promise<number> =>
  db
    .value("select pg_relation_size('log') + pg_relation_size(reltoastrelid) from pg_class where oid = 'log'::regclass")
    .then(Number)

const deadRows = (db: TestDatabase): Promise<number> =>
  db
    .value("select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relname not like 'retention%'")
    .then(Number)

function policyOf(run: Run): PolicyReport {
  assert.is(run.code, 0, run.stderr + run.stdout)
  const [policy] = run.json<ApplyReport>().policies
  if (policy === undefined) throw new Error('no policy')
  return policy
}

const texts = ({ warnings }: PolicyReport): string => warnings.map(({ text, hint }) => `${text} ${hint}`).join('\n')

overDatabases(test, 'nothing is said of space in a plan, nor where nothing was archived', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 10))
  const { folder } = project({ log: reclaimPolicy })
  assert.is((await plan({ cwd: folder, now })).policies[0]?.space, undefined)
  assert.ok((await apply({ cwd: folder, now })).policies[0]?.space)
  assert.is((await apply({ cwd: folder, now })).policies[0]?.space, undefined)
})

// Postgres

overDatabases(
  test,
  'the oldest rows first: VACUUM makes room, gives nothing back, and that is what is said',
  async ({ db, project }) => {
    await fill(db, 4000, 'n <= 2000')
    const before = await tableBytes(db)
    const made = project()
    const run = await made.run(['apply'])
    assert.is(run.code, 0)
    assert.match(
      run.stdout,
      /2,000 dead rows left, about 1\.\d MB of 2\.\d MB; VACUUM makes room of it for new rows, nothing would go back/,
    )
    assert.match(run.stdout, /\n {2}VACUUM \(ANALYZE\) public\.log;\n/)
    assert.is(await deadRows(db), 2000)
    // As printed.
    await db.run(/VACUUM .*;/.exec(run.stdout)?.[0] ?? '')
    assert.is(await deadRows(db), 0)
    assert.is(await tableBytes(db), before)
  },
  ['postgres'],
)

overDatabases(
  test,
  'reclaim with the oldest rows first: the dead rows have gone, and the table is as large as before',
  async ({ db, project }) => {
    await fill(db, 4000, 'n <= 2000')
    const before = await tableBytes(db)
    const made = project({ log: { ...reclaimPolicy, batch: 300 } })
    const { space, warnings } = policyOf(await made.run(['apply', '--json']))
    assert.equal(
      warnings.filter(({ text }) => !text.includes('index')),
      [],
    )
    assert.equal(space, {
      bytes: before,
      unused: 0,
      deadRows: 0,
      returnable: 0,
      command: null,
      reclaimed: { bytes: 0, deadRows: 2000 },
    })
    // Also when all of the run's connections have ended, and told the server what they had done.
    assert.is(await deadRows(db), 0)
    assert.is(await tableBytes(db), before)
    await db.run("insert into log select n, '2099-01-01', repeat('x', 500) from generate_series(5001, 6500) n")
    assert.is(await tableBytes(db), before)
  },
  ['postgres'],
)

for (const reclaim of [false, true]) {
  overDatabases(
    test,
    `rows at the end of the table, reclaim ${reclaim}: what goes back to the file system is what is reported`,
    async ({ db, project }) => {
      await fill(db, 4000, 'n > 2000')
      const before = await tableBytes(db)
      const made = project({ log: { ...logPolicy, reclaim } })
      const { space } = policyOf(await made.run(['apply', '--json']))
      if (!reclaim) {
        assert.is(space?.bytes, before)
        assert.is(space?.reclaimed, undefined)
        await db.run(space?.command ?? '')
      }
      const after = await tableBytes(db)
      assert.ok(after < before * 0.6)
      if (reclaim) assert.equal([space?.bytes, space?.reclaimed], [after, { bytes: before - after, deadRows: 2000 }])
      else assert.ok((space?.returnable ?? 0) > 0 && (space?.returnable ?? 0) <= before - after)
      assert.ok((space?.unused ?? 0) >= (space?.returnable ?? 0))
    },
    ['postgres'],
  )
}

overDatabases(
  test,
  'a table that must keep its pages keeps them, and nothing else is promised',
  async ({ db, project }) => {
    await fill(db, 1000, 'true')
    await db.run('alter table log set (vacuum_truncate = false)')
    const before = await tableBytes(db)
    const { space } = policyOf(await project({ log: reclaimPolicy }).run(['apply', '--json']))
    assert.equal(space?.reclaimed, { bytes: 0, deadRows: 1000 })
    assert.is(await tableBytes(db), before)
  },
  ['postgres'],
)

overDatabases(
  test,
  'partitions, and quotes in names: those that have come to be empty go back to the file system',
  async ({ db, project }) => {
    await db.run(`create schema "a""b"; create table "a""b"."lo""g; --" (id int, at timestamptz, body text) partition by range (at);
      create table "a""b"."p ""old""" partition of "a""b"."lo""g; --" for values from ('2019-01-01') to ('2021-01-01');
      create table "a""b".new partition of "a""b"."lo""g; --" for values from ('2099-01-01') to ('2100-01-01')`)
    await fill(db, 2000, 'n <= 1000', '"a""b"."lo""g; --"')
    const size = async (): Promise<number> => Number(await db.value(`select pg_relation_size('"a""b"."p ""old"""')`))
    const before = await size()
    const policy: PolicyInput = { ...logPolicy, table: '"a""b"."lo""g; --"', partitions: 'rows' }
    const made = project({ log: policy, more: { ...policy, days: 1, where: 'id = 1500', reclaim: true } })
    const { space } = policyOf(await made.run(['apply', 'log', '--json']))
    assert.is(space?.deadRows, 1000)
    assert.is(space?.returnable, before)
    assert.is(space?.command, 'VACUUM (ANALYZE) "a""b"."lo""g; --";')
    await db.run(space?.command ?? '')
    assert.is(await size(), 0)
    assert.is(await deadRows(db), 0)

    await db.run(`insert into "a""b"."lo""g; --" values (1500, '2020-01-01', 'x')`)
    const again = policyOf(await made.run(['apply', 'more', '--json']))
    assert.equal(again.space?.reclaimed, { bytes: 8192, deadRows: 1 })
    assert.is(await size(), 0)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a role that may not vacuum: a warning with the GRANT, which is enough, and exit code 0',
  async ({ db, project }) => {
    await fill(db, 100, 'n <= 50')
    const role = `archiver_${Math.random().toString(36).slice(2)}`
    await onCluster(`create role "${role}" login password 'x'`)
    try {
      await db.run(`grant create on schema public to "${role}"; grant select, delete on log to "${role}"`)
      const address = db.address.replace('postgres:password@', `${role}:x@`)
      const made = project({ log: { ...reclaimPolicy, where: 'id <= 20' } }, { database: address })
      const policy = policyOf(await made.run(['apply', '--json']))
      assert.is(policy.archived, 20)
      assert.is(policy.space?.reclaimed, undefined)
      assert.is(policy.space?.deadRows, 20)
      assert.match(
        texts(policy),
        /permission denied to vacuum "log", skipping it|only table or database owner can vacuum/,
      )
      if (Number(await db.value("select current_setting('server_version_num')")) < 170000) return
      const grant = /GRANT MAINTAIN ON .*;/.exec(texts(policy))?.[0]
      assert.is(grant, `GRANT MAINTAIN ON public.log TO ${role};`)
      assert.match(
        readFileSync(new URL('../README.md', import.meta.url), 'utf8'),
        /GRANT MAINTAIN ON conversation_log TO archiver;/,
      )
      await db.run(grant ?? '')
      made.policy('log', reclaimPolicy)
      const allowed = policyOf(await made.run(['apply', '--json']))
      assert.is(texts(allowed).includes('MAINTAIN'), false)
      assert.is(allowed.space?.reclaimed?.deadRows, 50)
    } finally {
      await db.run(`drop owned by "${role}"`)
      await onCluster(`drop owned by "${role}"; drop role "${role}"`)
    }
  },
  ['postgres'],
)

overDatabases(
  test,
  'a table that somebody else has locked is not waited for',
  async ({ db, project }) => {
    await fill(db, 100, 'n <= 50')
    const made = project({ log: reclaimPolicy })
    // Deletes go on beside this lock; VACUUM does not.
    await db.run('begin; lock table log in share update exclusive mode')
    const policy = policyOf(await made.run(['apply', '--json']))
    await db.run('rollback')
    assert.match(texts(policy), /skipping vacuum of "log" --- lock not available Somebody else is at work on it/)
    assert.is(policy.space?.reclaimed, undefined)
    assert.is(policy.space?.command, 'VACUUM (ANALYZE) public.log;')
  },
  ['postgres'],
)

overDatabases(
  test,
  'rows that an open transaction may still see are told of',
  async ({ db, project }) => {
    await fill(db, 100, 'n <= 50')
    const made = project({ log: reclaimPolicy })
    const other = await connectTo(db.address)
    await other.run('begin isolation level repeatable read; select from log')
    const run = await made.run(['apply'])
    await other.drop()
    assert.is(run.code, 0)
    assert.match(run.stdout, /VACUUM made room of 0 dead rows, 50 rows left that an open transaction may still see/)
  },
  ['postgres'],
)

/** Makes the next VACUUM of `log` go on and on: its ANALYZE asks an index for a value of every row. */
async function makeSlow(db: TestDatabase): Promise<void> {
  const slowly = (body: string): string =>
    `create or replace function slow(int) returns int immutable language plpgsql as 'begin ${body} return $1; end'`
  await db.run(`${slowly('')}; create index log_slow on log (slow(id)); ${slowly('perform pg_sleep(0.5);')}`)
}

const analyzing = 'select count(*) from pg_stat_progress_analyze where datname = current_database()'

const vacuuming =
  "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and query like '%vacuum (analyze%' and pid <> pg_backend_pid()"

async function until(db: TestDatabase, query: string, wanted: number): Promise<void> {
  for (let tries = 0; tries < 20_000; tries += 1) if (Number(await db.value(query)) === wanted) return
  throw new Error(`never ${wanted}: ${query}`)
}

overDatabases(
  test,
  'VACUUM gives way to whoever waits for the table',
  async ({ db, project }) => {
    await fill(db, 1000, 'n <= 500')
    await makeSlow(db)
    const running = project({ log: reclaimPolicy }).cli(['apply', '--json'])
    await until(db, analyzing, 1)
    await db.run('alter table log add column added int')
    const policy = policyOf(await running)
    assert.match(texts(policy), /VACUUM was cancelled: somebody was waiting for the table/)
  },
  ['postgres'],
)

overDatabases(
  test,
  'an interruption makes an end of VACUUM, and what was archived stays so',
  async ({ db, project }) => {
    await fill(db, 1000, 'n <= 500')
    await makeSlow(db)
    const interruption = new AbortController()
    const running = apply({ cwd: project({ log: reclaimPolicy }).folder, now, signal: interruption.signal })
    await until(db, vacuuming, 1)
    interruption.abort()
    const [policy] = (await running).policies
    assert.is(policy?.status, 'applied')
    assert.match(policy?.warnings.at(-1)?.text ?? '', /VACUUM was cancelled: the run was interrupted/)
    assert.is(Number(await db.value(vacuuming)), 0)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a VACUUM whose connection is cut is a warning',
  async ({ db, project }) => {
    await fill(db, 1000, 'n <= 500')
    await makeSlow(db)
    const running = project({ log: reclaimPolicy }).cli(['apply', '--json'])
    await until(db, vacuuming, 1)
    await db.rows(vacuuming.replace('count(*)', 'pg_terminate_backend(pid)'))
    const policy = policyOf(await running)
    assert.is(policy.archived, 500)
    assert.match(texts(policy), /"reclaim" did not come to its end: Postgres: terminating connection/)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a policy that is at work holds back nobody else’s VACUUM',
  async ({ db, project }) => {
    await fill(db, 1000, 'n <= 500')
    await makeSlow(db)
    const running = project({ log: reclaimPolicy }).cli(['apply'])
    await until(db, vacuuming, 1)
    const held = await db.value(
      "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction' and backend_xmin is not null",
    )
    await db.rows(vacuuming.replace('count(*)', 'pg_cancel_backend(pid)'))
    await running
    assert.is(Number(held), 0)
  },
  ['postgres'],
)

// SQLite

for (const mode of ['delete', 'wal']) {
  overDatabases(
    test,
    `reclaim, auto_vacuum = incremental, journal ${mode}: the file is smaller by what is reported`,
    async ({ db, project }) => {
      await db.run(`pragma auto_vacuum = incremental; pragma journal_mode = ${mode}`)
      await fill(db, 20_000, 'n <= 12000')
      await db.rows('pragma wal_checkpoint(truncate)')
      const original = await tableRows(db, 'log')
      const before = statSync(fileOf(db)).size
      const made = project({ log: reclaimPolicy })
      const { space, warnings } = policyOf(await made.run(['apply', '--json']))
      const after = statSync(fileOf(db)).size
      assert.ok(after < before * 0.5, `${before} → ${after}`)
      assert.equal(
        warnings.filter(({ text }) => !text.includes('index')),
        [],
      )
      // The ledger's own tables came in between.
      assert.ok(Math.abs(before - after - (space?.reclaimed?.bytes ?? 0)) <= 150_000)
      assert.is(space?.bytes, after)
      assert.is(space?.unused, 0)
      assert.is(Number(await db.value('pragma freelist_count')), 0)
      assert.is(await db.value('pragma integrity_check'), 'ok')
      await judge(db, 'log', made.path('backups'), original)
    },
    ['sqlite'],
  )
}

overDatabases(
  test,
  'the command that is printed does what it says, whatever the file is called',
  async ({ db, project }) => {
    await db.run('pragma auto_vacuum = incremental; vacuum')
    await fill(db, 5000, 'n <= 3000')
    const name = `it's "here" $HOME.db`
    const made = project({ log: logPolicy }, { database: `sqlite:./${name}` })
    await db.run(`vacuum into '${made.path(name).replaceAll("'", "''")}'`)
    const run = await made.run(['apply'])
    assert.match(run.stdout, /1\.\d MB of the file's [23]\.\d MB are free for new rows, or can be given back/)
    const command = run.stdout.split('\n').find((line) => line.includes('incremental_vacuum')) ?? ''
    // The sqlite3 shell, as far as the command goes.
    made.write(
      'bin/shell.mjs',
      `import Sqlite from ${JSON.stringify(import.meta.resolve('better-sqlite3'))}
      const [file, statements] = process.argv.slice(2)
      new Sqlite(file, { fileMustExist: true }).exec(statements)`,
    )
    const shell = `sqlite3() { ${JSON.stringify(process.execPath)} bin/shell.mjs "$@"; }\n`
    const before = statSync(made.path(name)).size
    await promisify(execFile)('sh', ['-c', shell + command], { cwd: made.folder })
    assert.ok(before - statSync(made.path(name)).size > 1_000_000, command)
  },
  ['sqlite'],
)

for (const [mode, said] of [
  ['none', /only a full VACUUM, which writes it anew and needs room for both, makes it smaller/],
  ['full', /^$/],
] as const) {
  overDatabases(
    test,
    `auto_vacuum = ${mode}: nothing is run, and why is said`,
    async ({ db, project }) => {
      await db.run(`pragma auto_vacuum = ${mode}`)
      await fill(db, 5000, 'n <= 3000')
      const before = statSync(fileOf(db)).size
      const made = project({ log: { ...logPolicy, where: 'id <= 2000' } })
      const run = await made.cli(['apply'])
      assert.match(/^.*file's.*$/m.exec(run.stdout)?.[0] ?? '', said)
      made.policy('log', reclaimPolicy)
      const policy = policyOf(await made.run(['apply', '--json']))
      assert.is(policy.space?.autoVacuum, mode)
      assert.is(policy.space?.command, null)
      const after = statSync(fileOf(db)).size
      if (mode === 'full') {
        assert.ok(after < before * 0.6)
        assert.is(texts(policy).includes('reclaim'), false)
      } else {
        assert.ok(after >= before)
        assert.is(policy.space?.reclaimed, undefined)
        assert.match(texts(policy), /"reclaim" does nothing here: auto_vacuum is none/)
        assert.match(texts(policy), /sqlite3 .* 'PRAGMA auto_vacuum = incremental; VACUUM;'/)
      }
    },
    ['sqlite'],
  )
}

overDatabases(
  test,
  'a reader of the old state keeps the file from shrinking, and that is said',
  async ({ db, project }) => {
    await db.run('pragma auto_vacuum = incremental; pragma journal_mode = wal')
    await fill(db, 5000, 'n <= 3000')
    const reader = new Sqlite(fileOf(db))
    reader.exec('begin; select 1 from log')
    const policy = policyOf(await project({ log: reclaimPolicy }).run(['apply', '--json']))
    assert.match(texts(policy), /The file shrinks at a later checkpoint/)
    const before = statSync(fileOf(db)).size
    reader.exec('commit')
    reader.close()
    await db.rows('pragma wal_checkpoint(passive)')
    assert.ok(before - statSync(fileOf(db)).size > 1_000_000)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'others write while pages are given back',
  async ({ db, project }) => {
    await db.run('pragma auto_vacuum = incremental')
    await fill(db, 60_000, 'n <= 50000')
    const script = `const Sqlite = require('better-sqlite3'); const db = new Sqlite(process.argv[1], { timeout: 5000 })
      const write = db.prepare("insert into log (at, body) values ('2099-01-01T00:00:00Z', 'written beside it')")
      let written = 0; let stop = false
      process.on('SIGTERM', () => { stop = true })
      const next = () => { if (stop) return console.log(written); write.run(); written += 1; setTimeout(next, 5) }; next()`
    const writer = spawn(process.execPath, ['-e', script, fileOf(db)], {
      cwd: path.join(import.meta.dirname, '..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let written = ''
    writer.stdout.on('data', (chunk: Buffer) => (written += chunk.toString()))
    const ended = new Promise((resolve) => {
      writer.on('close', resolve)
    })
    const run = await project({ log: reclaimPolicy }).cli(['apply', '--json'])
    writer.kill('SIGTERM')
    assert.is(await ended, 0)
    assert.ok((policyOf(run).space?.reclaimed?.bytes ?? 0) > 20_000_000)
    assert.ok(Number(written) > 0)
    assert.is(Number(await db.value("select count(*) from log where body like 'written%'")), Number(written))
    assert.is(await db.value('pragma integrity_check'), 'ok')
  },
  ['sqlite'],
)

// Both

for (const phase of ['before', 'during'] as const) {
  overDatabases(
    test,
    `killed ${phase} reclaiming: every row is in its one place, and the next run finds nothing to mend`,
    async ({ db, project }) => {
      if (db.kind === 'sqlite') await db.run('pragma auto_vacuum = incremental')
      await fill(db, 12_000, 'n <= 8000')
      const original = await tableRows(db, 'log')
      const made = project({ log: reclaimPolicy })
      const { signal } = await made.cli(['apply'], {
        node: ['--import', watcher],
        env: { RETENTION_POINTS: JSON.stringify([{ point: 'reclaim', phase }]), RETENTION_WATCH: db.kind },
      })
      assert.is(signal, 'SIGKILL')
      await untilAlone(db)
      await judge(db, 'log', made.path('backups'), original)
      assert.is((await made.run(['apply'])).code, 0)
      assert.is((await made.run(['verify'])).code, 0)
      if (db.kind === 'sqlite') assert.is(await db.value('pragma integrity_check'), 'ok')
    },
    kinds,
  )
}

overDatabases(test, 'a run whose time is over begins no reclaim', async ({ db, project }) => {
  if (db.kind === 'sqlite') await db.run('pragma auto_vacuum = incremental')
  await fill(db, 2000, 'n <= 1000')
  // The server's own vacuum may come by in those two seconds, and leave nothing to say.
  if (db.kind === 'postgres') await db.run('alter table log set (autovacuum_enabled = false)')
  const made = project({ log: reclaimPolicy })
  const pastTime = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2050)
  const [policy] = (await apply({ cwd: made.folder, now, maxTime: '2s', onEvent: afterStep(pastTime) })).policies
  assert.is(policy?.archived, 1000)
  assert.match(policy?.warnings.at(-1)?.text ?? '', /"reclaim" was not begun: the run was to end first/)
  assert.is(policy?.space?.reclaimed, undefined)
  assert.ok(policy?.space?.command)
})

test.run()
