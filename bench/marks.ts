/** The marks: what retention is to reach, and whether it has. */
import type { Entry, Race } from './races.ts'
import type { Kind } from './databases.ts'
import { median } from './measure.ts'
import type { Results } from './results.ts'
import type { Overview } from './overview.ts'

export interface Mark {
  readonly what: string
  readonly mark: string
  readonly measured: string
  /** What is skipped counts as not met. */
  readonly met: 'yes' | 'no' | 'skipped'
}

/** What a reader calls the databases. */
export const titles: Readonly<Record<Kind, string>> = { postgres: 'Postgres', sqlite: 'SQLite' }
const kinds: readonly Kind[] = ['postgres', 'sqlite']

/** All marks, in the order in which the page shows them. */
export function marksOf(results: Results): Mark[] {
  const { races } = results
  const statement = 'the time of psql’s single statement'
  return [
    atMost('apply, Postgres', 0.85, `${statement} (aim: 0.7)`, against(races, 'postgres', 'apply', 'floor')),
    faster('apply, Postgres', 6, against(races, 'postgres', 'apply', 'everyday')),
    atMost('apply, Postgres, with gzip', 0.85, statement, against(races, 'postgres', 'apply', 'floor', 'gzip')),
    atMost('apply, SQLite', 1.25, 'the time of the sqlite3 shell', against(races, 'sqlite', 'apply', 'floor')),
    faster('apply, SQLite', 2.5, against(races, 'sqlite', 'apply', 'everyday')),
    atMost('restore, Postgres', 1.2, 'the time of psql `\\copy from`', against(races, 'postgres', 'restore', 'floor')),
    atMost('restore, SQLite', 1.5, 'the time of sqlite3 `.import`', against(races, 'sqlite', 'restore', 'floor')),
    ...kinds.flatMap((kind) => [sealed(results, kind, 'gzip', 1.15), sealed(results, kind, 'zip', 1.6)]),
    ...kinds.map((kind) => onS3(results, kind)),
    ...kinds.map((kind) => query(results, kind)),
    memory(results),
    ...kinds.map((kind) => sameMemory(results, kind)),
    ...kinds.map((kind) => growth(results, kind)),
    ...kinds.flatMap((kind) => [overview(results, kind, 'status', 1.3), overview(results, kind, 'plan', 6)]),
    dropping(results),
    heap(results),
    start(results, 'help', '`retention --help`', 5),
    start(results, 'status', '`status` on an empty SQLite table', 12),
    ...kinds.flatMap((kind) => [beside(results, kind, false, 3), beside(results, kind, true, 1.5)]),
  ]
}

/** A ratio to a rival, or the reason why there is none. */
interface Ratio {
  readonly value: number | undefined
  /** What stands beside the number, or instead of it. */
  readonly note: string
}

const unmeasured: Ratio = { value: undefined, note: 'not measured' }

/** A mark for times or memory: no more than so many times what they are compared with. */
function atMost(what: string, limit: number, of: string, { value, note }: Ratio): Mark {
  const measured = value === undefined ? `skipped: ${note}` : `${value.toFixed(2)} × ${note}`
  return { what, mark: `≤ ${limit} × ${of}`, measured, met: verdict(value, (ratio) => ratio <= limit) }
}

function faster(what: string, limit: number, { value, note }: Ratio): Mark {
  const measured = value === undefined ? `skipped: ${note}` : `${(1 / value).toFixed(1)} × ${note}`
  const mark = `≥ ${limit} × faster than the everyday script`
  return { what, mark, measured, met: verdict(value, (ratio) => 1 / ratio >= limit) }
}

function verdict(value: number | undefined, reached: (value: number) => boolean): Mark['met'] {
  if (value === undefined) return 'skipped'
  return reached(value) ? 'yes' : 'no'
}

/** Seconds of an entry in the middle of its runs. */
export function secondsOf({ runs }: Pick<Entry, 'runs'>): number {
  return median(runs.map(({ seconds }) => seconds))
}

/** The most memory of an entry in any of its runs, in MB; undefined where the system does not tell. */
export function memoryOf({ runs }: Pick<Entry, 'runs'>): number | undefined {
  const known = runs.flatMap(({ megabytes }) => megabytes ?? [])
  return known.length === 0 ? undefined : Math.max(...known)
}

/** What it costs to compress or seal archives. */
function sealed({ races }: Results, kind: Kind, how: 'gzip' | 'zip', limit: number): Mark {
  const what = `apply with ${how === 'zip' ? 'an AES-256 zip' : how}, ${titles[kind]}`
  return atMost(what, limit, 'the time with plain CSV', against(races, kind, 'apply', 'retention', how))
}

