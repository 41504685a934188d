/** Schedules for what knows no time zone: the same times by the clock of UTC. */
import { RetentionError } from '../errors.ts'
import { cronLine, fieldsOf, type CronFields } from './fields.ts'
import type { ScheduleGroup } from './times.ts'

/** A schedule by the clock of UTC. */
export interface UtcSchedule {
  /** Lines of cron: all of them together are its times. */
  readonly lines: readonly string[]
  /** What a zone that changes its clocks makes of it; undefined where the lines are exact all year. */
  readonly warning: string | undefined
}

/**
 * A schedule by the clock of UTC. Where the zone changes its clocks, it goes by standard time.
 * @param now from when on, for a year, the zone's clocks are looked at
 * @throws RetentionError `USAGE` where no cron can say it, or its days are others in UTC
 */
export function utcSchedule(group: ScheduleGroup, now: Date): UtcSchedule {
  const { timezone } = group.schedule
  const offsets = offsetsOf(timezone, now)
  const standard = Math.min(...offsets)
  const lines = merged(inUtc(fieldsOf(group), standard, group)).map(cronLine)
  const ahead = Math.max(...offsets) - standard
  const warning =
    ahead === 0
      ? undefined
      : `Only UTC is known there: when the clocks of ${timezone} are put forward, it comes ${ahead} minutes later by them`
  return { lines, warning }
}

/** By how many minutes a zone is ahead of UTC, in the course of a year. */
function offsetsOf(timezone: string, now: Date): number[] {
  const format = new Intl.DateTimeFormat('en-US', { timeZone: timezone, timeZoneName: 'longOffset' })
  const offsets = Array.from({ length: 366 }, (_, day) => {
    const parts = format.formatToParts(new Date(now.getTime() + day * 86_400_000))
    const name = parts.find(({ type }) => type === 'timeZoneName')?.value ?? ''
    const [, sign, hours = '0', minutes = '0'] = /GMT([+-])(\d+):(\d+)/.exec(name) ?? []
    return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes))
  })
  return [...new Set(offsets)]
}

/** The times, one entry for each minute of an hour and each shift of the day. */
function inUtc(fields: CronFields, offset: number, group: ScheduleGroup): CronFields[] {
  return fields.minutes.flatMap((minute) => {
    const [minutes, carry] = wrapped(minute - offset, 60)
    const hours = fields.hours.map((hour) => wrapped(hour + carry, 24))
    return [...new Set(hours.map(([, shift]) => shift))].map((shift) => ({
      ...shifted(fields, shift, group),
      minutes: [minutes],
      hours: hours.flatMap(([hour, days]) => (days === shift ? [hour] : [])),
    }))
  })
}

function wrapped(number: number, size: number): [number, number] {
  const carry = Math.floor(number / size)
  return [number - carry * size, carry]
}

function shifted(fields: CronFields, shift: number, { schedule, policies }: ScheduleGroup): CronFields {
  if (shift === 0) return fields
  if (fields.days.length < 31 || fields.months.length < 12) {
    throw new RetentionError(
      'USAGE',
      `Only UTC is known there, and at the times of "${schedule.cron}" (${policies.join(', ')}) it has another date than ${schedule.timezone}`,
      { hint: 'Choose an hour at which both have the same date.' },
    )
  }
  return { ...fields, weekdays: fields.weekdays.map((day) => (day + shift + 7) % 7).toSorted((a, b) => a - b) }
}

/** As few entries as hours, and then minutes, can be put together in. */
function merged(entries: readonly CronFields[]): CronFields[] {
  return joined(joined(entries, 'hours'), 'minutes')
}

function joined(entries: readonly CronFields[], field: 'hours' | 'minutes'): CronFields[] {
  const together = new Map<string, CronFields>()
  for (const entry of entries) {
    const key = JSON.stringify({ ...entry, [field]: [] })
    const numbers = [...(together.get(key)?.[field] ?? []), ...entry[field]].toSorted((a, b) => a - b)
    together.set(key, { ...entry, [field]: numbers })
  }
  return [...together.values()]
}
