/** Where the rows of a step are, so that the rows that are changed are those that were read, whatever is asked later. */
import { sql } from 'kysely'

import type { RowSelection, Sql, SqlValue } from '../database.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'

export class Places {
  readonly #rows: RowSelection
  /** How many values make a place: what the rows are ordered by, without the time. */
  readonly #width: number
  /** The places' values, one after another, as long as all are whole numbers: outside the heap, which they would fill. */
  #numbers = new BigInt64Array(1024)
  #count = 0
  /** All values, once one is something else. */
  #values: SqlValue[] | undefined

  constructor(rows: RowSelection) {
    this.#rows = rows
    this.#width = rows.order.length - 1
  }

  add(values: readonly SqlValue[] | BigInt64Array): void {
    if (this.#values === undefined && values instanceof BigInt64Array) this.#addNumbers(values)
    else for (const value of values) this.#all().push(value)
  }

  get count(): number {
    return (this.#values?.length ?? this.#count) / this.#width
  }

  /** The rows at these places, in their order. */
  get selection(): RowSelection {
    // A key of several columns, or of text, is part of the CSV: the same CSV then says that they are the same rows.
    return this.#areNumbers() ? { ...this.#rows, where: sql<boolean>`${this.#key} in (${this.#list()})` } : this.#rows
  }

  /**
   * Makes a change of the rows at these places ready; what it returns does it, and returns how many there were.
   * @param change the statement up to its WHERE: DELETE or UPDATE
   */
  change(connection: Connection, change: Sql): () => number {
    if (!this.#areNumbers()) return this.#changeEach(connection, change)
    const runs = this.#runs()
    return runs.length < this.#count / fewestInRun
      ? this.#changeRuns(connection, change, runs)
      : this.#changeList(connection, change)
  }

  /** A log's rows mostly lie one behind the other, and a range of them is deleted in half the time. */
  #changeRuns(connection: Connection, change: Sql, runs: readonly Run[]): () => number {
    const { statement, parameters } = connection.prepare(sql`${change} where ${this.#key} between ${0} and ${0}`)
    const own = parameters.slice(0, -2)
    return () => {
      let changed = 0
      for (const { first, last } of runs) changed += attempt(() => statement.run(...own, first, last)).changes
      return changed
    }
  }

  #changeList(connection: Connection, change: Sql): () => number {
    const { statement, parameters } = connection.prepare(sql`${change} where ${this.#key} in (${this.#list()})`)
    return () => attempt(() => statement.run(...parameters)).changes
  }

  #changeEach(connection: Connection, change: Sql): () => number {
    const parts = this.#rows.order.slice(1)
    const where = sql.join(
      parts.map((part) => sql`${part.value} is ${null}`),
      sql` and `,
    )
    // Prepared once and run with each row's key; the nulls only hold the parameters' places.
    const { statement, parameters } = connection.prepare(sql`${change} where ${where}`)
    const own = parameters.slice(0, -this.#width)
    const values = this.#all()
    return () => {
      let changed = 0
      for (let at = 0; at < values.length; at += this.#width) {
        changed += attempt(() => statement.run(...own, ...values.slice(at, at + this.#width))).changes
      }
      return changed
    }
  }

  /** Consecutive numbers, with none between them that is not a place, as ranges. */
  #runs(): Run[] {
    const runs: { first: bigint; last: bigint }[] = []
    for (const number of this.#numbers.subarray(0, this.#count).toSorted()) {
      const run = runs.at(-1)
      if (run !== undefined && run.last + 1n === number) run.last = number
      else runs.push({ first: number, last: number })
    }
    return runs
  }

  get #key(): Sql {
    return this.#rows.order[1]?.value ?? sql`rowid`
  }

  #areNumbers(): boolean {
    return this.#width === 1 && this.#values === undefined
  }

  #addNumbers(values: BigInt64Array): void {
    const needed = this.#count + values.length
    if (needed > this.#numbers.length) {
      const larger = new BigInt64Array(Math.max(needed, this.#numbers.length * 2))
      larger.set(this.#numbers)
      this.#numbers = larger
    }
    this.#numbers.set(values, this.#count)
    this.#count = needed
  }

  #all(): SqlValue[] {
    this.#values ??= [...this.#numbers.subarray(0, this.#count)]
    return this.#values
  }

  /** The numbers as one parameter. */
  #list(): Sql {
    return sql`select value from json_each(${`[${this.#numbers.subarray(0, this.#count).join(',')}]`})`
  }
}

interface Run {
  readonly first: bigint
  readonly last: bigint
}

/** Rows that a run must hold on average, for a statement of its own to be worth it. */
const fewestInRun = 8