/** What it costs to store archives on S3, with the service on the same machine. */
function onS3({ races }: Results, kind: Kind): Mark {
  const what = `apply to S3 on the same machine, ${titles[kind]}`
  return atMost(what, 1.15, 'the time with a folder', against(races, kind, 'apply', 'retention', 's3'))
}

function query({ asked }: Results, kind: Kind): Mark {
  const found = asked.find((one) => one.kind === kind)
  const [own, alone] = [found && secondsOf({ runs: found.runs.query }), found && secondsOf({ runs: found.runs.duckdb })]
  return {
    what: `\`query\` counts the rows of gzip archives, ${titles[kind]}`,
    mark: '≤ 3 s for 1,000,000 rows',
    measured:
      found === undefined
        ? 'skipped: not measured'
        : `${own?.toFixed(2)} s for ${found.rows.toLocaleString('en')} (DuckDB alone: ${alone?.toFixed(2)} s)`,
    met: verdict(own, (seconds) => seconds <= 3),
  }
}

/** Whether it is retention that was measured, in whichever form it stores archives. */
function isOurs({ role }: Entry): boolean {
  return role !== 'floor' && role !== 'everyday'
}

function against(
  races: readonly Race[],
  kind: Kind,
  task: Race['task'],
  role: Entry['role'],
  who: Entry['role'] = 'retention',
): Ratio {
  const entries = races.find((race) => race.kind === kind && race.task === task)?.entries ?? []
  const own = entries.find((entry) => entry.role === who)
  const rivals = entries.filter((entry) => entry.role === role)
  const raced = rivals.find(({ lacks }) => lacks === undefined)
  const lacking = rivals.flatMap(({ lacks }) => lacks ?? []).map((program) => `no ${program} here`)
  if (own === undefined || rivals.length === 0) return unmeasured
  if (raced === undefined) return { value: undefined, note: lacking.join(', ') }
  const stead = lacking.length === 0 ? '' : `; ${raced.name}, as there is ${lacking.join(', ')}`
  return {
    value: secondsOf(own) / secondsOf(raced),
    note: `(${secondsOf(own).toFixed(2)} s to ${secondsOf(raced).toFixed(2)} s${stead})`,
  }
}

function memory({ races, growth: grown, overviews }: Results): Mark {
  const peaks = [
    ...races.flatMap(({ kind, task, due, entries }) =>
      entries.filter(isOurs).map((entry) => ({ kind, task, due, peak: memoryOf(entry) })),
    ),
    ...grown.map(({ kind, due, run }) => ({ kind, task: 'apply', due, peak: run.megabytes })),
    ...overviews.flatMap(({ kind, rows, runs }) =>
      (['status', 'plan'] as const).map((task) => ({
        kind,
        task,
        due: rows / 2,
        peak: memoryOf({ runs: runs[task] }),
      })),
    ),
  ].flatMap(({ peak, ...rest }) => (peak === undefined ? [] : [{ ...rest, peak }]))
  const [worst] = peaks.toSorted((a, b) => b.peak - a.peak)
  return {
    what: 'peak memory of the process, any table size',
    mark: '≤ 150 MB',
    measured:
      worst === undefined
        ? 'skipped: the system does not tell'
        : `at most ${worst.peak.toFixed(0)} MB (${worst.task}, ${titles[worst.kind]}, ${worst.due.toLocaleString('en')} due rows)`,
    met: verdict(worst?.peak, (peak) => peak <= 150),
  }
}

/** What counts as the same: within a tenth. */
const sameWithin = 1.1

/** What apply took at the base size and at ten times that. */
function sizes(
  { races, growth: grown }: Results,
  kind: Kind,
): { base: Entry; due: number; large: Results['growth'][number] } | undefined {
  const race = races.find((one) => one.kind === kind && one.task === 'apply')
  const base = race?.entries.find(({ role }) => role === 'retention')
  const large = grown.find((one) => one.kind === kind)
  return race === undefined || base === undefined || large === undefined ? undefined : { base, due: race.due, large }
}

function sameMemory(results: Results, kind: Kind): Mark {
  const found = sizes(results, kind)
  const [base, large] = [found && memoryOf(found.base), found?.large.run.megabytes]
  const ratio: Ratio =
    base === undefined || large === undefined
      ? unmeasured
      : { value: large / base, note: `(${large.toFixed(0)} MB to ${base.toFixed(0)} MB)` }
  return atMost(
    `peak memory of apply at ten times the rows, ${titles[kind]}`,
    sameWithin,
    'that at the base size',
    ratio,
  )
}

