/** Schedules: how they are written, their times, the loop that starts policies, and files for other schedulers. */
import { renameSync } from 'node:fs'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { loadProject } from '../src/config/project.ts'
import { apply, plan, RetentionError, schedule, status } from '../src/index.ts'
import { startScheduler } from '../src/schedule/scheduler.ts'
import { delayOf, isMissed, nextTimes } from '../src/schedule/times.ts'
import { startSchedules } from '../src/serve/schedules.ts'
import { startServer } from '../src/serve/server.ts'
import { createDatabase } from './support/database.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog } from './support/scene.ts'

const test = suite('schedule')
const policy = { table: 'log', column: 'at', days: 30 }
const utc = (cron: string) => ({ cron, jitter: 0, timezone: 'UTC' })
const isoTimes = (cron: string, timezone: string, after: string, count: number) =>
  nextTimes({ cron, jitter: 0, timezone }, new Date(after), count).map((time) => time.toISOString())

test("a policy's schedule and zone go before the config's; mistakes are quoted with an example", async () => {
  const made = new TestProject(
    { schedule: { cron: '0 9 * * MON', jitter: '5m' }, timezone: 'Asia/Seoul' },
    { a: policy, b: { ...policy, schedule: false }, c: { ...policy, schedule: '@daily', timezone: 'Europe/Berlin' } },
  )
  try {
    const { policies } = await loadProject({ cwd: made.folder })
    assert.equal(
      policies.map((one) => one.schedule),
      [
        { cron: '0 9 * * MON', jitter: 300_000, timezone: 'Asia/Seoul' },
        undefined,
        { cron: '@daily', jitter: 0, timezone: 'Europe/Berlin' },
      ],
    )
    for (const cron of ['61 * * * *', '0 0 30 2 *', '* * * * * *', '@reboot', '2099-01-01T00:00:00', '']) {
      made.policy('b', { ...policy, schedule: cron })
      const error = await loadProject({ cwd: made.folder }).catch((reason: unknown) => reason)
      assert.instance(error, RetentionError)
      assert.match(String(error), `"${cron}"`)
      assert.match(String(error), '0 9 * * MON')
    }
  } finally {
    made.remove()
  }
})

test('a policy counts its days in its own zone, and its next run is in its status', async () => {
  const database = await createDatabase('sqlite')
  const made = new TestProject(
    { database: database.address },
    {
      a: { ...policy, timezone: 'Asia/Seoul', schedule: '0 9 * * *' },
      b: policy,
    },
  )
  try {
    await database.run('create table log (id integer primary key, at text)')
    const [report] = (await plan({ cwd: made.folder, now: new Date('2026-06-15T15:00:00Z') })).policies
    assert.is(report?.cutoff, '2026-05-16T15:00:00Z')
    const { policies } = await status({ cwd: made.folder, now: new Date('2026-06-15T15:00:00Z') })
    assert.equal(
      policies.map(({ nextRunAt }) => nextRunAt),
      ['2026-06-16T00:00:00.000Z', null],
    )
    const times = await schedule({ cwd: made.folder, now: new Date('2026-06-15T15:00:00Z') })
    assert.equal(
      times.policies.map(({ next, lastRun }) => [next, lastRun]),
      [
        [['2026-06-16T00:00:00.000Z', '2026-06-17T00:00:00.000Z', '2026-06-18T00:00:00.000Z'], null],
        [[], null],
      ],
    )
    assert.match((await made.run(['schedule'])).stdout, /0 9 \* \* \* Asia\/Seoul +never +[\d-]+ 00:00, /)
    assert.match((await made.run(['status'])).stdout, /scheduled next for [\d-]+ 00:00 UTC/)
  } finally {
    made.remove()
    await database.drop()
  }
})

