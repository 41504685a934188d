/** Apply waits while production feels something, says so, and goes on or ends. On a server of its own: what is felt is the whole server's. */
import { setTimeout as sleep } from 'node:timers/promises'

import { Client } from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, type ApplyReport, type PolicyInput, type RunEvent, type ThrottleInput } from '../src/index.ts'
import { afterStep } from './support/after-step.ts'
import { sizesBeside } from './support/beside.ts'
import { startCluster, type Cluster } from './support/cluster.ts'
import { connectTo, type TestDatabase } from './support/database.ts'
import { TestProject } from './support/project.ts'
import { startReplica } from './support/replica.ts'
import { logPolicy, minutesBefore, now, seedLog } from './support/scene.ts'

const test = suite('throttle')

const cutoff = '2026-05-16T00:00:00Z'
const day = 24 * 60 * 60 * 1000

let cluster: Cluster
test.before(async () => {
  // A vacuum of its own would be waited for as well.
  cluster = await startCluster(['autovacuum=off'])
})
test.after(async () => cluster.stop())

interface Scene {
  readonly db: TestDatabase
  readonly project: (throttle: ThrottleInput | false, policy?: Partial<PolicyInput>) => TestProject
}

/** A test in a database of its own, with a log of ten due rows. */
function scene(name: string, body: (scene: Scene) => Promise<void>): void {
  test(name, async () => {
    const server = await connectTo(cluster.address)
    const database = `throttle_${Math.random().toString(36).slice(2)}`
    await server.run(`create database ${database}`)
    const db = await connectTo(cluster.address.replace(/\/postgres$/, `/${database}`))
    const projects: TestProject[] = []
    try {
      await seedLog(db, minutesBefore(cutoff, 10))
      await body({
        db,
        project: (throttle, policy = {}) => {
          const made = new TestProject({ database: db.address }, { log: { ...logPolicy, throttle, ...policy } })
          projects.push(made)
          return made
        },
      })
    } finally {
      for (const made of projects) made.remove()
      await db.drop()
      await server.run(`drop database ${database} with (force)`)
      await server.drop()
    }
  })
}

