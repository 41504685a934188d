/** RESULTS.md: the marks first, then all figures. */
import type { Asked } from './asked.ts'
import type { Beside } from './beside.ts'
import type { Growth } from './growth.ts'
import { marksOf, memoryOf, secondsOf, titles } from './marks.ts'
import { median } from './measure.ts'
import type { Overview } from './overview.ts'
import type { Partitioned } from './partitions.ts'
import type { Entry, Race } from './races.ts'
import type { Results } from './results.ts'
import type { Startup } from './startup.ts'

/** The table of marks, in Markdown. */
export function marksTable(results: Results): string {
  const marks = marksOf(results)
  const lines = marks.map(({ what, mark, measured, met }) => [what, mark, measured, met])
  const met = marks.filter((mark) => mark.met === 'yes').length
  const left = results.skipped.map((reason) => `- left out: ${reason}\n`).join('')
  return `${table(['what', 'mark', 'measured', 'met'], lines)}\n${met} of ${marks.length} are met; what is skipped counts as not met.\n${left && `\n${left}`}`
}

/** The whole page. */
export function report(results: Results): string {
  const { about, races, asked, beside, overviews, growth, partitioned, startup } = results
  return [
    `# Results\n\nMade by \`npm run bench\`: whole processes, measured from outside. Ratios are of medians.\n`,
    about.map((line) => `- ${line}\n`).join(''),
    `## Marks\n\n${marksTable(results)}`,
    '![How long apply and restore take](results.svg)\n',
    ...races.map(raceSection),
    askedSection(asked),
    growthSection(growth, races),
    partitioned === undefined ? '' : partitionSection(partitioned),
    overviewSection(overviews),
    startup === undefined ? '' : startupSection(startup),
    besideSection(beside),
  ]
    .filter((section) => section !== '')
    .join('\n')
}

function raceSection({ kind, task, due, entries }: Race): string {
  const own = entries.find(({ role }) => role === 'retention')
  const lines = entries.map((entry) => {
    if (entry.lacks !== undefined) return [entry.name, `skipped: no ${entry.lacks} here`, '', '', '', '']
    const seconds = secondsOf(entry)
    return [
      entry.name,
      `${seconds.toFixed(2)} s`,
      spread(entry.runs.map((run) => run.seconds)),
      whole(due / seconds),
      megabytes(memoryOf(entry)),
      own === undefined ? '' : (secondsOf(own) / seconds).toFixed(2),
    ]
  })
  const head = ['', 'median', 'shortest to longest', 'rows/s', 'peak memory', 'retention takes, of its time']
  const served = entries.flatMap(({ runs }) => runs.flatMap(({ serverSeconds }) => serverSeconds ?? []))
  const note =
    served.length === 0
      ? ''
      : `\nThe S3 service is another process on the same processors, of which it took ${median(served).toFixed(2)} s.\n`
  return `## ${task}, ${titles[kind]}, ${whole(due)} rows\n\n${table(head, lines)}${note}`
}

function askedSection(asked: readonly Asked[]): string {
  if (asked.length === 0) return ''
  const lines = asked.flatMap(({ kind, rows, runs }) => {
    const line = (name: string, all: Entry['runs']): string[] => [
      name,
      whole(rows),
      `${secondsOf({ runs: all }).toFixed(2)} s`,
      spread(all.map(({ seconds }) => seconds)),
      megabytes(memoryOf({ runs: all })),
    ]
    return [line(`\`retention query\`, ${titles[kind]}`, runs.query), line(`DuckDB alone, the same files`, runs.duckdb)]
  })
  const head = ['', 'rows', 'median', 'shortest to longest', 'peak memory']
  return `## Counting the rows of gzip archives\n\n${table(head, lines)}`
}

function growthSection(growth: readonly Growth[], races: readonly Race[]): string {
  if (growth.length === 0) return ''
  const lines = growth.flatMap(({ kind, due, run }) => {
    const base = races.find((race) => race.kind === kind && race.task === 'apply')
    const own: Entry | undefined = base?.entries.find(({ role }) => role === 'retention')
    const line = (rows: number, seconds: number, memory: number | undefined): string[] => [
      `apply, ${titles[kind]}`,
      whole(rows),
      `${seconds.toFixed(2)} s`,
      `${((seconds / rows) * 1e6).toFixed(2)} µs`,
      megabytes(memory),
    ]
    return [
      ...(base === undefined || own === undefined ? [] : [line(base.due, secondsOf(own), memoryOf(own))]),
      line(due, run.seconds, run.megabytes),
    ]
  })
  return `## Ten times the rows\n\nThe smaller size is the median of its runs, the larger was run once.\n\n${table(['', 'due rows', 'time', 'a row', 'peak memory'], lines)}`
}

