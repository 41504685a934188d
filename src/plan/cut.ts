/** Cuts due rows into the ranges that steps take. Only reads. */
import { sql } from 'kysely'

import { RetentionError } from '../errors.ts'
import type { Db, OrderPart, RowSelection, Sql, SqlValue } from '../database/database.ts'

/** A place in a table's order: a time, and where rows share it, the key as well. */
type Position = readonly SqlValue[]

/** The due rows from one place up to a time, that time included; where rows share it, up to and without a place. */
export interface Range {
  readonly from: Position
  readonly through: SqlValue
  readonly before?: Position
}

/** A range and how many rows it held when it was cut. */
export interface Cut {
  readonly range: Range
  readonly rows: number
}

/**
 * Cuts the due rows into ranges. Cuts lie between different times, so that an index on the time column answers; only
 * where more rows than may be taken share one time are they told apart by key. Ranges have both their ends among the
 * rows found: a row that comes later, between two of them, is left for the next plan.
 * @param size the most rows that the next range may hold; 0 ends it
 */
export async function* cut(db: Db, due: RowSelection, size: () => number): AsyncGenerator<Cut> {
  const [time] = due.order
  if (time === undefined) return
  let start = await timeAt(db, due, time, 0)
  while (start !== undefined && size() > 0) {
    const most = size()
    const rest = also(due, sql`${time.value} >= ${time.bind(start)}`)
    const [last, next] = await timesAt(db, rest, time, most - 1, 2)
    const some = next === undefined ? rest : also(rest, sql`${time.value} < ${time.bind(next)}`)
    const through = await timeAt(db, some, time, 0, 'desc')
    // The time before the next step's is that of the last row that may be taken: so many rows they are, and need no count.
    const isFull = next !== undefined && through === last
    const rows = through === undefined ? 0 : isFull ? most : await countRows(db, some)
    if (through !== undefined && rows <= most) {
      yield { range: { from: [start], through }, rows }
      start = next
    } else {
      yield* cutTies(db, due, start, size)
      const later = await timeAt(db, also(due, sql`${time.value} > ${time.bind(start)}`), time, 0)
      if (later === start) throw noOrder(start)
      start = later
    }
  }
}

/** True for the rows of a range. */
export function rangeWhere(order: readonly OrderPart[], { from, through, before }: Range): Sql<boolean> {
  const [time] = order
  const parts = [compare(order, '>=', from)]
  if (time !== undefined) parts.push(sql<boolean>`${time.value} <= ${time.bind(through)}`)
  if (before !== undefined) parts.push(compare(order, '<', before))
  return sql<boolean>`(${sql.join(parts, sql` and `)})`
}

/** How many rows are selected. */
export async function countRows(db: Db, { table, where }: Pick<RowSelection, 'table' | 'where'>): Promise<number> {
  const { rows } = await sql<{ rows: unknown }>`select count(*) as rows from ${table.sql} where ${where}`.execute(db)
  return Number(rows[0]?.rows ?? 0)
}

/** The time of the first row; undefined where there is none. */
export async function firstTime(db: Db, rows: RowSelection): Promise<SqlValue | undefined> {
  const [time] = rows.order
  return time === undefined ? undefined : timeAt(db, rows, time, 0)
}

/** The time of the last row; undefined where there is none. */
export async function lastTime(db: Db, rows: RowSelection): Promise<SqlValue | undefined> {
  const [time] = rows.order
  return time === undefined ? undefined : timeAt(db, rows, time, 0, 'desc')
}

/** Cuts the rows of one time by their keys. */
async function* cutTies(db: Db, due: RowSelection, time: SqlValue, size: () => number): AsyncGenerator<Cut> {
  let from: Position | undefined = [time]
  while (from !== undefined && size() > 0) {
    const rest: RowSelection = within(due, { from, through: time })
    const before: Position | undefined = await placeAt(db, rest, size())
    if (before?.every((value, index) => value === from?.[index])) throw noOrder(before.join(', '))
    const range: Range = before === undefined ? { from, through: time } : { from, through: time, before }
    const rows = await countRows(db, within(due, range))
    if (rows > 0) yield { range, rows }
    from = before
  }
}

function within(rows: RowSelection, range: Range): RowSelection {
  return also(rows, rangeWhere(rows.order, range))
}

/**
 * Narrows a selection. The narrower bound comes first: of several on one column SQLite's index takes the first, and would
 * read all rows up to the cutoff for every range.
 */
function also(rows: RowSelection, where: Sql): RowSelection {
  return { ...rows, where: sql<boolean>`(${where} and ${rows.where})` }
}

/** Compares a row's place with another. A row comparison goes by its first part, then the next. */
function compare(order: readonly OrderPart[], operator: '>=' | '<', place: Position): Sql<boolean> {
  const parts = order.slice(0, place.length)
  const values = sql.join(parts.map((part) => part.value))
  const bounds = sql.join(parts.map((part, index) => part.bind(place[index] ?? null)))
  const symbol = operator === '<' ? sql`<` : sql`>=`
  return parts.length === 1
    ? sql<boolean>`${values} ${symbol} ${bounds}`
    : sql<boolean>`(${values}) ${symbol} (${bounds})`
}

/** Cutting would never end. A collation or a type of the user's own can be like that. */
function noOrder(place: SqlValue): RetentionError {
  return new RetentionError('REFUSED', `Rows cannot be cut into steps: none comes after ${String(place)}`, {
    hint: 'The values that order them do not compare as they sort. A larger "batch" may need no cut there.',
  })
}

/** The time of the row that so many rows come before; undefined where there are not so many. */
async function timeAt(
  db: Db,
  rows: RowSelection,
  time: OrderPart,
  offset: number,
  direction: 'asc' | 'desc' = 'asc',
): Promise<SqlValue | undefined> {
  return (await timesAt(db, rows, time, offset, 1, direction))[0]
}

/** The times of that row and of those behind it. */
async function timesAt(
  db: Db,
  rows: RowSelection,
  time: OrderPart,
  offset: number,
  count: number,
  direction: 'asc' | 'desc' = 'asc',
): Promise<SqlValue[]> {
  // Read outside, or every row that is passed over would be written out as text: three times the whole.
  const found = await sql<{ time: SqlValue }>`
    select ${time.read} as time from (
      select ${time.value} from ${rows.table.sql} where ${rows.where}
      order by ${time.value} ${direction === 'asc' ? sql`` : sql`desc`} limit ${sql.lit(count)} offset ${sql.lit(offset)}
    ) as place
  `.execute(db)
  return found.rows.map((row) => row.time)
}

/** The place of the row that so many rows come before; undefined where there are not so many. */
async function placeAt(db: Db, rows: RowSelection, offset: number): Promise<Position | undefined> {
  const columns = sql.join(rows.order.map((part, index) => sql`${part.read} as ${sql.id(`p${index}`)}`))
  const order = sql.join(rows.order.map((part) => part.value))
  const found = await sql<Record<string, SqlValue>>`
    select ${columns} from (
      select ${order} from ${rows.table.sql} where ${rows.where} order by ${order} limit 1 offset ${sql.lit(offset)}
    ) as place
  `.execute(db)
  const [row] = found.rows
  return row === undefined ? undefined : rows.order.map((_, index) => row[`p${index}`] ?? null)
}