test('a time in the gap of summer time runs once, and one in the overlap once', () => {
  const days = (times: string[]) => times.map((time) => time.slice(0, 10))
  const gap = isoTimes('30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', 3)
  assert.equal(days(gap), ['2026-03-29', '2026-03-30', '2026-03-31'])
  const overlap = isoTimes('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 3)
  assert.equal(days(overlap), ['2026-10-25', '2026-10-26', '2026-10-27'])
})

test('a daily time comes once on every day of any zone, whatever its clocks do', () => {
  const zones = fc.constantFrom('Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'America/St_Johns')
  const hours = fc.integer({ min: 0, max: 23 })
  const minutes = fc.integer({ min: 0, max: 59 })
  fc.assert(
    fc.property(zones, hours, minutes, (timezone, hour, minute) => {
      const day = new Intl.DateTimeFormat('en-CA', { timeZone: timezone })
      const times = nextTimes({ cron: `${minute} ${hour} * * *`, jitter: 0, timezone }, new Date('2026-01-01'), 370)
      return new Set(times.map((time) => day.format(time))).size === 370
    }),
    { numRuns: 20 },
  )
})

test('jitter is the same for a machine, and within its bounds', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: 1e9 }), (machine, jitter) => {
      const delay = delayOf({ ...utc('@daily'), jitter }, machine)
      return delay === delayOf({ ...utc('@daily'), jitter }, machine) && delay >= 0 && delay < jitter
    }),
  )
  assert.is.not(delayOf({ ...utc('@daily'), jitter: 1e9 }, 'a'), delayOf({ ...utc('@daily'), jitter: 1e9 }, 'b'))
})

test('a time between the last run and now was missed; what never ran waits', () => {
  const now = new Date('2026-06-15T12:00:00Z')
  assert.is(isMissed(utc('0 9 * * *'), new Date('2026-06-15T08:59:00Z'), now), true)
  assert.is(isMissed(utc('0 9 * * *'), new Date('2026-06-15T09:00:00Z'), now), false)
  assert.is(isMissed(utc('0 9 * * *'), null, now), false)
})

/** A clock that stands still until it is set. */
class TestClock {
  #now: Date
  #woken: (() => void) | undefined
  waits: number[] = []

  constructor(now: string) {
    this.#now = new Date(now)
  }

  readonly now = (): Date => this.#now

  readonly wake = (callback: () => void, milliseconds: number): (() => void) => {
    this.#woken = callback
    this.waits.push(milliseconds)
    return () => (this.#woken = undefined)
  }

  /** Sets it, wakes the loop, and lets what was started begin. */
  async set(now: string): Promise<void> {
    this.#now = new Date(now)
    this.#woken?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test('policies of one time run together, never two runs at once, and what came meanwhile or was missed runs once', async () => {
  const clock = new TestClock('2026-06-15T12:00:00Z')
  const started: string[][] = []
  const errors: unknown[] = []
  let end = (_error?: Error): void => {}
  const scheduler = startScheduler({
    policies: [
      { name: 'a', schedule: utc('0 * * * *') },
      { name: 'b', schedule: utc('0 * * * *') },
      { name: 'c', schedule: undefined },
    ],
    start: async (policies) => {
      started.push([...policies])
      await new Promise<void>((resolve, reject) => {
        end = (error) => (error === undefined ? resolve() : reject(error))
      })
    },
    lastRunOf: (name) => (name === 'b' ? new Date('2026-06-10T00:00:00Z') : null),
    onError: (error) => errors.push(error),
    machine: 'm',
    clock,
  })
  await clock.set('2026-06-15T12:00:01Z')
  assert.equal(started, [['b']], 'five days were missed, and are made up for once')
  // The machine slept through two times while the run went on.
  await clock.set('2026-06-15T14:30:00Z')
  assert.is(started.length, 1)
  end(new Error('failed'))
  await clock.set('2026-06-15T14:30:01Z')
  assert.equal(started.slice(1), [['a', 'b']])
  assert.is(errors.length, 1)
  end()
  await clock.set('2026-06-15T14:59:59Z')
  assert.is(started.length, 2)
  // A clock that is set back a little repeats nothing.
  await clock.set('2026-06-15T15:00:00Z')
  end()
  await clock.set('2026-06-15T14:59:00Z')
  await clock.set('2026-06-15T15:00:00Z')
  assert.is(started.length, 3)
  assert.ok(clock.waits.every((wait) => wait >= 1 && wait <= 60_000))
  await scheduler.stop()
  await clock.set('2026-06-16T15:00:00Z')
  assert.is(started.length, 3)
})

/** What has been said, line by line, and a way to wait for a line. */
class Lines {
  readonly all: string[] = []
  readonly #waiting = new Map<RegExp, (line: string) => void>()

