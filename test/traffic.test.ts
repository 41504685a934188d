/** Apply in the middle of production: others insert, update, delete, lock and migrate. Each row ends in one place, as it was last. */
import { spawn } from 'node:child_process'
import path from 'node:path'

import { Client } from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, status, verify, type ApplyReport } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import type { TestDatabase } from './support/database.ts'
import { judge, tableRows } from './support/judge.ts'
import { atPoints } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'
import type { Written } from './support/writer.ts'

const test = suite('traffic')

const cutoff = '2026-05-16T00:00:00Z'

/** Starts another program at work on the log; stopped, it says what it has done. */
function startWriter(db: TestDatabase, name: number, action = 'write'): { stop(): Promise<Written> } {
  const script = path.join(import.meta.dirname, 'support/writer.ts')
  const child = spawn(process.execPath, [script, db.address, String(name), action], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', resolve)
  })
  return {
    stop: async () => {
      child.kill('SIGTERM')
      assert.is(await ended, 0, stderr)
      // What it writes is what its type says.
      return JSON.parse(stdout) as Written
    },
  }
}

/** Where each row is, and how long its body has become. */
async function places(db: TestDatabase, made: TestProject): Promise<Map<number, string[]>> {
  const found = new Map<number, string[]>()
  const put = (id: number, body: string): void => void found.set(id, [...(found.get(id) ?? []), body])
  for (const [id, body] of await db.rows('select id, body from log')) put(Number(id), String(body))
  for (const { name } of (await status({ cwd: made.folder, now })).archives) {
    const { header, rows } = readArchive(made.folder, name)
    for (const row of rows) put(Number(row[header.indexOf('id')]), row[header.indexOf('body')] ?? '')
  }
  return found
}

overDatabases(
  test,
  'a column that is renamed just before its rows are read is archived under its new name',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    await db.run('pragma journal_mode = wal')
    const made = project()
    const meanwhile = async (): Promise<void> => db.run('alter table log rename column body to words')
    const { result } = await atPoints([{ point: 'create csv.tmp', meanwhile }], () => apply({ cwd: made.folder, now }))
    const [policy] = result.policies
    assert.is(policy?.archived, 3, policy?.error?.message)
    assert.equal(readArchive(made.folder, policy?.archives[0]?.name ?? '').header, ['id', 'at', 'words'])
  },
  // On Postgres the table's form is locked by then.
  ['sqlite'],
)

for (const action of ['write', 'migrate']) {
  overDatabases(
    test,
    `apply while others ${action}: every row is in one place, as it was last`,
    async ({ db, project }) => {
      // While a table's form changes, hardly any step comes to its end.
      const count = action === 'write' ? 400 : 200
      await seedLog(db, minutesBefore(cutoff, count), "''")
      if (db.kind === 'sqlite') await db.run('pragma journal_mode = wal')
      const made = project({ log: { ...logPolicy, batch: 20, pause: '5ms' } }, { lockTimeout: '200ms' })
      const writers = action === 'write' ? [startWriter(db, 1), startWriter(db, 2)] : [startWriter(db, 1, action)]
      const reports: ApplyReport[] = []
      for (let round = 0; round < 2; round += 1) {
        const runs = await Promise.all([made.cli(['apply', '--json']), made.cli(['apply', '--json'])])
        for (const run of runs) {
          assert.ok([0, 1, 4, 11].includes(run.code ?? -1), `exit ${run.code}: ${run.stderr}`)
          reports.push(run.json<ApplyReport>())
        }
      }
      const written = await Promise.all(writers.map((writer) => writer.stop()))
      for (const { error } of reports.flatMap(({ policies }) => policies)) {
        // Others may be in the way; nothing else may go wrong.
        const expected = ['POLICY_LOCKED', 'DATABASE_BUSY', 'ROWS_CHANGED']
        assert.ok(error === undefined || expected.includes(error.code), `${error?.code}: ${error?.message}`)
      }
      const last = await made.run(['apply', '--json'])
      assert.is(last.code, 0, last.stdout)

      const expected = new Set(Array.from({ length: count }, (_, index) => index + 1))
      for (const { inserted } of written) for (const id of inserted) expected.add(id)
      for (const { deleted } of written) for (const id of deleted) expected.delete(id)
      const found = await places(db, made)
      assert.equal(
        [...found.keys()].toSorted((a, b) => a - b),
        [...expected].toSorted((a, b) => a - b),
      )
      for (const [id, bodies] of found) {
        const dots = written.reduce((sum, { updated }) => sum + (updated[id] ?? 0), 0)
        assert.equal(bodies, ['.'.repeat(dots)], `row ${id}`)
      }
      if (action === 'migrate') assert.ok(written.every(({ migrated }) => migrated > 0))
      if (action === 'write')
        assert.ok(written.every(({ inserted, updated }) => inserted.length > 0 && Object.keys(updated).length > 0))
      assert.equal((await verify({ cwd: made.folder })).findings, [])
    },
  )
}

