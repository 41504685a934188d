/** When policies run by themselves: how a schedule is written and checked. */
import { Cron } from 'croner'
import * as v from 'valibot'

import { pause, type Duration } from './fields.ts'

/** When `serve` runs policies by itself. */
export interface ScheduleInput {
  /** Five fields (minute, hour, day of the month, month, day of the week) or `@daily`, `@weekly`, `@monthly` and so on. */
  cron: string
  /** The longest delay after each time; each machine has its own share of it, always the same. Default none. */
  jitter?: Duration
}

/** A schedule as it was written, checked. */
export interface CheckedSchedule {
  readonly cron: string
  /** Milliseconds. */
  readonly jitter: number
}

/** A schedule and the zone whose clock it goes by. */
export interface Schedule extends CheckedSchedule {
  readonly timezone: string
}

export const scheduleFields = ['cron', 'jitter'] as const

const allowed = 'five cron fields that some time fits, such as "0 9 * * MON" (Mondays at 9:00), or "@daily"'

const cron = v.pipe(v.string(allowed), v.trim(), v.check(comes, allowed))

/** `false`: never. */
export const schedule = v.union(
  [
    v.pipe(
      cron,
      v.transform((text): CheckedSchedule => ({ cron: text, jitter: 0 })),
    ),
    v.strictObject({ cron, jitter: v.optional(pause, 0) }),
    v.literal(false),
  ],
  allowed,
)

/** Whether it is a schedule, and has a time: February 30th has none. */
function comes(text: string): boolean {
  // Croner would also take one moment, written as a date.
  if (!text.startsWith('@') && text.split(/\s+/).length !== 5) return false
  try {
    return new Cron(text, { paused: true, mode: '5-part', timezone: 'UTC' }).nextRun() !== null
  } catch {
    return false
  }
}