/** Another connection to a database. */
async function connect(db: TestDatabase): Promise<Client> {
  const client = new Client({ connectionString: db.address, application_name: 'other' })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Waits until a query's one value is true. */
async function until(db: TestDatabase, query: string): Promise<void> {
  for (let tries = 0; (await db.value(query)) !== true; tries += 1) {
    if (tries > 1000) throw new Error(`never came: ${query}`)
    await sleep(20)
  }
}

/** A wait that begins or has ended. */
interface WaitNotice {
  readonly reason: string
  readonly milliseconds: number | undefined
}

/** Applies, and does something once apply says that it waits. */
async function applyWhile(
  made: TestProject,
  release: () => unknown,
  options: Parameters<typeof apply>[0] = {},
): Promise<{ policy: ApplyReport['policies'][number] | undefined; notices: WaitNotice[] }> {
  const notices: WaitNotice[] = []
  const released: Promise<unknown>[] = []
  const onEvent = (event: RunEvent): void => {
    options.onEvent?.(event)
    if (event.type === 'wait-finished') notices.push(event)
    if (event.type !== 'wait-started') return
    notices.push({ ...event, milliseconds: undefined })
    released.push(Promise.resolve(release()))
  }
  const report = await apply({ cwd: made.folder, now, ...options, onEvent })
  await Promise.all(released)
  return { policy: report.policies[0], notices }
}

/** Told once when it began, and once when it had waited; all is archived. */
function assertWaited({ policy, notices }: Awaited<ReturnType<typeof applyWhile>>, reason: RegExp): void {
  assert.is(policy?.status, 'applied', policy?.error?.message)
  assert.is(policy?.archived, 10)
  assert.is(notices.length, 2, JSON.stringify(notices))
  assert.match(notices[0]?.reason ?? '', reason)
  assert.is(notices[0]?.milliseconds, undefined)
  assert.is(notices[1]?.reason, notices[0]?.reason)
  assert.equal(policy?.waits, [{ reason: notices[0]?.reason, milliseconds: notices[1]?.milliseconds }])
  assert.equal(policy?.warnings, [])
}

scene('a long transaction: waits until it ends', async ({ db, project }) => {
  const other = await connect(db)
  await other.query('begin isolation level repeatable read; select 1 from log')
  await until(
    db,
    `select count(*) = 1 from pg_stat_activity where application_name = 'other' and xact_start < now() - interval '50 ms'`,
  )
  assertWaited(
    await applyWhile(project({ longTransaction: 50, maxWait: day }), () => other.query('commit')),
    /^a transaction of postgres \(process \d+\) has been open for \d\.\d s \(limit 0\.1 s\)$/,
  )
  await other.end()
})

scene('a prepared transaction: waits until it ends', async ({ db, project }) => {
  await db.run("begin; insert into log (at) values ('2099-01-01'); prepare transaction 'stuck'")
  await until(db, `select prepared < now() - interval '50 ms' from pg_prepared_xacts`)
  assertWaited(
    await applyWhile(project({ longTransaction: 50, maxWait: day }), () => db.run("commit prepared 'stuck'")),
    /^the prepared transaction "stuck" has been open for/,
  )
})

scene('a transaction that does not end: goes on after maxWait, with a warning', async ({ db, project }) => {
  const other = await connect(db)
  await other.query('begin isolation level repeatable read; select 1 from log')
  const made = project({ longTransaction: 1, maxWait: 10 }, { batch: 2 })
  const { policy, notices } = await applyWhile(made, () => {})
  await other.end()
  assert.is(policy?.status, 'applied')
  assert.is(policy?.archived, 10)
  // Once in the run, not once a step.
  assert.is(notices.length, 2)
  assert.match(policy?.warnings[0]?.text ?? '', /^Went on although a transaction of postgres/)
  assert.match(policy?.warnings[0]?.hint ?? '', /"throttle"/)
})

scene('an own transaction, and one that holds nothing back, are not waited for', async ({ db, project }) => {
  const other = await connect(db)
  await other.query('begin; select 1 from log')
  const { policy, notices } = await applyWhile(project({ longTransaction: 1, maxWait: day }, { batch: 2 }), () => {})
  await other.end()
  assert.is(policy?.archived, 10)
  assert.equal(notices, [])
})

scene('a vacuum of the table, or of a partition: waits until it has ended', async ({ db, project }) => {
  await db.run(`create table parted (id bigint, at timestamptz) partition by range (at);
    create table parted_old partition of parted default;
    alter table parted add primary key (id, at); insert into parted select n, '2020-01-01' from generate_series(1, 10) n;
    create index on parted (at)`)
  for (const [table, vacuumed] of [
    ['log', 'log'],
    ['parted', 'parted_old'],
  ] as const) {
    await db.run(
      `insert into ${table} (id, at) select n, '2099-01-01' from generate_series(1000, 200000) n; delete from ${table} where at > '2098-01-01'`,
    )
    const other = await connect(db)
    await other.query("set vacuum_cost_delay = '100ms'; set vacuum_cost_limit = 1")
    const vacuum = other.query(`vacuum ${vacuumed}`).catch(() => {})
    await until(db, 'select count(*) = 1 from pg_stat_progress_vacuum')
    const cancel = (): Promise<void> => db.run('select pg_cancel_backend(pid) from pg_stat_progress_vacuum')
    const made = project({ maxWait: day }, { table })
    assertWaited(await applyWhile(made, cancel), new RegExp(`^a vacuum is at work on ${vacuumed}$`))
    await vacuum
    await other.end()
  }
})

test("the server's own vacuum: waited for if it is there before, but not if it comes meanwhile", async () => {
  const server = await startCluster(['autovacuum_naptime=1s'])
  try {
    await besideAutovacuum(await connectTo(server.address))
  } finally {
    await server.stop()
  }
})

async function besideAutovacuum(db: TestDatabase): Promise<void> {
  const isAtWork = 'select count(*) = 1 from pg_stat_progress_vacuum'
  const may = async (vacuum: boolean): Promise<void> => {
    await db.run(`alter table log set (autovacuum_enabled = ${vacuum})`)
    if (!vacuum) await db.run('select pg_cancel_backend(pid) from pg_stat_progress_vacuum')
  }
  await seedLog(db, minutesBefore(cutoff, 10))
  await db.run(`alter table log set (autovacuum_enabled = false, autovacuum_vacuum_threshold = 1,
      autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
    insert into log (id, at) select n, '2099-01-01' from generate_series(1000, 200000) n`)
  await db.run("delete from log where at > '2098-01-01'")
  // With its pause, apply has a second to see the vacuum before the next step.
  const paused = { batch: 1, concurrency: 1, pause: '1100ms', throttle: { maxWait: 3000, busyWriters: false } } as const
  const made = new TestProject({ database: db.address }, { log: { ...logPolicy, ...paused } })
  let [steps, started] = [0, Promise.resolve()]
  const then = (): void => {
    steps += 1
    if (steps === 1) started = may(true).then(() => until(db, isAtWork))
  }
  const meanwhile = await applyWhile(made, () => {}, { onEvent: afterStep(then), limitRows: 4 })
  await started
  assert.is(meanwhile.policy?.archived, 4, meanwhile.policy?.error?.message)
  assert.is(await db.value(isAtWork), true)
  assert.equal(meanwhile.notices, [])
  const { policy, notices } = await applyWhile(made, () => may(false), { limitRows: 1 })
  assert.is(policy?.archived, 1, policy?.error?.message)
  assert.match(notices[0]?.reason ?? '', /^a vacuum is at work on log$/)
  made.remove()
  await db.drop()
}

scene('WAL that a slot holds back: waits until it is taken', async ({ db, project }) => {
  await db.run(`select pg_create_physical_replication_slot('stuck_${process.pid}', true);
    create table filler as select repeat('x', 1000) from generate_series(1, 3000)`)
  const drop = (): Promise<void> => db.run(`select pg_drop_replication_slot('stuck_${process.pid}')`)
  assertWaited(
    await applyWhile(project({ walBacklog: '2MB', maxWait: day }), drop),
    /^replication slot "stuck_\d+" has yet to take [\d.]+ MB of WAL \(limit 2\.0 MB\)$/,
  )
})

scene(
  'a backlog that stays: nothing is archived any more, exit 4, and the reason on stderr',
  async ({ db, project }) => {
    await db.run(`select pg_create_physical_replication_slot('stays', true);
    create table filler as select repeat('x', 1000) from generate_series(1, 3000)`)
    try {
      const made = project({ walBacklog: '2MB', maxWait: 10 })
      made.policy('other', { ...logPolicy, throttle: { walBacklog: '2MB', maxWait: day } })
      const run = await made.run(['apply', '--json'])
      assert.is(run.code, 4, run.stderr)
      const [log, other] = run.json<ApplyReport>().policies
      assert.is(log?.status, 'partial')
      assert.is(log?.archived, 0)
      assert.is(log?.remaining, 10)
      assert.match(log?.warnings[0]?.text ?? '', /^Stopped early: replication slot "stays" has yet to take/)
      assert.is(log?.warnings.length, 1)
      const lines = run.stderr.trim().split('\n')
      assert.match(
        lines[0] ?? '',
        /^log: waiting: replication slot "stays" has yet to take .* of WAL \(limit 2\.0 MB\)$/,
      )
      assert.match(lines[1] ?? '', /^log: waited \d\.\d s: replication slot "stays"/)
      // What has been waited for in vain is not waited for again.
      assert.is(other?.status, 'partial')
      assert.is(lines.length, 2)
      assert.equal(made.list(), [])

      const quiet = await made.run(['apply', 'log', '--quiet'])
      assert.is(quiet.code, 4)
      assert.not.match(quiet.stderr, /^log: wait/m)

      const limited = await applyWhile(project({ walBacklog: '2MB', maxWait: day }), () => {}, { maxTime: '100ms' })
      assert.is(limited.policy?.status, 'partial')
      assert.is(limited.policy?.archived, 0)

      const stop = new AbortController()
      const stopped = await applyWhile(project({ walBacklog: '2MB', maxWait: day }), () => stop.abort(), {
        signal: stop.signal,
      })
      assert.is(stopped.policy?.status, 'interrupted')

      for (const off of [false, { walBacklog: false }] as const) {
        const { policy, notices } = await applyWhile(project(off), () => {}, { limitRows: 5 })
        assert.is(policy?.archived, 5)
        assert.equal(notices, [])
      }
    } finally {
      await db.run("select pg_drop_replication_slot('stays')")
    }
  },
)

scene(
  'a role with no more than the GRANTs: what it may see is waited for, the rest is not an error',
  async ({ db, project }) => {
    const role = `archiver_${Math.random().toString(36).slice(2)}`
    await db.run(
      `create role ${role} login password 'secret'; grant create on schema public to ${role}; grant select, delete on log to ${role}`,
    )
    const made = project({ longTransaction: 1, maxWait: 10 })
    made.configure({ database: db.address.replace('postgres:password@', `${role}:secret@`) })
    const other = await connect(db)
    await other.query('begin isolation level repeatable read; select 1 from log')
    const vacuum = await connect(db)
    await db.run("insert into log (at) select '2099-01-01' from generate_series(1, 200000)")
    await vacuum.query("set vacuum_cost_delay = '100ms'; set vacuum_cost_limit = 1")
    const vacuumed = vacuum.query('vacuum log').catch(() => {})
    await until(db, 'select count(*) = 1 from pg_stat_progress_vacuum')
    const { policy, notices } = await applyWhile(made, () =>
      db.run('select pg_cancel_backend(pid) from pg_stat_progress_vacuum'),
    )
    await vacuumed
    assert.is(policy?.archived, 10, policy?.error?.message)
    assert.is(notices[0]?.reason, 'a vacuum is at work on log')
    await other.end()
    await vacuum.end()
    await db.run(`drop owned by ${role}; drop role ${role}`)
  },
)

scene(
  'a replica whose replay is behind: waits until it has caught up; a role that may not see it is told',
  async ({ db, project }) => {
    const replica = await startReplica(cluster)
    const role = `archiver_${Math.random().toString(36).slice(2)}`
    try {
      await replica.db.run('select pg_wal_replay_pause()')
      await until(replica.db, "select pg_get_wal_replay_pause_state() = 'paused'")
      await db.run("insert into log (at) values ('2099-01-01')")
      await until(db, `select replay_lag > interval '100 ms' from pg_stat_replication`)
      await db.run(`create role ${role} login password 'secret'; grant create on schema public to ${role};
      grant select, delete on log to ${role}`)
      const unseen = project({ replicaLag: 100, maxWait: day }, { where: 'id = 1' })
      unseen.configure({ database: db.address.replace('postgres:password@', `${role}:secret@`) })
      const blind = await applyWhile(unseen, () => {})
      assert.is(blind.policy?.archived, 1, blind.policy?.error?.message)
      assert.match(blind.policy?.warnings[0]?.text ?? '', /replicas, and this role may not see/)
      assert.match(blind.policy?.warnings[0]?.hint ?? '', /GRANT pg_read_all_stats/)
      await db.run(`reassign owned by ${role} to postgres`)

      await db.run("insert into log (at) values ('2020-01-01')")
      assertWaited(
        await applyWhile(project({ replicaLag: 100, maxWait: day }), () =>
          replica.db.run('select pg_wal_replay_resume()'),
        ),
        /^replica "standby1" is \d+(\.\d)? s behind \(limit 0\.1 s\)$/,
      )
    } finally {
      await replica.stop()
      await db.run(`drop owned by ${role}; drop role ${role}`)
    }
  },
)

scene(
  'where others write, steps are small and one after another, and full ones where none does',
  async ({ db, project }) => {
    await db.run(`create table other (n integer);
    insert into log (at) select timestamptz '2026-05-01 00:00Z' + n * interval '1 second' from generate_series(1, 3490) as n`)
    const quick = { pause: '1ms' }
    const beside = async (policy: Partial<PolicyInput>, limitRows: number): Promise<number[]> =>
      sizesBeside(db, { cwd: project({}, { ...quick, ...policy }).folder, now, limitRows })
    assert.equal(await beside({ gentle: true }, 200), [200])
    assert.equal(await beside({ gentle: true }, 1100), [550, 550])
    assert.equal(await beside({ throttle: { busyWriters: false } }, 1100), [1100])
    const [alone] = (await apply({ cwd: project({}, { ...quick, gentle: true }).folder, now, limitRows: 1100 }))
      .policies
    assert.equal(
      alone?.archives.map(({ rows }) => rows),
      [1100],
    )
  },
)

test.run()
