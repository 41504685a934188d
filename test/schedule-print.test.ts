/** Files for other schedulers: they run at the schedule's own times, as what reads them says. */
import { execFileSync } from 'node:child_process'

import { defaultLoaders } from 'cosmiconfig'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { RetentionError, schedulePrint } from '../src/index.ts'
import { cronLine, fieldsOf } from '../src/schedule/fields.ts'
import { calendars } from '../src/schedule/systemd.ts'
import { nextTimes } from '../src/schedule/times.ts'
import { utcSchedule } from '../src/schedule/utc.ts'
import { TestProject } from './support/project.ts'

const test = suite('schedule print')
const policy = { table: 'log', column: 'at', days: 30 }

/** The next times of all of some crons together, in milliseconds. */
function timesOf(crons: readonly string[], timezone: string, after: Date, count: number): number[] {
  const times = crons.flatMap((cron) => nextTimes({ cron, jitter: 0, timezone }, after, count))
  return [...new Set(times.map((time) => time.getTime()))].toSorted((a, b) => a - b).slice(0, count)
}

function groupOf(cron: string, timezone = 'UTC') {
  return { schedule: { cron, jitter: 0, timezone }, policies: ['log'] }
}

function field(lowest: number, highest: number): fc.Arbitrary<string> {
  const number = fc.integer({ min: lowest, max: highest })
  const range = fc.tuple(number, number).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
  const step = fc.integer({ min: 1, max: Math.min(7, highest) })
  const part = fc.oneof(
    number.map(String),
    range,
    fc.tuple(range, step).map((both) => both.join('/')),
    step.map((by) => `*/${by}`),
  )
  return fc.oneof(
    fc.constant('*'),
    part,
    fc.tuple(part, part).map((parts) => parts.join(',')),
  )
}

const weekday = fc.oneof(field(0, 7), fc.constantFrom('MON', 'sun', 'TUE-SAT/2', '?'))
const month = fc.oneof(fc.constant('*'), field(1, 12), fc.constantFrom('JAN', 'feb-JUN'))
const crons = fc
  .tuple(field(0, 59), field(4, 23), field(1, 28), month, weekday)
  .map((fields) => fields.join(' '))
  // A star in the hours would bring those in which clocks are changed.
  .map((cron) => cron.replace(/^(\S+) \*(\/\d+)?/, '$1 4-23$2').replace(/^(\S+) (\S+),\*(\/\d+)?/, '$1 $2,4-23$3'))
const fixedZones = fc.constantFrom('UTC', 'Asia/Seoul', 'Asia/Kolkata', 'America/Bogota', 'Pacific/Kiritimati')
const zones = fc.oneof(fixedZones, fc.constantFrom('Europe/Berlin', 'America/New_York'))
const moments = fc.integer({ min: Date.parse('2026-01-01'), max: Date.parse('2030-01-01') }).map((at) => new Date(at))

