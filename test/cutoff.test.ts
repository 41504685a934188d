/** Cutoffs, against the calendar as the platform's own Intl knows it. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { clockTime, clockTimeAt, cutoffAt, cutoffOf, earlier, epochMilliseconds, isTimezone } from '../src/cutoff.ts'

const test = suite('cutoff')

test('is the first instant of the day, so many days ago, where the zone is', () => {
  for (const [now, days, zone, day, instant] of [
    ['2026-06-15T12:00:00Z', 30, 'UTC', '2026-05-16', '2026-05-16T00:00:00Z'],
    // In Seoul it is the 16th already.
    ['2026-06-15T15:00:00Z', 30, 'Asia/Seoul', '2026-05-17', '2026-05-16T15:00:00Z'],
    ['2026-06-15T14:59:59Z', 30, 'Asia/Seoul', '2026-05-16', '2026-05-15T15:00:00Z'],
    ['2026-06-15T12:00:00Z', 1, 'America/St_Johns', '2026-06-14', '2026-06-14T02:30:00Z'],
    // A leap day, and a year ago from one.
    ['2024-03-01T00:00:00Z', 1, 'UTC', '2024-02-29', '2024-02-29T00:00:00Z'],
    ['2024-02-29T00:00:00Z', 366, 'UTC', '2023-02-28', '2023-02-28T00:00:00Z'],
    // Summer time begins: the days before and after are of other lengths.
    ['2026-03-30T10:00:00Z', 1, 'Europe/Paris', '2026-03-29', '2026-03-28T23:00:00Z'],
    ['2026-03-30T10:00:00Z', 2, 'Europe/Paris', '2026-03-28', '2026-03-27T23:00:00Z'],
    // Where clocks skip midnight, the day begins at one.
    ['2018-11-05T12:00:00Z', 1, 'America/Sao_Paulo', '2018-11-04', '2018-11-04T03:00:00Z'],
    // Samoa had no 30 December 2011: the day after the 29th is the 31st.
    ['2012-01-01T00:00:00Z', 1, 'Pacific/Apia', '2011-12-31', '2011-12-30T10:00:00Z'],
    ['2012-01-01T00:00:00Z', 2, 'Pacific/Apia', '2011-12-30', '2011-12-30T10:00:00Z'],
    ['2012-01-01T00:00:00Z', 3, 'Pacific/Apia', '2011-12-29', '2011-12-29T10:00:00Z'],
  ] as const) {
    assert.equal(cutoffOf(days, zone, new Date(now)), { day, instant }, `${now} ${days} ${zone}`)
  }
})

test('does not depend on the time of day (property)', () => {
  const zone = fc.constantFrom(
    'UTC',
    'Asia/Seoul',
    'America/New_York',
    'Pacific/Apia',
    'Australia/Lord_Howe',
    'Asia/Kathmandu',
  )
  const day = new Map<string, Intl.DateTimeFormat>()
  const dayIn = (zoneName: string, at: Date): string => {
    const format = day.get(zoneName) ?? new Intl.DateTimeFormat('en-CA', { timeZone: zoneName, dateStyle: 'short' })
    day.set(zoneName, format)
    return format.format(at)
  }
  fc.assert(
    fc.property(
      zone,
      fc.date({ min: new Date('2000-01-01'), max: new Date('2030-01-01'), noInvalidDate: true }),
      fc.integer({ min: 1, max: 4000 }),
      (name, now, days) => {
        const cutoff = cutoffOf(days, name, now)
        // The day's first instant: a millisecond before it is another day.
        const at = epochMilliseconds(cutoff)
        if (!(name === 'Pacific/Apia' && cutoff.day === '2011-12-30')) assert.is(dayIn(name, new Date(at)), cutoff.day)
        assert.ok(dayIn(name, new Date(at - 1)) < cutoff.day)
        // So many calendar days before today.
        const today = Date.parse(`${dayIn(name, now)}T00:00:00Z`)
        assert.is((today - Date.parse(`${cutoff.day}T00:00:00Z`)) / 86_400_000, days)
      },
    ),
  )
})

test('of a day: only real days', () => {
  assert.equal(cutoffAt('2026-02-28', 'Asia/Seoul'), { day: '2026-02-28', instant: '2026-02-27T15:00:00Z' })
  for (const bad of ['2026-02-29', '2026-13-01', '2026-1-1', 'today', '', '2026-01-01T00:00:00Z', '20260101']) {
    assert.is(cutoffAt(bad, 'UTC'), undefined, bad)
  }
})

test('the earlier of two', () => {
  const [a, b] = [cutoffOf(1, 'UTC', new Date('2026-06-15')), cutoffOf(2, 'UTC', new Date('2026-06-15'))]
  assert.is(earlier(a, b), b)
  assert.is(earlier(b, a), b)
})

test('as a clock shows it', () => {
  const cutoff = { day: '2026-05-16', instant: '2026-05-16T00:00:00Z' }
  assert.is(clockTime(cutoff, 'UTC'), '2026-05-16 00:00:00')
  assert.is(clockTime(cutoff, 'Asia/Seoul'), '2026-05-16 09:00:00')
  assert.is(clockTime(cutoff, 'America/St_Johns'), '2026-05-15 21:30:00')
  assert.is(clockTimeAt(cutoff, '-03:30'), '2026-05-15 20:30:00')
})

test('in an hour that clocks show twice, only what is surely past is due', () => {
  // New York went back from 02:00 to 01:00 on 1 November 2026, at 06:00 UTC.
  const at = (instant: string): string => clockTime({ day: '2026-11-01', instant }, 'America/New_York')
  assert.is(at('2026-11-01T04:59:59Z'), '2026-11-01 00:59:59')
  assert.is(at('2026-11-01T05:00:00Z'), '2026-11-01 01:00:00')
  // The first time round: a row at 01:15 may be from an hour later.
  assert.is(at('2026-11-01T05:30:00Z'), '2026-11-01 01:00:00')
  assert.is(at('2026-11-01T05:59:59Z'), '2026-11-01 01:00:00')
  // The second time round: both are past.
  assert.is(at('2026-11-01T06:30:00Z'), '2026-11-01 01:30:00')
  assert.is(at('2026-11-01T07:00:00Z'), '2026-11-01 02:00:00')
})

test('time zones that exist', () => {
  for (const name of ['UTC', 'Asia/Seoul', 'America/St_Johns', 'Pacific/Apia']) assert.ok(isTimezone(name), name)
  for (const name of ['', 'Mars/Olympus', 'Seoul', 'UTC+25']) assert.not.ok(isTimezone(name), name)
})

test.run()
