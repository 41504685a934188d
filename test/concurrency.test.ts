/** Others at work on the same rows, tables, policies and files: no duplicate, no loss, no waiting without bound. */
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'

import Sqlite from 'better-sqlite3'
import { Client } from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { loadConfig } from '../src/config/project.ts'
import { LocalTarget } from '../src/target/local.ts'
import { openDatabase } from '../src/database/open.ts'
import { apply, restore, RetentionError, status, verify, type ApplyReport } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import { afterStep } from './support/after-step.ts'
import type { TestDatabase } from './support/database.ts'
import { judge, tableRows } from './support/judge.ts'
import { startProxy } from './support/proxy.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('concurrency')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'

/** A second connection to the same database, used as another program would. */
async function another(db: TestDatabase): Promise<{ run(statements: string): Promise<void>; end(): Promise<void> }> {
  if (db.kind === 'sqlite') {
    const other = new Sqlite(db.address.replace('sqlite:', ''), { timeout: 0 })
    return { run: async (statements) => void other.exec(statements), end: async () => void other.close() }
  }
  const client = new Client({ connectionString: db.address })
  client.on('error', () => {})
  await client.connect()
  return { run: async (statements) => void (await client.query(statements)), end: async () => client.end() }
}

overDatabases(test, 'four runs at once: each row is archived once, and nobody fails', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 200))
  const before = (await db.rows('select id from log')).map(([id]) => Number(id)).toSorted((a, b) => a - b)
  const made = project({ log: { ...logPolicy, batch: 10 } })
  // As processes of their own, on the real clock.
  const runs = await Promise.all(Array.from({ length: 4 }, () => made.cli(['apply', '--json'])))
  for (const { code, stderr } of runs) assert.ok(code === 0 || code === 11, `exit ${code}: ${stderr}`)
  const archives = runs.flatMap((run) => run.json<ApplyReport>().policies.flatMap((policy) => policy.archives))
  const ids = archives.flatMap(({ name }) => readArchive(made.folder, name).rows.map(([id]) => Number(id)))
  assert.equal(
    ids.toSorted((a, b) => a - b),
    before,
  )
  assert.is(new Set(archives.map(({ name }) => name)).size, archives.length)
  assert.is(Number(await db.value('select count(*) from log')), 0)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
})

overDatabases(test, 'first runs at once make one ledger', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 4))
  const policies = Object.fromEntries(
    ['a', 'b', 'c'].map((name, index) => [name, { ...logPolicy, where: `id % 3 = ${index}` }]),
  )
  const made = project(policies)
  const runs = await Promise.all(Object.keys(policies).map((name) => made.cli(['apply', name, '--json'])))
  for (const { code, stderr } of runs) assert.is(code, 0, stderr)
  assert.is(Number(await db.value('select count(*) from log')), 0)
  assert.is(Number(await db.value('select sum(rows) from retention_ledger')), 4)
})

overDatabases(test, 'a policy that another run holds is left to it: exit 11', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  await apply({ cwd: made.folder, now, limitRows: 1 })
  const database = await openDatabase(await loadConfig({ cwd: made.folder }), 'write')
  try {
    const lock = await database.lock('retention_ledger log')
    const locked = await made.run(['apply', '--json'])
    assert.is(locked.code, 11)
    assert.is(locked.json<ApplyReport>().policies[0]?.status, 'locked')
    assert.is((await made.run(['restore', file])).code, 11)
    assert.is(Number(await db.value('select count(*) from log')), 2)
    await lock?.release()
    assert.is((await made.run(['apply'])).code, 0)
  } finally {
    await database.close()
  }
})

