/** What a queue of runs holds, and what was put into it. */
import type { EnqueueReport, QueueCounts } from '../report.ts'
import { number, style } from './style.ts'

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
