/** Cutoff arithmetic: which instant separates due rows from the others. Pure; knows no database. */
import { Temporal } from 'temporal-polyfill'

/** Rows whose timestamp lies before `instant` are due. */
export interface Cutoff {
  /** The calendar day that begins at the cutoff, as `2026-10-23`: what a `date` column is compared with. */
  readonly day: string
  /** The day's first instant, in UTC, as `2026-10-22T15:00:00Z`. */
  readonly instant: string
}

/**
 * The cutoff of a policy: the first instant of the day `days` before today, both days being those of `timezone`.
 * Not always midnight: where clocks skip it, a day begins later.
 */
export function cutoffOf(days: number, timezone: string, now: Date): Cutoff {
  const today = Temporal.Instant.fromEpochMilliseconds(now.getTime()).toZonedDateTimeISO(timezone).toPlainDate()
  return startOf(today.subtract({ days }), timezone)
}

/** The cutoff at the start of a calendar day, given as `2026-10-23`; undefined where that is no day. */
export function cutoffAt(day: string, timezone: string): Cutoff | undefined {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) return undefined
  try {
    return startOf(Temporal.PlainDate.from(day, { overflow: 'reject' }), timezone)
  } catch {
    return undefined
  }
}

/** The first instant after a calendar day, given as `2026-10-23`; undefined where that is no day. */
export function dayAfter(day: string, timezone: string): string | undefined {
  const start = cutoffAt(day, timezone)
  return start && startOf(Temporal.PlainDate.from(start.day).add({ days: 1 }), timezone).instant
}

/** A length of time in whole units of the calendar. */
export interface Period {
  readonly count: number
  readonly unit: 'days' | 'weeks' | 'months' | 'years'
}

/** How long an archive is kept, and whose days are counted. */
export interface Expiry {
  readonly period: Period
  readonly timezone: string
}

/** Reads a period such as `7 years`, `18 months`, `2 weeks` or `90 days`; undefined where it is none, or past a thousand years. */
export function parsePeriod(text: string): Period | undefined {
  const [, digits, unit] = /^\s*(\d{1,6})\s*(day|week|month|year)s?\s*$/i.exec(text) ?? []
  const found = units.find(({ name }) => name === unit?.toLowerCase())
  const count = Number(digits)
  if (found === undefined || count < 1 || count > found.most) return undefined
  return { count, unit: `${found.name}s` }
}

const units = [
  { name: 'day', most: 365_000 },
  { name: 'week', most: 52_000 },
  { name: 'month', most: 12_000 },
  { name: 'year', most: 1000 },
] as const

/**
 * The instant from which an archive has outlived its retention, as `2033-02-28T15:00:00Z`: as with rows, the day that ends the
 * period is over then. Where the month that it ends in has no such day, it ends with the month.
 * @param archivedAt ISO 8601
 */
export function expiryAt(archivedAt: string, { period, timezone }: Expiry): string {
  const from = Temporal.Instant.from(archivedAt).toZonedDateTimeISO(timezone).toPlainDate()
  return startOf(from.add({ [period.unit]: period.count }).add({ days: 1 }), timezone).instant
}

/** The earlier of two cutoffs. */
export function earlier(a: Cutoff, b: Cutoff): Cutoff {
  return Temporal.Instant.compare(a.instant, b.instant) <= 0 ? a : b
}

/**
 * The cutoff as a clock in `timezone` shows it, as `2026-10-23 00:00:00`, for columns that keep no zone.
 *
 * Where clocks go back, an hour is shown twice, and a row from it cannot tell which of the two it was. A row is due
 * only if both are past: so a cutoff in the first of the two is moved to where the doubled hour begins.
 */
export function clockTime(cutoff: Cutoff, timezone: string): string {
  const shown = Temporal.Instant.from(cutoff.instant).toZonedDateTimeISO(timezone)
  const latest = shown.toPlainDateTime().toZonedDateTime(timezone, { disambiguation: 'later' })
  const goesBack = shown.getTimeZoneTransition('next')
  const clock = Temporal.ZonedDateTime.compare(latest, shown) > 0 && goesBack !== null ? goesBack : shown
  return clock.toPlainDateTime().toString({ smallestUnit: 'second' }).replace('T', ' ')
}

/** The cutoff as a clock at a fixed offset from UTC, such as `+09:00`, shows it, as `2026-10-23 00:00:00`. */
export function clockTimeAt(cutoff: Cutoff, offset: string): string {
  const shown = Temporal.Instant.from(cutoff.instant).toZonedDateTimeISO(offset)
  return shown.toPlainDateTime().toString({ smallestUnit: 'second' }).replace('T', ' ')
}

/** The cutoff in milliseconds since 1970. */
export function epochMilliseconds(cutoff: Cutoff): number {
  return Temporal.Instant.from(cutoff.instant).epochMilliseconds
}

/** Whether `name` is a time zone that can be computed with, such as `Asia/Seoul` or `UTC`. */
export function isTimezone(name: string): boolean {
  try {
    Temporal.Now.zonedDateTimeISO(name)
    return true
  } catch {
    return false
  }
}

function startOf(date: Temporal.PlainDate, timezone: string): Cutoff {
  return { day: date.toString(), instant: date.toZonedDateTime(timezone).toInstant().toString() }
}
