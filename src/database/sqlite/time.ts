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

const digits = (count: number): string => '[0-9]'.repeat(count)
const dayPattern = `${digits(4)}-${digits(2)}-${digits(2)}`
const clockPattern = `${digits(2)}:${digits(2)}*`

/** True for numbers in a range. */
function isBetween(column: Sql, range: { least: number; below: number }): Sql<boolean> {
  return sql<boolean>`${column} >= ${range.least} and ${column} < ${range.below} and typeof(${column}) in ('integer', 'real')`
}

/**
 * An SQL expression that names the way a value stores time: null for NULL, and text starting with `?` and the storage
 * class for values that are no time.
 */
function storageOf(column: Sql): Sql<string | null> {
  const zone = sql`case
    when substr(${column}, -1) in ('Z', 'z') then substr(${column}, -1)
    when substr(${column}, -6) glob ${`[+-]${digits(2)}:${digits(2)}`} then substr(${column}, -6)
    else '' end`
  return sql<string | null>`case
    when ${column} is null then null
    when typeof(${column}) = 'text' then case
      when julianday(${column}) is null then '?text'
      when ${column} glob ${dayPattern} then ${date}
      when ${column} glob ${`${dayPattern}[ Tt]${clockPattern}`}
        and substr(${column}, 12, length(${column}) - 11 - length(${zone})) not glob '*[^0-9:.]*'
        then ${date} || substr(${column}, 11, 1) || ${clock} || ${zone}
      else '?text' end
    when ${isBetween(column, seconds)} then 'seconds'
    when ${isBetween(column, milliseconds)} then 'milliseconds'
    when ${isBetween(column, julian)} then 'julian'
    else '?' || typeof(${column}) end`
}

/** True for values stored in one way: the same as asking `storageOf`, at a fraction of its cost. */
function isStored(column: Sql, storage: Storage): Sql<boolean> {
  const range = { seconds, milliseconds, julian }[storage]
  if (range !== undefined) return isBetween(column, range)
  // Of what SQLite takes for a time, digits need no look where the places of all that is not a digit are given: a pattern
  // of sets takes twice as long.
  const isTime = sql`typeof(${column}) = 'text' and julianday(${column}) is not null`
  const day = '????-??-??'
  if (storage === date) return sql<boolean>`${isTime} and ${column} glob ${day}`
  const separator = storage[date.length] ?? ''
  const zone = storage.slice(date.length + 1 + clock.length)
  // Most values have whole seconds, and this is all that is asked of them.
  const usual = `${day}${separator}??:??:??${zone}`
  // The pattern leaves open what stands between minutes and zone.
  const pattern = `${day}${separator}??:??*${zone}`
  return sql<boolean>`${isTime} and (
    ${column} glob ${usual}
    or ${column} glob ${pattern} and substr(${column}, 17, length(${column}) - ${16 + zone.length}) not glob '*[^0-9:.]*'
  )`
}

/** What was found out about how a column stores time. */
export interface DetectedStorage {
  /** The way; undefined where no row has a time yet. */
  readonly storage: Storage | undefined
  /** Rows without a usable time. */
  readonly undated: number
  /** Whether all values that there are store time in that way. */
  readonly everywhere: boolean
  readonly findings: Finding[]
}

/** Rows that are asked for a first idea. */
const sample = 1000

/**
 * Learns from all rows how a column stores time.
 * @param where which rows count
 * @param hasWorked whether rows have been archived by it before, so that it does store time
 */