  readonly say = (line: string): void => {
    this.all.push(line)
    for (const [pattern, found] of this.#waiting) if (pattern.test(line)) found(line)
  }

  /** The next line of that form. */
  async next(pattern: RegExp): Promise<string> {
    const line = await new Promise<string>((resolve) => this.#waiting.set(pattern, resolve))
    this.#waiting.delete(pattern)
    return line
  }
}

overDatabases(
  test,
  'serve makes up for a missed time once, waits for a run that goes on, and stops',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2025-01-01T00:00:00Z', 4))
    const { folder: cwd } = project({
      log: { ...logPolicy, schedule: '0 9 * * *' },
      other: { ...logPolicy, schedule: '0 9 * * *' },
      unscheduled: logPolicy,
    })
    await apply({ cwd, policies: ['log'] })
    const later = (days: number, time: string) =>
      `${new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10)}T${time}Z`
    const clock = new TestClock(later(4, '08:00:00'))
    const server = await startServer({ port: 0, host: '127.0.0.1', cwd })
    const lines = new Lines()
    const { policies } = await loadProject({ cwd })
    const ran = lines.next(/has finished$/)
    const comes = lines.next(/^Next/)
    const schedules = startSchedules({ project: { cwd }, policies, runs: server.runs, say: lines.say, clock })
    try {
      assert.is(await comes, `Next scheduled run: ${later(4, '09:00:00.000')}, of log, other`)
      await ran
      const policiesOf = () => server.runs.list().map((run) => run.policies.map(({ policy: name }) => name).join())
      assert.equal(policiesOf(), ['log'], 'what never ran has missed nothing')

      // Somebody has started a run when the time comes.
      const ranAfter = lines.next(/has finished$/)
      await server.runs.start(['unscheduled'])
      await clock.set(later(4, '09:00:00'))
      await ranAfter
      assert.equal(policiesOf(), ['log,other', 'unscheduled', 'log'])
      const [scheduled, asked] = server.runs.list()
      assert.ok((scheduled?.startedAt ?? '') >= (asked?.finishedAt ?? 'z'))
      assert.match(lines.all.findLast((line) => line.startsWith('Next')) ?? '', later(5, '09:00:00.000'))
    } finally {
      const stopped = schedules.stop()
      await server.close(0)
      await stopped
    }
    await clock.set(later(6, '09:00:00'))
    assert.is(server.runs.list().length, 3)
  },
)

test('a ledger that cannot be read when serve starts is tried again, and what came meanwhile runs', async () => {
  const database = await createDatabase('sqlite')
  const made = new TestProject({ database: database.address }, { log: { ...logPolicy, schedule: '0 9 * * *' } })
  const file = database.address.replace(/^sqlite:(\/\/)?/, '')
  try {
    await seedLog(database, [])
    renameSync(file, `${file}.away`)
    const project = { cwd: made.folder }
    const { policies } = await loadProject(project)
    const clock = new TestClock('2099-06-15T08:59:30Z')
    const server = await startServer({ port: 0, host: '127.0.0.1', ...project })
    const lines = new Lines()
    const waits = lines.next(/^The schedule waits for the ledger/)
    const schedules = startSchedules({ project, policies, runs: server.runs, say: lines.say, clock })
    try {
      await waits
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(clock.waits, [60_000])
      renameSync(`${file}.away`, file)
      const ran = lines.next(/has finished$/)
      await clock.set('2099-06-15T09:00:30Z')
      await ran
    } finally {
      const stopped = schedules.stop()
      await server.close(0)
      await stopped
    }
  } finally {
    made.remove()
    await database.drop()
  }
})

test('schedule print cron writes a line for each schedule, and refuses what cron cannot say', async () => {
  const made = new TestProject(
    { schedule: '0 9 * * MON' },
    {
      a: policy,
      b: policy,
      c: { ...policy, schedule: '@daily', timezone: 'Asia/Seoul' },
      d: { ...policy, schedule: false },
    },
  )
  try {
    const { code, stdout } = await made.run(['schedule', 'print', 'cron'])
    assert.is(code, 0)
    const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    assert.equal(lines, [
      'CRON_TZ=UTC',
      '0 9 * * 1 cd /path/to/project && npx retention apply --quiet a b',
      'CRON_TZ=Asia/Seoul',
      '0 0 * * * cd /path/to/project && npx retention apply --quiet c',
    ])
    for (const cron of ['0 0 L * *', '0 0 * * MON#2', '0 0 15 * +MON', '0 0 15W * *']) {
      made.policy('a', { ...policy, schedule: cron })
      const refused = await made.run(['schedule', 'print', 'cron', 'a'])
      assert.is.not(refused.code, 0)
      assert.match(refused.stderr, `of the schedule "${cron}" (a) is known to "retention serve" alone`)
    }
    assert.match((await made.run(['schedule', 'print', 'cron', 'd'])).stderr, 'No policy has a schedule')
  } finally {
    made.remove()
  }
})

test.run()
