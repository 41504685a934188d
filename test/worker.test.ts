/** Workers: runs come from a queue on Postgres, each is made once, what fails is tried again, and schedules are kept there. */
import { setTimeout as sleep } from 'node:timers/promises'

import { PgBoss } from 'pg-boss'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { enqueue, queueStatus, retentionHandler, startWorker, type QueueCounts, type RunEvent } from '../src/index.ts'
import { createDatabase, type TestDatabase } from './support/database.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog, type Scene } from './support/scene.ts'
import type { TestProject } from './support/project.ts'

const test = suite('worker')

/** Runs a body with a project of two databases, eu with three due rows and us with two, and a queue beside them. */
async function withQueue(
  { db: eu, project }: Scene,
  body: (made: TestProject, eu: TestDatabase, us: TestDatabase, queue: TestDatabase) => Promise<void>,
): Promise<void> {
  const [us, queue] = [await createDatabase(eu.kind), await createDatabase('postgres')]
  try {
    await seedLog(eu, minutesBefore('2020-05-16T00:00:00Z', 3))
    await seedLog(us, minutesBefore('2020-05-16T00:00:00Z', 2))
    // Undefined takes the place of the scene's one database.
    const one = { database: undefined } as object
    const databases = { eu: eu.address, us: us.address }
    await body(project({ log: logPolicy }, { ...one, databases, queue: queue.address }), eu, us, queue)
  } finally {
    await us.drop()
    await queue.run('drop schema if exists retention_queue cascade')
    await queue.drop()
  }
}

async function until(is: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await is()); tries += 1) {
    if (tries > 600) throw new Error(`never came: ${what}`)
    await sleep(50)
  }
}

overDatabases(test, 'a run of each database, made once by whoever is free', async (scene) =>
  withQueue(scene, async (made, eu, us) => {
    const cwd = made.folder
    assert.equal(await enqueue({ cwd }), { queued: [{ database: 'eu' }, { database: 'us' }], already: [] })
    const again = await made.run(['worker', 'enqueue', '--database', 'us'])
    assert.is(again.stdout, 'us: all policies waiting or at work already\n')
    assert.is((await made.run(['worker', 'status'])).stdout, '2 waiting, 0 at work, 0 failed too often\n')
    assert.equal(await (await askService(made)).json(), { waiting: 2, active: 0, dead: 0 })
    assert.match((await made.run(['worker', 'enqueue', 'lgo'])).stderr, /No policy is called "lgo"/)
    const events: RunEvent[] = []
    const onEvent = (event: RunEvent): void => void events.push(event)
    const workers = [await startWorker({ cwd, onEvent }), await startWorker({ cwd, onEvent })]
    const ended = (): number => events.filter(({ type }) => type === 'run-finished').length
    await until(() => ended() === 2, 'both runs')
    assert.equal(
      events
        .filter(({ type }) => type === 'run-started')
        .map(({ database }) => database)
        .toSorted(byText),
      ['eu', 'us'],
    )
    for (const db of [eu, us]) assert.is(Number(await db.value('select count(*) from log')), 0)
    await until(async () => (await queueStatus({ cwd })).active === 0, 'the end of both')
    assert.equal(await queueStatus({ cwd }), { waiting: 0, active: 0, dead: 0 } satisfies QueueCounts)
    for (const worker of workers) await worker.stop(1000)
  }),
)

/** What `serve` says of the queue. */
async function askService({ folder }: TestProject): Promise<Response> {
  const options = { cwd: folder, database: 'eu', authorize: () => true }
  return retentionHandler(options)(new Request('http://localhost/queue'))
}

function byText(a: string | undefined, b: string | undefined): number {
  return String(a) < String(b) ? -1 : 1
}

overDatabases(
  test,
  'what fails too often is among the dead, with the reason; a schedule is kept as long as it is there',
  async (scene) =>
    withQueue(scene, async (made, _, us, queue) => {
      const cwd = made.folder
      made.policy('log', { ...logPolicy, table: 'gone', schedule: '0 9 * * MON', timezone: 'Asia/Seoul' })
      const errors: string[] = []
      const onError = (message: string): void => void errors.push(message)
      const worker = await startWorker({ cwd, onError })
      assert.is(worker.schedules, 2)
      const schedules = await queue.rows(
        'select cron, timezone, data from retention_queue.schedule order by data::text',
      )
      assert.equal(
        schedules.map(([cron, timezone, data]) => [cron, timezone, JSON.stringify(data)]),
        ['eu', 'us'].map((database) => ['0 9 * * MON', 'Asia/Seoul', JSON.stringify({ database, policies: ['log'] })]),
      )
      const boss = new PgBoss({
        connectionString: queue.address,
        schema: 'retention_queue',
        supervise: false,
        schedule: false,
      })
      boss.on('error', () => {})
      await boss.start()
      // So that nobody waits for a second try.
      await boss.updateQueue('apply', { retryLimit: 0 })
      await enqueue({ cwd, database: 'eu' })
      await until(async () => (await queueStatus({ cwd })).dead === 1, 'the dead one')
      assert.match(errors.join(), /^eu: log refused: REFUSED .*gone/, errors.join())
      const [dead] = await boss.findJobs('apply_dead')
      assert.match(JSON.stringify(dead?.sourceOutput), /log refused/, JSON.stringify(dead))
      await boss.stop({ graceful: false })
      await worker.stop(1000)
      made.policy('log', logPolicy)
      const next = await startWorker({ cwd })
      assert.is(next.schedules, 0)
      assert.is(Number(await queue.value('select count(*) from retention_queue.schedule')), 0)
      await next.stop(1000)
      assert.is(Number(await us.value('select count(*) from log')), 2)
    }),
  ['sqlite'],
)

overDatabases(
  test,
  'the command works until it is told to stop; without a queue it says what is missing',
  async (scene) =>
    withQueue(scene, async (made, eu) => {
      assert.is((await made.run(['worker', 'enqueue', '--database', 'eu'])).stdout, 'eu: all policies queued\n')
      const stop = new AbortController()
      const running = made.cli(['worker', '--concurrency', '1'], { interruptOn: stop.signal })
      await until(async () => Number(await eu.value('select count(*) from log')) === 0, 'the rows')
      stop.abort()
      const run = await running
      assert.is(run.code, 0, run.stderr)
      assert.match(
        run.stderr,
        /Waiting for runs; 0 schedules are kept\.\n[^]*eu: Run [\w-]+ begins\n[^]*eu: log: applied, 3 of 3 rows archived/,
      )
      made.configure({ databases: { eu: eu.address } })
      assert.is((await askService(made)).status, 404)
      const none = await made.run(['worker'])
      assert.is(none.code, 2)
      assert.match(none.stderr, /does not say where the queue is\n.*"queue"/)
    }),
  ['sqlite'],
)

test.run()
