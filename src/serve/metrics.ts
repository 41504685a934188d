/** Metrics in Prometheus' text format, version 0.0.4, from what `status` tells. */
import type { PolicyStanding, StatusReport } from '../report.ts'
import { toolVersion } from '../version.ts'

/** The content type of the format. */
export const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

interface Metric {
  readonly name: string
  readonly help: string
  readonly type: 'gauge' | 'counter'
  /** Undefined: there is no sample. */
  readonly of: (policy: PolicyStanding, now: number) => number | undefined
}

const seconds = (iso: string | null | undefined): number | undefined =>
  iso === null || iso === undefined || Number.isNaN(Date.parse(iso)) ? undefined : Date.parse(iso) / 1000

const metrics: readonly Metric[] = [
  gauge('due_rows', 'Rows past their time that apply would archive.', ({ due }) => due),
  gauge('held_rows', 'Rows past their time that a hold keeps.', ({ held }) => held),
  gauge('undated_rows', 'Rows without a usable time, which never expire.', ({ undated }) => undated),
  gauge('oldest_row_age_seconds', "Age of the table's oldest row.", ({ oldest }, now) => {
    const at = seconds(oldest)
    return at === undefined ? undefined : Math.max(0, now / 1000 - at)
  }),
  gauge('overdue', '1 where rows have been due for more than two days.', ({ overdue }) => Number(overdue)),
  gauge('refused', '1 where the policy cannot work as things are.', ({ error }) => Number(error !== undefined)),
  gauge('archives', 'Archives that have not been restored or pruned.', ({ archives }) => archives),
  gauge('archived_rows', 'Rows in these archives.', ({ archived }) => archived),
  gauge('archived_bytes', 'Bytes of these archives, as stored.', ({ archivedBytes }) => archivedBytes),
  gauge('expired_archives', 'Archives that prune would remove.', ({ expired }) => expired),
  gauge('last_success_timestamp_seconds', 'When a run last left nothing that was due.', ({ lastSuccessAt }) =>
    seconds(lastSuccessAt),
  ),
  gauge('last_run_timestamp_seconds', 'When the last run ended.', ({ lastRun }) => seconds(lastRun?.finishedAt)),
  gauge('last_run_duration_seconds', 'How long the last run took.', ({ lastRun }) => {
    const [from, to] = [seconds(lastRun?.startedAt), seconds(lastRun?.finishedAt)]
    return from === undefined || to === undefined ? undefined : to - from
  }),
  gauge('last_run_rows', 'Rows that the last run archived.', ({ lastRun }) => lastRun?.rows),
  {
    name: 'retention_failed_runs_total',
    help: 'Runs that failed or were refused, as far as the ledger goes back.',
    type: 'counter',
    of: ({ failedRuns }) => failedRuns,
  },
]

/**
 * The text that a Prometheus server reads.
 * @param report undefined where the database cannot be asked
 */
export function metricsText(report: StatusReport | undefined, isRunning: boolean, now: number): string {
  const policies = report?.policies ?? []
  return [
    ...family('retention_build_info', 'The version that answers.', 'gauge', [
      sample('retention_build_info', { version: toolVersion }, 1),
    ]),
    ...family('retention_up', '1 where the database could be asked.', 'gauge', [
      sample('retention_up', {}, report === undefined ? 0 : 1),
    ]),
    ...family('retention_run_in_progress', '1 while this process runs apply.', 'gauge', [
      sample('retention_run_in_progress', {}, Number(isRunning)),
    ]),
    ...metrics.flatMap(({ name, help, type, of }) =>
      family(
        name,
        help,
        type,
        policies.flatMap((policy) => {
          const value = of(policy, now)
          return value === undefined ? [] : [sample(name, { policy: policy.policy, table: policy.table }, value)]
        }),
      ),
    ),
    '',
  ].join('\n')
}

function gauge(name: string, help: string, of: Metric['of']): Metric {
  return { name: `retention_${name}`, help, type: 'gauge', of }
}

function family(name: string, help: string, type: Metric['type'], samples: readonly string[]): string[] {
  return samples.length === 0 ? [] : [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples]
}

function sample(name: string, labels: Readonly<Record<string, string>>, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`)
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`
}

function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\\\')
    .replaceAll('"', String.raw`\"`)
    .replaceAll('\n', String.raw`\n`)
}