test('the line for other crons has no names or steps that they read in another way, and means the same', () => {
  fc.assert(
    fc.property(crons, zones, moments, (cron, timezone, after) => {
      const line = cronLine(fieldsOf(groupOf(cron)))
      assert.match(line, /^([\d,/*-]+ ){4}[\d,-]+$|^([\d,/*-]+ ){4}\*$/)
      assert.equal(timesOf([line], timezone, after, 20), timesOf([cron], timezone, after, 20))
    }),
    { numRuns: 60 },
  )
  for (const cron of ['@yearly', '@monthly', '@weekly', '@daily', '@hourly', '*/40 * * * *', '0 0 */10 * MON']) {
    const now = new Date('2026-06-15T12:00:00Z')
    assert.equal(timesOf([cronLine(fieldsOf(groupOf(cron)))], 'UTC', now, 20), timesOf([cron], 'UTC', now, 20), cron)
  }
})

test('the lines by the clock of UTC mean the same times, or are refused', () => {
  let count = 0
  fc.assert(
    fc.property(crons, fixedZones, moments, (cron, timezone, after) => {
      try {
        const { lines, warning } = utcSchedule(groupOf(cron, timezone), after)
        assert.is(warning, undefined)
        assert.equal(timesOf(lines, 'UTC', after, 20), timesOf([cron], timezone, after, 20))
        count += 1
      } catch (error) {
        if (!(error instanceof RetentionError)) throw error
        assert.match(error.message, 'it has another date than')
      }
    }),
    { numRuns: 80 },
  )
  assert.ok(count > 10)
  const { lines, warning } = utcSchedule(groupOf('0 9 * * MON', 'Asia/Seoul'), new Date('2026-06-15'))
  assert.equal({ lines, warning }, { lines: ['0 0 * * 1'], warning: undefined })
  assert.equal(utcSchedule(groupOf('0 3 * * MON', 'Asia/Seoul'), new Date()).lines, ['0 18 * * 0'])
  const berlin = utcSchedule(groupOf('0 9 * * *', 'Europe/Berlin'), new Date('2026-06-15'))
  assert.equal(berlin.lines, ['0 8 * * *'])
  assert.match(berlin.warning ?? '', 'Europe/Berlin are put forward, it comes 60 minutes later')
})

test('the calendars of systemd have the same times', () => {
  const analyze = (calendar: string, after: Date): number[] => {
    const base = `${after.toISOString().slice(0, 19).replace('T', ' ')} UTC`
    const words = ['calendar', '--iterations=20', `--base-time=${base}`, calendar]
    const text = execFileSync('systemd-analyze', words, { encoding: 'utf8', env: { ...process.env, TZ: 'UTC' } })
    return [...text.matchAll(/(?:elapse|#\d+): \w+ (\S+) (\S+) UTC/g)].map(([, day, time]) =>
      Date.parse(`${day}T${time}Z`),
    )
  }
  try {
    execFileSync('systemd-analyze', ['calendar', '--iterations=1', '--base-time=2026-01-01', 'daily'])
  } catch {
    process.stderr.write('There is no systemd-analyze here (249 or later): its reading of the calendars is left out.\n')
    return
  }
  fc.assert(
    fc.property(crons, zones, moments, (cron, timezone, at) => {
      const after = new Date(Math.floor(at.getTime() / 1000) * 1000)
      const found = calendars(fieldsOf(groupOf(cron)), timezone).flatMap((calendar) => analyze(calendar, after))
      const times = [...new Set(found)].toSorted((a, b) => a - b).slice(0, 20)
      assert.equal(times, timesOf([cron], timezone, after, 20), cron)
    }),
    { numRuns: 40 },
  )
})

/** As much of the files as is looked at. */
interface Job {
  readonly kind: string
  readonly spec: {
    readonly schedule: string
    readonly timeZone: string
    readonly concurrencyPolicy: string
    readonly jobTemplate: { readonly spec: { readonly template: { readonly spec: Pod } } }
  }
}
interface Pod {
  readonly securityContext: { readonly runAsNonRoot: boolean }
  readonly containers: readonly {
    readonly command: readonly string[]
    readonly securityContext: { readonly readOnlyRootFilesystem: boolean }
    readonly env: unknown
  }[]
}
interface Workflow {
  readonly on: { readonly schedule: readonly { readonly cron: string }[] }
  readonly jobs: Readonly<Record<string, { readonly if: string; readonly steps: readonly { readonly run?: string }[] }>>
}
interface Blueprint {
  readonly services: readonly { readonly name: string; readonly schedule: string; readonly startCommand: string }[]
}

test('every file has a job for each schedule, and no secret', async () => {
  const made = new TestProject(
    {
      databases: { eu: 'postgres://me:hidden@localhost/eu', us: 'postgres://me:hidden@localhost/us' },
      schedule: { cron: '0 9 * * MON', jitter: '5m' },
      timezone: 'Asia/Seoul',
    },
    {
      a: policy,
      b: policy,
      c: { ...policy, schedule: '30 3 1 * FRI', timezone: 'Europe/Berlin' },
      기록: { ...policy, schedule: '@daily', timezone: 'UTC' },
    },
  )
  try {
    const print = async (kind: Parameters<typeof schedulePrint>[0]['kind'], policies?: string[]) => {
      const words = ['schedule', 'print', kind, ...(policies ?? [])]
      const run = await made.run(words)
      assert.is(run.code, 0, run.stderr)
      assert.not.match(run.stdout, /hidden|localhost/)
      return run
    }
    // What is read from a text is what its reader says.
    const read = <T>(text: string): T => defaultLoaders['.yaml']('printed.yaml', text) as T

    const units = (await print('systemd')).stdout
    assert.equal(units.match(/^# \/etc\/systemd.*/gm)?.length, 6)
    assert.equal(units.match(/^OnCalendar=.*/gm), [
      'OnCalendar=Mon *-*-* 09:00:00 Asia/Seoul',
      'OnCalendar=*-*-01 03:30:00 Europe/Berlin',
      'OnCalendar=Fri *-*-* 03:30:00 Europe/Berlin',
      'OnCalendar=*-*-* 00:00:00 UTC',
    ])
    assert.match(units, 'RandomizedDelaySec=300s\nFixedRandomDelay=true')
    assert.match(units, "apply --quiet '기록'")

    const manifest = (await print('kubernetes')).stdout
    const jobs = manifest.split(/^---$/m).map((text) => read<Job>(text))
    assert.equal(
      jobs.map(({ kind, spec }) => [kind, spec.schedule, spec.timeZone, spec.concurrencyPolicy]),
      [
        ['CronJob', '0 9 * * 1', 'Asia/Seoul', 'Forbid'],
        ['CronJob', '30 3 1 * 5', 'Europe/Berlin', 'Forbid'],
        ['CronJob', '0 0 * * *', 'UTC', 'Forbid'],
      ],
    )
    for (const { spec } of jobs) {
      const pod = spec.jobTemplate.spec.template.spec
      assert.is(pod.securityContext.runAsNonRoot, true)
      assert.is(pod.containers[0]?.securityContext.readOnlyRootFilesystem, true)
      assert.match(JSON.stringify(pod.containers[0]?.env), 'secretKeyRef')
    }
    assert.equal(jobs[2]?.spec.jobTemplate.spec.template.spec.containers[0]?.command.slice(1), [
      'apply',
      '--quiet',
      '기록',
    ])

    const printed = await print('github', ['a', 'c'])
    assert.match(printed.stderr, 'the clocks of Europe/Berlin are put forward')
    const workflow = read<Workflow>(printed.stdout)
    assert.equal(workflow.on.schedule, [{ cron: '0 0 * * 1' }, { cron: '30 2 1 * 5' }])
    assert.match(workflow.jobs['retention-2']?.if ?? '', "github.event.schedule == '30 2 1 * 5'")
    assert.is(workflow.jobs['retention-2']?.steps.at(-1)?.run, 'npx retention apply --quiet c')

    const blueprint = read<Blueprint>((await print('render', ['a', 'b'])).stdout)
    assert.equal(
      blueprint.services.map(({ name, schedule, startCommand }) => [name, schedule, startCommand]),
      [['retention', '0 0 * * 1', 'npx retention apply --quiet a b']],
    )
    assert.is((await made.run(['schedule', 'print', 'cron', '--database', 'eu'])).code, 2)
    const twice = await made.run(['schedule', 'print', 'cron', '--config', 'x.ts', '--config', 'y.ts'])
    assert.match(twice.stderr, /y\.ts/)
    assert.not.match(twice.stderr, /x\.ts/)
  } finally {
    made.remove()
  }
})

test.run()