export async function detectStorage(
  db: Db,
  table: Sql,
  column: string,
  where: Sql<boolean>,
  hasWorked: boolean,
): Promise<DetectedStorage> {
  const ref = sql.id(column)
  const { rows: sampled } = await sql<{ storage: string; example: SqlValue }>`
    select ${storageOf(ref)} as storage, min(${ref}) as example
    from (select ${ref} from ${table} where ${where} and ${ref} is not null limit ${sample})
    group by storage order by count(*) desc limit 1
  `.execute(db)
  const [first] = sampled
  // Nearly all rows store it in the likeliest way, which is cheaply asked; only the others are looked at closely.
  const known =
    first === undefined || first.storage.startsWith('?') ? sql<boolean>`false` : isStored(ref, first.storage)
  const { rows: counted } = await sql<{ rows: bigint; likely: bigint }>`
    select count(*) as rows, count(case when ${known} then 1 end) as likely from ${table} where ${where}
  `.execute(db)
  const [all] = counted
  const ways: Row[] = first === undefined || all === undefined ? [] : [{ ...first, rows: Number(all.likely) }]
  if (Number(all?.rows ?? 0) > total(ways)) {
    const { rows: others } = await sql<{ storage: string | null; rows: bigint; example: SqlValue }>`
      select storage, count(*) as rows, min(value) as example
      from (select ${storageOf(ref)} as storage, ${ref} as value from ${table} where ${where} and (${ref} is null or not (${known})))
      group by storage
    `.execute(db)
    ways.push(...others.map((row) => ({ ...row, rows: Number(row.rows) })))
  }
  return judge(
    column,
    ways.filter(({ rows }) => rows > 0).toSorted((a, b) => b.rows - a.rows),
    hasWorked,
  )
}

interface Row {
  readonly storage: string | null
  readonly rows: number
  readonly example: SqlValue
}

interface Way extends Row {
  readonly storage: string
}

function judge(column: string, rows: readonly Row[], hasWorked: boolean): DetectedStorage {
  const ways = rows.filter((row): row is Way => row.storage !== null)
  const times = ways.filter(({ storage }) => !storage.startsWith('?'))
  const others = ways.filter(({ storage }) => storage.startsWith('?'))
  const [first, ...more] = times
  const undated = total(rows) - (first?.rows ?? 0)

  if (first === undefined || (total(others) > total(times) && !hasWorked)) {
    const found = `Column "${column}" does not store time in a way that can be read: ${show(ways)}`
    const finding: Finding = hasWorked ? { level: 'warning', text: found } : refusal(found)
    return { storage: undefined, undated, everywhere: false, findings: others.length === 0 ? [] : [finding] }
  }
  // Two layouts of text, or two scales of numbers, do not compare with one another: the order of rows would be wrong.
  // Few rows of another storage class are a leftover, and stay; many are a second way of storing time.
  const mixed = more.filter((way) => isNumber(way.storage) === isNumber(first.storage) || way.rows > total(times) / 20)
  if (mixed.length > 0) {
    return {
      storage: undefined,
      undated,
      everywhere: false,
      findings: [refusal(`Column "${column}" stores time in several ways: ${show(times)}`)],
    }
  }
  const misfits = [...more, ...others]
  const text = `Column "${column}" stores time as ${first.storage}; ${show(misfits)} count as undated and never expire`
  const everywhere = misfits.length === 0
  return { storage: first.storage, undated, everywhere, findings: everywhere ? [] : [{ level: 'warning', text }] }
}

function show(ways: readonly Way[]): string {
  return ways
    .map((way) => `${way.rows} as ${way.storage.replace('?', 'unreadable ')} (such as ${example(way.example)})`)
    .join(', ')
}

/**
 * A column that stores time in that way; undefined: in no way yet, so that no row is due.
 * @param everywhere whether all values have been seen, in this very transaction, to be stored so: asking each row again
 *   takes ten times as long as comparing it
 */
export function timeColumn(
  column: string,
  storage: Storage | undefined,
  columnTimezone: string,
  everywhere: boolean,
): TimeColumn {
  const ref = sql.id(column)
  if (storage === undefined) {
    return { storage, due: () => sql<boolean>`false`, undated: sql<boolean>`true`, format: String }
  }
  const stored = sql<boolean>`(${isStored(ref, storage)})`
  return {
    storage,
    // The plain comparisons come first: they are what an index answers.
    due: (cutoff) => {
      const between = sql`${ref} < ${bound(storage, cutoff, columnTimezone)} and ${ref} >= ${least(storage)}`
      return everywhere ? sql<boolean>`(${between})` : sql<boolean>`(${between} and ${stored})`
    },
    // Of NULL, all that is asked above is neither true nor false.
    undated: sql<boolean>`(${ref} is null or not ${stored})`,
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

function total(ways: readonly { readonly rows: number }[]): number {
  return ways.reduce((sum, way) => sum + way.rows, 0)
}

function example(value: SqlValue): string {
  if (Buffer.isBuffer(value)) return 'a blob'
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value)
}

function refusal(text: string): Finding {
  return { level: 'refusal', text, hint: 'Make all rows store it in one way, or leave the others out with "where".' }
}