function growth(results: Results, kind: Kind): Mark {
  const found = sizes(results, kind)
  const what = `time per row at ten times the rows, ${titles[kind]}`
  if (found === undefined) return atMost(what, sameWithin, 'that at the base size', unmeasured)
  const [base, large] = [secondsOf(found.base) / found.due, found.large.run.seconds / found.large.due]
  const micro = (seconds: number): string => (seconds * 1e6).toFixed(2)
  const note = `(${micro(large)} µs at ${found.large.due.toLocaleString('en')} due rows to ${micro(base)} µs at ${found.due.toLocaleString('en')})`
  return atMost(what, sameWithin, 'that at the base size', { value: large / base, note })
}

function overview({ overviews }: Results, kind: Kind, command: 'status' | 'plan', limit: number): Mark {
  const found = overviews.find((one) => one.kind === kind)
  return atMost(`\`${command}\`, ${titles[kind]}`, limit, 'the bare index-only count', ratioOf(found, command))
}

function ratioOf(found: Overview | undefined, command: 'status' | 'plan'): Ratio {
  if (found === undefined) return unmeasured
  const { runs, shell, rows } = found
  if (runs.count.length === 0) return { value: undefined, note: `no ${shell} here` }
  const [own, count] = [secondsOf({ runs: runs[command] }), secondsOf({ runs: runs.count })]
  const note = `(${own.toFixed(2)} s to ${count.toFixed(2)} s, ${rows.toLocaleString('en')} rows)`
  return { value: own / count, note }
}

/** A share of the pages that no scan of the heap stays below: the visibility map's are among them. */
const fewPages = 0.01

function heap({ overviews }: Results): Mark {
  const reads = overviews.find(({ kind }) => kind === 'postgres')?.reads
  const told = (name: 'status' | 'plan'): string => `${name} ${reads?.[name].pages.toLocaleString('en')}`
  const most = reads && Math.max(reads.status.pages, reads.plan.pages) / reads.pages
  const scans = reads && reads.status.scans + reads.plan.scans
  return {
    what: '`status` and `plan`, Postgres',
    mark: 'nothing scans the heap',
    measured:
      reads === undefined
        ? 'skipped: not measured'
        : `of ${reads.pages.toLocaleString('en')} pages ${told('status')}, ${told('plan')}; ${scans} sequential scans`,
    met: verdict(most, (share) => share <= fewPages && scans === 0),
  }
}

function dropping({ partitioned }: Results): Mark {
  const what = 'dropping a partition, Postgres: how long others wait'
  const of = 'the DELETE of the same rows'
  if (partitioned === undefined) return atMost(what, 0.1, of, unmeasured)
  const [waited, deleted] = [median(partitioned.waits), median(partitioned.deletes)]
  return atMost(what, 0.1, of, {
    value: waited / deleted,
    note: `(${waited.toFixed(0)} ms to ${deleted.toFixed(0)} ms)`,
  })
}

function start({ startup }: Results, name: 'help' | 'status', what: string, limit: number): Mark {
  if (startup === undefined) return atMost(what, limit, 'the start of bare `node -e 0`', unmeasured)
  const [own, node] = [median(startup[name]), median(startup.node)]
  const note = `(${(own * 1000).toFixed(0)} ms to ${(node * 1000).toFixed(0)} ms)`
  return atMost(what, limit, 'the start of bare `node -e 0`', { value: own / node, note })
}

function beside(results: Results, kind: Kind, gentle: boolean, limit: number): Mark {
  const found = results.beside.find((one) => one.kind === kind && one.gentle === gentle)
  const what = `a writer beside apply${gentle ? ' with `gentle: true`' : ''}, ${titles[kind]}`
  const of = 'its p99 alone'
  if (found === undefined) return atMost(what, limit, of, unmeasured)
  if (found.measured === undefined)
    return atMost(what, limit, of, { value: undefined, note: 'policies have no `gentle` yet' })
  const { alone, beside: disturbed, rowsPerSecond } = found.measured
  const note = `(${disturbed.p99.toFixed(1)} ms to ${alone.p99.toFixed(1)} ms; apply: ${Math.round(rowsPerSecond).toLocaleString('en')} rows/s)`
  return atMost(what, limit, of, { value: disturbed.p99 / alone.p99, note })
}