function overviewSection(overviews: readonly Overview[]): string {
  if (overviews.length === 0) return ''
  const lines = overviews.flatMap(({ kind, rows, shell, runs, reads }) => {
    const line = (name: string, all: Entry['runs'], read?: { pages: number; scans: number }): string[] => [
      `${name}, ${titles[kind]}`,
      whole(rows),
      all.length === 0 ? `skipped: no ${shell} here` : `${secondsOf({ runs: all }).toFixed(2)} s`,
      all.length === 0 ? '' : spread(all.map(({ seconds }) => seconds)),
      all.length === 0 ? '' : megabytes(memoryOf({ runs: all })),
      reads === undefined || read === undefined ? '' : `${whole(read.pages)} of ${whole(reads.pages)}`,
      read === undefined ? '' : whole(read.scans),
    ]
    return [
      line(`the bare count (${shell})`, runs.count),
      line('`status`', runs.status, reads?.status),
      line('`plan`', runs.plan, reads?.plan),
    ]
  })
  const head = [
    '',
    'rows',
    'median',
    'shortest to longest',
    'peak memory',
    'pages read of the table',
    'sequential scans',
  ]
  return `## status and plan\n\nOn a vacuumed table with an index on the column, half of it due. Pages are Postgres's own count; those of the visibility map,\nwhich an index-only scan looks into, are among them.\n\n${table(head, lines)}`
}

function partitionSection({ due, waits, deletes, runs }: Partitioned): string {
  const line = (name: string, milliseconds: readonly number[], memory = ''): string[] => [
    name,
    `${whole(median(milliseconds))} ms`,
    `${whole(Math.min(...milliseconds))}–${whole(Math.max(...milliseconds))} ms`,
    memory,
  ]
  const apply = (name: 'drop' | 'rows'): string[] => {
    const all = runs[name]
    const times = all.map((run) => run.seconds * 1000)
    return line(`apply, \`partitions: '${name}'\``, times, megabytes(memoryOf({ runs: all })))
  }
  const lines = [
    apply('drop'),
    apply('rows'),
    line('how long a reader of another partition waits at most while it is dropped', waits),
    line('one DELETE of the same rows', deletes),
  ]
  return `## A partition that is past, ${whole(due)} rows\n\n${table(['', 'median', 'shortest to longest', 'peak memory'], lines)}`
}

function startupSection({ node, help, status }: Startup): string {
  const line = (name: string, all: readonly number[]): string[] => [
    name,
    `${(median(all) * 1000).toFixed(0)} ms`,
    `${(Math.min(...all) * 1000).toFixed(0)}–${(Math.max(...all) * 1000).toFixed(0)} ms`,
    (median(all) / median(node)).toFixed(1),
  ]
  const lines = [line('`node -e 0`', node), line('`retention --help`', help), line('`retention status`', status)]
  return `## Start-up\n\n${node.length} runs each, in turn; \`status\` with one policy, on an empty table in a SQLite file.\n\n${table(['', 'median', 'shortest to longest', 'of bare Node'], lines)}`
}

function besideSection(beside: readonly Beside[]): string {
  if (beside.length === 0) return ''
  const lines = beside.flatMap(({ kind, gentle, measured }) => {
    const name = `${titles[kind]}${gentle ? ', `gentle: true`' : ''}`
    if (measured === undefined) return [[name, 'skipped: policies have no `gentle` yet', '', '', '', '', '', '']]
    const { alone, beside: disturbed, failed, rowsPerSecond } = measured
    const line = (who: string, { operations, median: middle, p99, longest }: typeof alone): string[] => [
      who,
      whole(operations),
      ...[middle, p99, longest].map((milliseconds) => `${milliseconds.toFixed(1)} ms`),
    ]
    return [
      [...line(`${name}: alone`, alone), '', '', ''],
      [
        ...line(`${name}: beside apply`, disturbed),
        (disturbed.p99 / alone.p99).toFixed(2),
        whole(rowsPerSecond),
        whole(failed),
      ],
    ]
  })
  const head = ['', 'operations', 'median', 'p99', 'longest', 'p99, of alone', 'rows/s of apply', 'given up']
  return `## A writer beside apply\n\nInserts and reads by key in the same table, in turn, 200 a second, on ten connections (Postgres) or one (SQLite). Each\noperation's time runs from when it was due, so that waiting behind others counts.\n\n${table(head, lines)}`
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`
  return `${row(head)}${row(head.map(() => '---'))}${lines.map(row).join('')}`
}

function spread(seconds: readonly number[]): string {
  return `${Math.min(...seconds).toFixed(2)}–${Math.max(...seconds).toFixed(2)} s`
}

function megabytes(value: number | undefined): string {
  return value === undefined ? '?' : `${value.toFixed(0)} MB`
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}
