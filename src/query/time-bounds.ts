/**
 * Which times a query asks for, so that archives without any of them need not be fetched. Only what is certain counts: a
 * comparison of the policy's time column with a constant, which is true for every row that the query takes from the view.
 */
import { literal, type DuckDb } from './duckdb.ts'

/** Days since 1970 in between which rows are asked for, inclusively. */
export interface TimeBounds {
  readonly from: number
  readonly to: number
}

export const unbounded: TimeBounds = { from: -Infinity, to: Infinity }

/** Time zones move a time by less than a day; another one is for what is rounded. */
const marginDays = 2

/** Whether an archive may have rows within bounds, by its first and last timestamp. */
export function mayHave({ from, to }: { from: string; to: string }, bounds: TimeBounds): boolean {
  return (dayOf(to) ?? Infinity) >= bounds.from - marginDays && (dayOf(from) ?? -Infinity) <= bounds.to + marginDays
}

/** The day of a time that is written as ISO 8601 or as SQL has it; undefined where it is not. */
export function dayOf(time: string): number | undefined {
  const [, day] = /^(\d{4}-\d\d-\d\d)(?:[ T][\d:.]+(?:Z|[+-][\d:]+)?)?$/.exec(time) ?? []
  const milliseconds = Date.parse(`${day ?? ''}T00:00:00Z`)
  return Number.isNaN(milliseconds) ? undefined : milliseconds / (24 * 60 * 60 * 1000)
}

/** A piece of a parsed query. https://duckdb.org/docs/stable/data/json/sql_to_and_from_json */
type Node = Readonly<Record<string, unknown>>

/** A query, taken apart by DuckDB. */
export class ParsedQuery {
  readonly #duck: DuckDb
  readonly #nodes: readonly Node[]

  private constructor(duck: DuckDb, nodes: readonly Node[]) {
    this.#duck = duck
    this.#nodes = nodes
  }

  static async parse(duck: DuckDb, sql: string): Promise<ParsedQuery> {
    return new ParsedQuery(duck, [...nodesOf(await serialized(duck, sql))])
  }

  /** The times that a query asks for of a view. @param column the view's time column, if it has one */
  async bounds(view: string, column: string | undefined): Promise<TimeBounds> {
    if (column === undefined) return unbounded
    const conditions = this.#conditions(view, column)
    if (conditions.length === 0) return unbounded
    const days = await this.#days(conditions.map(({ value }) => value))
    let { from, to } = unbounded
    for (const [index, { side }] of conditions.entries()) {
      const day = days[index]
      if (day === undefined) continue
      if (side !== 'to') from = Math.max(from, day)
      if (side !== 'from') to = Math.min(to, day)
    }
    return { from, to }
  }

  #conditions(view: string, column: string): Condition[] {
    // It may ask for the view by a text, which nobody sees here.
    const hidden = this.#nodes.some(({ function_name: name }) => name === 'query' || name === 'query_table')
    const uses = this.#nodes.filter((node) => node['type'] === 'BASE_TABLE' && isSame(node['table_name'], view))
    const [table] = uses
    if (hidden || table === undefined || uses.length > 1 || listOf(table['column_name_alias']).length > 0) return []
    const select = this.#nodes.find((node) => node['type'] === 'SELECT_NODE' && node['from_table'] === table)
    const names = [table['alias'] === '' ? view : table['alias']]
    const isColumn = (node: unknown): boolean => {
      if (!isNode(node) || node['class'] !== 'COLUMN_REF') return false
      const [last, ...qualifiers] = listOf(node['column_names']).toReversed()
      return (
        isSame(last, column) &&
        qualifiers.length < 2 &&
        qualifiers.every((one) => names.some((name) => isSame(one, name)))
      )
    }
    return conjuncts(select?.['where_clause']).flatMap((node) => conditionsOf(node, isColumn))
  }

  /** The days that constants stand for; undefined where one is no time. */
  async #days(values: readonly Node[]): Promise<(number | undefined)[]> {
    const statement = await serialized(this.#duck, 'SELECT 0')
    const select = [...nodesOf(statement)].find((node) => node['type'] === 'SELECT_NODE')
    if (select === undefined) return []
    const asked = JSON.stringify(statement, (_, value: unknown) =>
      value === select ? { ...select, select_list: values } : value,
    )
    try {
      const row = await this.#duck.row(`FROM json_execute_serialized_sql(${literal(asked)})`)
      return row.map((value) => (typeof value === 'string' ? dayOf(value) : undefined))
    } catch {
      // What is wrong with them is told when the query itself runs.
      return []
    }
  }
}

/** One bound, or with `both` two that are the same. */
interface Condition {
  readonly side: 'from' | 'to' | 'both'
  readonly value: Node
}

const comparisons: Readonly<Record<string, [side: Condition['side'], swapped: Condition['side']]>> = {
  COMPARE_EQUAL: ['both', 'both'],
  COMPARE_GREATERTHAN: ['from', 'to'],
  COMPARE_GREATERTHANOREQUALTO: ['from', 'to'],
  COMPARE_LESSTHAN: ['to', 'from'],
  COMPARE_LESSTHANOREQUALTO: ['to', 'from'],
}

function conditionsOf(node: Node, isColumn: (node: unknown) => boolean): Condition[] {
  const { type, left, right, input, lower, upper } = node
  if (type === 'COMPARE_BETWEEN' && isColumn(input)) return [...bound('from', lower), ...bound('to', upper)]
  const [side, swapped] = comparisons[String(type)] ?? []
  if (side !== undefined && isColumn(left)) return bound(side, right)
  return swapped !== undefined && isColumn(right) ? bound(swapped, left) : []
}

function bound(side: Condition['side'], value: unknown): Condition[] {
  return isNode(value) && isConstant(value) ? [{ side, value }] : []
}

/** What constants of time are made of. */
const functions = ['+', '-', 'now', 'today', 'current_date', 'get_current_timestamp', 'date_trunc', 'trunc']
const steps = ['to_seconds', 'to_minutes', 'to_hours', 'to_days', 'to_weeks', 'to_months', 'to_years']

function isConstant(value: Node): boolean {
  return [...nodesOf(value)].every(
    ({ class: kind, function_name: name }) =>
      kind === undefined ||
      kind === 'CONSTANT' ||
      kind === 'CAST' ||
      (kind === 'FUNCTION' && [...functions, ...steps].includes(String(name))),
  )
}

/** What must all be true where a condition is. */
function conjuncts(node: unknown): Node[] {
  if (!isNode(node)) return []
  return node['type'] === 'CONJUNCTION_AND' ? listOf(node['children']).flatMap(conjuncts) : [node]
}

async function serialized(duck: DuckDb, sql: string): Promise<unknown> {
  const [text] = await duck.row(`SELECT json_serialize_sql(${literal(sql)})`)
  // Places in the text may be larger than a number holds, and nobody needs them.
  return JSON.parse(typeof text === 'string' ? text : '{}', (key, value: unknown) =>
    key === 'query_location' ? 0 : value,
  )
}

function* nodesOf(value: unknown): Generator<Node> {
  if (isNode(value)) yield value
  if (typeof value !== 'object' || value === null) return
  for (const inner of Object.values(value)) yield* nodesOf(inner)
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** To DuckDB, letter case makes no difference. */
function isSame(one: unknown, other: unknown): boolean {
  return String(one).toLowerCase() === String(other).toLowerCase()
}