overDatabases(
  test,
  'rows that another transaction holds are skipped, reported, and taken the next time',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 10))
    const made = project({ log: logPolicy }, { lockTimeout: '300ms' })
    const other = await another(db)
    await other.run("begin; update log set body = 'busy' where id in (3, 4)")
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'partial')
    assert.is(policy?.archived, 8)
    assert.is(policy?.skipped, 2)
    assert.is(policy?.remaining, 2)
    const cli = await made.run(['apply'])
    assert.is(cli.code, 4)
    assert.match(cli.stdout, /2 rows skipped: another transaction holds them/)
    await other.run('commit')
    await other.end()
    const [next] = (await apply({ cwd: made.folder, now })).policies
    assert.is(next?.archived, 2)
    // As they are now, not as they were.
    assert.equal(
      readArchive(made.folder, next?.archives[0]?.name ?? '').rows.map(([, , body]) => body),
      ['busy', 'busy'],
    )
  },
  ['postgres'],
)

overDatabases(
  test,
  'a table that somebody locks whole: waits a little, tries again, then says so',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project({ log: logPolicy }, { lockTimeout: '50ms' })
    const other = await another(db)
    await other.run('begin; lock table log in share mode')
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'failed')
    assert.is(policy?.error?.code, 'DATABASE_BUSY')
    assert.is(policy?.remaining, 3)
    assert.equal(made.list(), [])
    await other.run('rollback')
    await other.end()
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 3)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a backend that is terminated fails the step, and loses nothing',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    await db.run(`create function die() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
      create trigger die after insert on retention_ledger for each row execute function die()`)
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'failed')
    assert.is(Number(await db.value('select count(*) from log')), 3)
    assert.equal(made.list(), [])
    await db.run('drop trigger die on retention_ledger')
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 3)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a commit whose answer is lost: what became of it is found out',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    // Deferred to COMMIT: the backend ends in the middle of it, before anything is committed.
    await db.run(`create function die() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
      create constraint trigger die after insert on retention_ledger deferrable initially deferred for each row execute function die()`)
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'failed')
    assert.is(Number(await db.value('select count(*) from log')), 3)
    assert.is(Number(await db.value('select count(*) from retention_ledger')), 0)
    assert.equal(made.list(), [])
  },
  ['postgres'],
)

for (const cut of ['before', 'after'] as const) {
  overDatabases(
    test,
    `a connection that breaks ${cut} the server hears of the commit: each row is in one place, and the report says which`,
    async ({ db, project }) => {
      await seedLog(db, minutesBefore(cutoff, 3))
      const all = await db.dump('log')
      const made = project()
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      const archiving = await startProxy(db.address, cut, 'insert into "retention_ledger"')
      made.configure({ database: archiving.address })
      const report = await apply({ cwd: made.folder, now })
      await archiving.stop()
      const [policy] = report.policies
      assert.ok(archiving.hasCut)
      assert.is(policy?.status, cut === 'after' ? 'applied' : 'failed', policy?.error?.message)
      assert.is(policy?.archived, cut === 'after' ? 3 : 0)
      assert.is(Number(await db.value('select count(*) from log')), cut === 'after' ? 0 : 3)
      assert.equal(made.list(), cut === 'after' ? [file, `${file}.manifest.json`] : [])

      made.configure({ database: db.address })
      await apply({ cwd: made.folder, now })
      const [archive] = (await status({ cwd: made.folder, now })).archives
      const restoring = await startProxy(db.address, cut, 'update "retention_ledger"')
      made.configure({ database: restoring.address })
      const restored = await restore({ cwd: made.folder, file: archive?.name ?? '', now }).then(
        () => true,
        () => false,
      )
      await restoring.stop()
      assert.ok(restoring.hasCut)
      assert.is(restored, cut === 'after')
      assert.equal(await db.dump('log'), cut === 'after' ? all : [])
      made.configure({ database: db.address })
      assert.is((await status({ cwd: made.folder, now })).archives[0]?.state, cut === 'after' ? 'restored' : 'archived')
    },
    ['postgres'],
  )
}

for (const cut of ['before', 'after'] as const) {
  overDatabases(
    test,
    `a server that is gone for good ${cut} it hears of the commit: asked for half a minute, and the files stay`,
    async ({ db, project }) => {
      await seedLog(db, minutesBefore(cutoff, 3))
      const original = await tableRows(db, 'log')
      const made = project()
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      const proxy = await startProxy(db.address, cut, 'insert into "retention_ledger"', true)
      made.configure({ database: proxy.address })
      // The half minute itself is not waited for, but added up.
      const waits: number[] = []
      const wait = timers.setTimeout
      // Of its overloads the tool uses these two; how long a config may take to load is left as it is.
      const count = (milliseconds: number, value?: undefined, options?: object): Promise<unknown> =>
        milliseconds > 16_000 ? wait(milliseconds, value, options) : wait(0, waits.push(milliseconds))
      timers.setTimeout = count as typeof wait
      syncBuiltinESMExports()
      const report = await apply({ cwd: made.folder, now }).finally(() => {
        timers.setTimeout = wait
        syncBuiltinESMExports()
      })
      await proxy.stop()
      assert.is(report.policies[0]?.status, 'failed')
      assert.is(report.policies[0]?.error?.code, 'COMMIT_UNKNOWN')
      assert.equal(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000])
      assert.equal(made.list(), [file, `${file}.manifest.json`])
      await judge(db, 'log', made.path('backups'), original)

      made.configure({ database: db.address })
      const { findings } = await verify({ cwd: made.folder, repair: true, yes: true })
      assert.equal(findings, [])
      assert.equal(made.list(), cut === 'after' ? [file, `${file}.manifest.json`] : ['set-aside'])
      await apply({ cwd: made.folder, now })
      assert.is(Number(await db.value('select count(*) from log')), 0)
      await judge(db, 'log', made.path('backups'), original)
    },
    ['postgres'],
  )
}

overDatabases(
  test,
  'a restore that the ledger keeps no record of, and whose answer is lost: nobody claims to know',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now })
    await db.run('create table copy (id bigint, at timestamptz, body text)')
    const proxy = await startProxy(db.address, 'after', 'copy "public"."copy"')
    made.configure({ database: proxy.address })
    const error = await restore({ cwd: made.folder, file, now, into: 'copy' }).catch((reason: unknown) => reason)
    await proxy.stop()
    assert.ok(proxy.hasCut)
    assert.is(error instanceof RetentionError ? error.code : error, 'COMMIT_UNKNOWN')
    assert.is(Number(await db.value('select count(*) from copy')), 3)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a row that changes before its step is archived as it is then, or left alone',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 20))
    const made = project({ log: { ...logPolicy, batch: 10, concurrency: 1 } })
    const change = `
      update log set at = '2026-06-14T00:00:00Z' where id = 15;
      update log set body = 'changed' where id = 16;
      delete from log where id = 17;`
    if (db.kind === 'postgres') {
      // With the first step's commit, so that it is certain to come before the second.
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      await db.run(`create function change() returns trigger language plpgsql as $$ begin ${change} return null; end $$;
        create trigger change after insert on retention_ledger for each row execute function change()`)
    }
    const then = (): void => void (db.kind === 'sqlite' && db.run(change))
    const [policy] = (await apply({ cwd: made.folder, now, onEvent: afterStep(then) })).policies
    assert.is(policy?.archived, 18)
    assert.equal(
      (await db.rows('select id from log')).map(([id]) => Number(id)),
      [15],
    )
    const rows = (policy?.archives ?? []).flatMap(({ name }) => readArchive(made.folder, name).rows)
    assert.is(rows.find(([id]) => id === '16')?.[2], 'changed')
    assert.not.ok(rows.some(([id]) => id === '17'))
  },
)

for (const mode of ['wal', 'delete'] as const) {
  overDatabases(
    test,
    `SQLite in ${mode} mode: a write elsewhere does not disturb a step, one to its rows makes it start over`,
    async ({ db, project }) => {
      await seedLog(db, minutesBefore(cutoff, 3))
      await db.run(`pragma journal_mode = ${mode}; create table elsewhere (n integer); create table tries (n integer)`)
      const made = project()
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      const meddled = await meddle(db, made.folder, 'insert into elsewhere values (1)')
      assert.is(meddled.report.policies[0]?.archived, 3)
      assert.equal(made.list(), [file, `${file}.manifest.json`])

      await db.run("insert into log (at, body) values ('2020-01-01T00:00:00Z', 'first')")
      const again = await meddle(db, made.folder, "update log set body = 'second'")
      const [archive] = again.report.policies[0]?.archives ?? []
      assert.is(again.report.policies[0]?.archived, 1)
      assert.equal(
        readArchive(made.folder, archive?.name ?? '').rows.map(([, , body]) => body),
        ['second'],
      )
      // The step that started over has left nothing behind.
      assert.equal((await verify({ cwd: made.folder })).findings, [])

      await db.run("insert into log (at, body) values ('2020-01-01T00:00:00Z', 'first')")
      const migrated = await meddle(db, made.folder, "alter table log add column extra text default 'x'")
      const [wide] = migrated.report.policies[0]?.archives ?? []
      assert.equal(readArchive(made.folder, wide?.name ?? '').header, ['id', 'at', 'body', 'extra'])
    },
    ['sqlite'],
  )
}

/** Applies, while another connection writes between a step's archive and its delete. */
async function meddle(db: TestDatabase, folder: string, statement: string): Promise<{ report: ApplyReport }> {
  const other = await another(db)
  let done = false
  // The manifest is begun when the rows have been read and stored: just before the write lock is taken.
  const create = Object.getOwnPropertyDescriptor(LocalTarget.prototype, 'create')
  const original = create?.value as LocalTarget['create']
  LocalTarget.prototype.create = async function (name) {
    if (name.endsWith('.manifest.json') && !done) {
      done = true
      await other.run(statement)
    }
    return original.call(this, name)
  }
  try {
    return { report: await apply({ cwd: folder, now }) }
  } finally {
    LocalTarget.prototype.create = original
    await other.end()
  }
}

overDatabases(
  test,
  'a SQLite file that another process is writing: waits for a while, then says so',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    const other = await another(db)
    await other.run('begin immediate; update log set body = null')
    setTimeout(() => void other.run('rollback'), 1000)
    const patient = await made.cli(['apply', '--limit-rows', '1'])
    assert.is(patient.code, 4, patient.stderr)
    assert.is(Number(await db.value('select count(*) from log')), 2)

    await other.run('begin immediate; update log set body = null')
    const given = await made.cli(['apply', '--json'])
    assert.is(given.code, 1)
    assert.match(given.stdout + given.stderr, /DATABASE_BUSY/)
    assert.match(given.stdout + given.stderr, /Another process is using the database file/)
    assert.is(made.list().length, 2)
    await other.run('rollback')
    await other.end()
    assert.is((await made.run(['apply'])).code, 0)
  },
  ['sqlite'],
)

overDatabases(test, 'restore and apply of the same rows at once: each row is in one place', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 60))
  const made = project({ log: { ...logPolicy, batch: 20 } })
  const all = await db.dump('log')
  await made.run(['apply'])
  const names = (await status({ cwd: made.folder })).archives.map(({ name }) => name)
  const runs = await Promise.all([
    ...names.map((name) => made.cli(['restore', name, '--hold', 'none'])),
    made.cli(['apply']),
    made.cli(['apply']),
  ])
  for (const { code, stderr } of runs) assert.ok(code === 0 || code === 11, `exit ${code}: ${stderr}`)
  assert.ok(runs.some(({ code }) => code === 0))
  for (const { name, state } of (await status({ cwd: made.folder })).archives) {
    if (state === 'archived') await restore({ cwd: made.folder, file: name })
  }
  assert.equal(await db.dump('log'), all)
})

test.run()
