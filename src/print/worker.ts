/** What a worker does, and what its queue holds. */
import type { RunEvent } from '../events.ts'
import type { EnqueueReport, QueueCounts } from '../report.ts'
import { counted, number, style } from './style.ts'

/** One line for what is worth one; undefined for the rest. */
export function workerLine(event: RunEvent): string | undefined {
  const of = event.database === undefined ? '' : `${event.database}: `
  if (event.type === 'run-started') return `${of}run ${event.run} of ${event.policies.join(', ')}`
  if (event.type !== 'policy-finished') return undefined
  const { status, archived, error } = event.report
  const why = error === undefined ? '' : `: ${error.message}`
  return `${of}${event.policy}: ${status}, ${counted(archived, 'row')}${why}`
}

/** What has been put into the queue. */
export function printEnqueued({ queued, already }: EnqueueReport): string {
  const lines = (runs: EnqueueReport['queued'], what: string): string[] =>
    runs.map(
      ({ database = 'the database', policies }) => `${database}: ${policies?.join(', ') ?? 'all policies'} ${what}`,
    )
  return `${[...lines(queued, 'queued'), ...lines(already, 'waiting or at work already')].join('\n')}\n`
}

/** What the queue holds. */
export function printQueue({ waiting, active, dead }: QueueCounts): string {
  const failed = `${number(dead)} failed too often`
  return `${number(waiting)} waiting, ${number(active)} at work, ${dead === 0 ? failed : style('red', failed)}\n`
}
