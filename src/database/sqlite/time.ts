/**
 * How a SQLite column stores time. SQLite has no type for it, so the rows are asked: ISO 8601 text in one of its
 * layouts, seconds or milliseconds since 1970, or Julian days. https://www.sqlite.org/lang_datefunc.html
 */
import { sql } from 'kysely'

import { clockTime, clockTimeAt, epochMilliseconds, type Cutoff } from '../../cutoff.ts'
import type { Db, Finding, Sql, SqlValue, TimeColumn } from '../database.ts'

/**
 * A way to store time, as `storageOf` names it: `date`, `seconds`, `milliseconds`, `julian`, or text such as
 * `YYYY-MM-DD HH:MM:SS` and `YYYY-MM-DDTHH:MM:SS+09:00`.
 */
type Storage = string

const date = 'YYYY-MM-DD'
const clock = 'HH:MM:SS'

/** Where the numbers of seconds and of milliseconds lie for the years 1973 to 2286; they do not overlap. */
const seconds = { least: 1e8, below: 1e10 }
const milliseconds = { least: 1e11, below: 1e13 }
/** Julian days of the years 763 to 3501. */
const julian = { least: 2e6, below: 3e6 }

/**
 * An SQL expression that names the way a value stores time: null for NULL, and text starting with `?` and the storage
 * class for values that are no time.
 */
function storageOf(column: Sql): Sql<string | null> {
  const digits = (count: number): string => '[0-9]'.repeat(count)
  const day = `${digits(4)}-${digits(2)}-${digits(2)}`
  const zone = sql`case
    when substr(${column}, -1) in ('Z', 'z') then substr(${column}, -1)
    when substr(${column}, -6) glob ${`[+-]${digits(2)}:${digits(2)}`} then substr(${column}, -6)
    else '' end`
  const between = (range: { least: number; below: number }): Sql =>
    sql`${column} >= ${range.least} and ${column} < ${range.below}`
  return sql<string | null>`case typeof(${column})
    when 'null' then null
    when 'text' then case
      when julianday(${column}) is null then '?text'
      when ${column} glob ${day} then ${date}
      when ${column} glob ${`${day}[ Tt]${digits(2)}:${digits(2)}*`}
        and substr(${column}, 12, length(${column}) - 11 - length(${zone})) not glob '*[^0-9:.]*'
        then ${date} || substr(${column}, 11, 1) || ${clock} || ${zone}
      else '?text' end
    when 'blob' then '?blob'
    else case
      when ${between(seconds)} then 'seconds'
      when ${between(milliseconds)} then 'milliseconds'
      when ${between(julian)} then 'julian'
      else '?' || typeof(${column}) end
    end`
}

/**
 * Learns from all rows how a column stores time.
 * @param where which rows count
 * @returns the way, or undefined where no row has a time yet; and what speaks against it
 */
export async function detectStorage(
  db: Db,
  table: Sql,
  column: string,
  where: Sql<boolean>,
): Promise<{ storage: Storage | undefined; findings: Finding[] }> {
  const { rows } = await sql<{ storage: string; rows: bigint; example: SqlValue }>`
    select storage, count(*) as rows, min(value) as example
    from (select ${storageOf(sql.id(column))} as storage, ${sql.id(column)} as value from ${table} where ${where})
    where storage is not null group by storage order by rows desc, storage
  `.execute(db)
  const ways = rows.map((row) => ({ ...row, rows: Number(row.rows) }))
  const times = ways.filter(({ storage }) => !storage.startsWith('?'))
  const others = ways.filter(({ storage }) => storage.startsWith('?'))
  const [first, ...more] = times
  const show = (list: typeof ways): string =>
    list
      .map((way) => `${way.rows} as ${way.storage.replace('?', 'unreadable ')} (such as ${example(way.example)})`)
      .join(', ')

  if (first === undefined || total(others) > total(times)) {
    if (others.length === 0) return { storage: undefined, findings: [] }
    return {
      storage: undefined,
      findings: [refusal(`Column "${column}" does not store time in a way that can be read: ${show(ways)}`)],
    }
  }
  // Two layouts of text, or two scales of numbers, do not compare with one another: the order of rows would be wrong.
  // Few rows of another storage class are a leftover, and stay; many are a second way of storing time.
  const mixed = more.filter((way) => isNumber(way.storage) === isNumber(first.storage) || way.rows > total(times) / 20)
  if (mixed.length > 0)
    return { storage: undefined, findings: [refusal(`Column "${column}" stores time in several ways: ${show(times)}`)] }
  const undated = [...more, ...others]
  if (undated.length === 0) return { storage: first.storage, findings: [] }
  return {
    storage: first.storage,
    findings: [
      {
        level: 'warning',
        text: `Column "${column}" stores time as ${first.storage}; ${show(undated)} count as undated and never expire`,
      },
    ],
  }
}

