/** The arithmetic of schedules: which times come next, and whether one was missed. */
import { createHash } from 'node:crypto'

import { Cron } from 'croner'

import type { Schedule } from '../config/schedule.ts'

/** The next `count` times after a moment, without jitter; fewer where no more come. */
export function nextTimes(schedule: Schedule, after: Date, count: number): Date[] {
  const { cron, timezone } = schedule
  return new Cron(cron, { paused: true, mode: '5-part', timezone }).nextRuns(count, after)
}

/** Whether a time went by between the last run and now. What has never run waits for its first time. */
export function isMissed(schedule: Schedule, lastRun: Date | null, now: Date): boolean {
  const next = lastRun === null ? undefined : nextTimes(schedule, lastRun, 1)[0]
  return next !== undefined && next.getTime() + schedule.jitter < now.getTime()
}

/** How long one machine waits after each time, in milliseconds below `jitter`; always the same for the same `machine`. */
export function delayOf({ jitter, cron }: Schedule, machine: string): number {
  const hash = createHash('sha256').update(`${machine}\n${cron}`).digest().readUInt32BE()
  return Math.floor((hash / 2 ** 32) * jitter)
}

/** Policies that run together, as they have one schedule. */
export interface ScheduleGroup {
  readonly schedule: Schedule
  readonly policies: readonly string[]
}

/** Policies by their schedule, in the order of the first of each; those without one are left out. */
export function groupsOf(
  policies: readonly { readonly name: string; readonly schedule: Schedule | undefined }[],
): ScheduleGroup[] {
  const groups = new Map<string, { schedule: Schedule; policies: string[] }>()
  for (const { name, schedule } of policies) {
    if (schedule === undefined) continue
    const key = JSON.stringify([schedule.cron, schedule.timezone, schedule.jitter])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { schedule, policies: [name] })
    else group.policies.push(name)
  }
  return [...groups.values()]
}
