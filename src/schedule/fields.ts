/** What a schedule's cron says, number by number: other schedulers read stars, steps and names in other ways. */
import { RetentionError } from '../errors.ts'
import type { ScheduleGroup } from './times.ts'

/** The numbers of each field, in order. */
export interface CronFields {
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
  readonly days: readonly number[]
  readonly months: readonly number[]
  /** Sunday is 0. */
  readonly weekdays: readonly number[]
  /** Where both kinds of days leave some out: one of them is enough. Else both must fit. */
  readonly isEither: boolean
}

const nicknames: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}
const monthNames = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC']
const weekdayNames = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT']

/**
 * The numbers of a schedule.
 * @throws RetentionError `USAGE` where it says what only `serve` understands: `L`, `W`, `#` and the like
 */
export function fieldsOf({ schedule: { cron }, policies }: ScheduleGroup): CronFields {
  const text = (nicknames[cron.toLowerCase()] ?? cron).replaceAll('?', '*')
  const [minute = '', hour = '', day = '', month = '', weekday = ''] = text.split(/\s+/)
  const read = (field: string, lowest: number, highest: number, names: readonly string[] = []): number[] => {
    const numbers = field.split(',').flatMap((part) => {
      const known = numbersOf(part, lowest, highest, names)
      if (known === undefined) throw unknown(cron, policies, part)
      return known
    })
    return [...new Set(numbers)].toSorted((a, b) => a - b)
  }
  const days = read(day, 1, 31)
  // 7 is Sunday too.
  const weekdays = [...new Set(read(weekday, 0, 7, weekdayNames).map((number) => number % 7))].toSorted((a, b) => a - b)
  const isEither = day !== '*' && weekday !== '*'
  const isDaily = isEither && (days.length === 31 || weekdays.length === 7)
  return {
    minutes: read(minute, 0, 59),
    hours: read(hour, 0, 23),
    days: isDaily ? allNumbers(1, 31) : days,
    months: read(month, 1, 12, monthNames),
    weekdays: isDaily ? allNumbers(0, 6) : weekdays,
    isEither: isEither && !isDaily,
  }
}

/** The fields as five fields of cron that every cron reads alike. */
export function cronLine({ minutes, hours, days, months, weekdays }: CronFields): string {
  return [
    stepped(minutes, 59) ?? listed(minutes, 60),
    stepped(hours, 23) ?? listed(hours, 24),
    // A field of days with a star in it means other days to some: here no step is written.
    listed(days, 31),
    listed(months, 12),
    listed(weekdays, 7),
  ].join(' ')
}

function numbersOf(part: string, lowest: number, highest: number, names: readonly string[]): number[] | undefined {
  const [, range = '', step = '1'] = /^([^/]+)(?:\/(\d+))?$/.exec(part) ?? []
  const number = (word: string): number => {
    const named = names.indexOf(word.toUpperCase())
    if (named !== -1) return named + lowest
    return /^\d+$/.test(word) ? Number(word) : NaN
  }
  const [from = '', to = from, more] = range.split('-')
  const isStar = range === '*'
  // Weekdays go to 7, of which a star knows nothing.
  const first = isStar ? lowest : number(from)
  const last = isStar ? Math.min(highest, highest === 7 ? 6 : highest) : number(to)
  if (more !== undefined || !(first <= last) || Number(step) < 1) return undefined
  return allNumbers(first, last).filter((one) => (one - first) % Number(step) === 0)
}

function allNumbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

function stepped(numbers: readonly number[], highest: number): string | undefined {
  const [first, second] = numbers
  if (first !== 0 || second === undefined || second === 1) return undefined
  const steps = allNumbers(0, highest).filter((number) => number % second === 0)
  return steps.join() === numbers.join() ? `*/${second}` : undefined
}

function listed(numbers: readonly number[], all: number): string {
  if (numbers.length === all) return '*'
  const [first = 0] = numbers
  const last = numbers.at(-1) ?? first
  return numbers.length > 2 && last - first === numbers.length - 1 ? `${first}-${last}` : numbers.join(',')
}

function unknown(cron: string, policies: readonly string[], part: string): RetentionError {
  const message = `"${part}" of the schedule "${cron}" (${policies.join(', ')}) is known to "retention serve" alone`
  return new RetentionError('USAGE', message, { hint: 'Write another schedule, or run it in "retention serve".' })
}
