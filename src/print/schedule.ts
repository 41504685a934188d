/** When policies run, for people. */
import type { ScheduleReport } from '../report.ts'
import { moment, style, table } from './style.ts'

export function printSchedule({ policies }: ScheduleReport): string {
  const rows = policies.map(({ policy, cron, timezone, lastRun, next }) => [
    style('bold', policy),
    cron === null ? '–' : `${cron} ${timezone}`,
    lastRun === null ? 'never' : `${moment(lastRun.startedAt)} ${lastRun.status}`,
    next.length === 0 ? '–' : next.map(moment).join(', '),
  ])
  return `${table(['policy', 'schedule', 'last run (UTC)', 'next (UTC)'], rows)}\n`
}