/** A column that stores time in that way; undefined: in no way yet, so that no row is due. */
export function timeColumn(column: string, storage: Storage | undefined, columnTimezone: string): TimeColumn {
  const ref = sql.id(column)
  if (storage === undefined) {
    return { storage: 'no times yet', due: () => sql<boolean>`false`, undated: sql<boolean>`true`, format: String }
  }
  const stored = sql<boolean>`${storageOf(ref)} is ${storage}`
  return {
    storage,
    // The plain comparisons come first: they are what an index answers.
    due: (cutoff) =>
      sql<boolean>`(${ref} < ${bound(storage, cutoff, columnTimezone)} and ${ref} >= ${least(storage)} and ${stored})`,
    undated: sql<boolean>`not ${stored}`,
    format: (value) => format(value, storage),
  }
}

/** The cutoff as the column would store it. */
function bound(storage: Storage, cutoff: Cutoff, columnTimezone: string): string | number {
  switch (storage) {
    case date:
      return cutoff.day
    case 'seconds':
      return epochMilliseconds(cutoff) / 1000
    case 'milliseconds':
      return epochMilliseconds(cutoff)
    case 'julian':
      // As SQLite computes it: whole milliseconds since the Julian epoch, divided by those of a day.
      return (epochMilliseconds(cutoff) + 210_866_760_000_000) / 86_400_000
    default: {
      const zone = storage.slice(date.length + 1 + clock.length)
      const shown =
        zone === '' ? clockTime(cutoff, columnTimezone) : clockTimeAt(cutoff, /z/i.test(zone) ? '+00:00' : zone)
      // Values may leave out the seconds; the shortest form of the cutoff is a prefix of all equal times.
      return shown.replace(' ', storage[date.length] ?? ' ').replace(/:00$/, '')
    }
  }
}

function least(storage: Storage): string | number {
  if (storage === 'seconds') return seconds.least
  if (storage === 'milliseconds') return milliseconds.least
  return storage === 'julian' ? julian.least : '0'
}

function format(value: SqlValue, storage: Storage): string {
  const number = Number(value)
  switch (storage) {
    case 'seconds':
      return new Date(number * 1000).toISOString()
    case 'milliseconds':
      return new Date(number).toISOString()
    case 'julian':
      return new Date(Math.round(number * 86_400_000) - 210_866_760_000_000).toISOString()
    default:
      return String(value).replace(/^(.{10})[ t]/, '$1T')
  }
}

function isNumber(storage: Storage): boolean {
  return ['seconds', 'milliseconds', 'julian'].includes(storage)
}

function total(ways: readonly { rows: number }[]): number {
  return ways.reduce((sum, way) => sum + way.rows, 0)
}

function example(value: SqlValue): string {
  if (Buffer.isBuffer(value)) return 'a blob'
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value)
}

function refusal(text: string): Finding {
  return { level: 'refusal', text, hint: 'Make all rows store it in one way, or leave the others out with "where".' }
}