overDatabases(test, 'two restores of one archive at once: one does it', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 50))
  const original = await tableRows(db, 'log')
  const made = project()
  await apply({ cwd: made.folder, now })
  const [archive] = (await status({ cwd: made.folder, now })).archives
  const runs = await Promise.all([1, 2, 3].map(() => made.cli(['restore', archive?.name ?? '', '--json'])))
  assert.equal(runs.filter(({ code }) => code === 0).length, 1)
  for (const { code, stdout } of runs) {
    if (code !== 0) assert.match(stdout, /POLICY_LOCKED|ALREADY_RESTORED|RESTORE_CONFLICT/)
  }
  await judge(db, 'log', made.path('backups'), original)
})

overDatabases(
  test,
  'a deadlock with another transaction: one of the two gives way, and no row is lost',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 100))
    const original = await tableRows(db, 'log')
    const made = project({ log: logPolicy }, { lockTimeout: '5s' })
    const other = new Client({ connectionString: db.address })
    await other.connect()
    await other.query("begin; set local deadlock_timeout = '100ms'; update log set body = body where id = 100")
    const running = apply({ cwd: made.folder, now })
    // Apply holds the first rows now, and waits for the last.
    const waiting =
      "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'retention' and wait_event_type = 'Lock'"
    for (let tries = 0; tries < 2000 && Number(await db.value(waiting)) === 0; tries += 1);
    const outcome = await other.query('update log set body = body where id = 1').catch((error: unknown) => error)
    await other.query(outcome instanceof Error ? 'rollback' : 'commit')
    await other.end()
    const [policy] = (await running).policies
    assert.ok(['applied', 'partial'].includes(policy?.status ?? ''), policy?.error?.message)
    await apply({ cwd: made.folder, now })
    assert.is(Number(await db.value('select count(*) from log')), 0)
    await judge(db, 'log', made.path('backups'), original)
  },
  ['postgres'],
)

overDatabases(
  test,
  "runners whose locks were lost in mid-step never touch each other's files",
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 60))
    const original = await tableRows(db, 'log')
    const made = project({ log: { ...logPolicy, batch: 20, pause: '100ms' } }, { lockTimeout: '300ms' })
    const end = new AbortController()
    // Whoever holds a policy's lock loses it, over and over: its next step is made without it.
    const killing = (async () => {
      while (!end.signal.aborted) {
        await db.rows(`select pg_terminate_backend(a.pid) from pg_stat_activity a join pg_locks l on l.pid = a.pid
          where a.datname = current_database() and l.locktype = 'advisory' and a.state = 'idle in transaction' and random() < 0.3`)
        await new Promise((resolve) => {
          setTimeout(resolve, 30)
        })
      }
    })()
    const runs = await Promise.all(Array.from({ length: 4 }, () => made.cli(['apply', '--json'])))
    end.abort()
    await killing
    for (const { code, stderr } of runs) assert.ok([0, 1, 4, 11].includes(code ?? -1), `exit ${code}: ${stderr}`)
    await judge(db, 'log', made.path('backups'), original)
    assert.is((await made.run(['apply'])).code, 0)
    await judge(db, 'log', made.path('backups'), original)
    assert.equal(
      (await verify({ cwd: made.folder })).findings.filter(({ kind }) => kind !== 'orphan'),
      [],
    )
  },
  ['postgres'],
)

test.run()
