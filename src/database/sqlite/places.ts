/** Where the rows of a step are, so that the rows that are deleted are those that were read, whatever is asked later. */
import { sql } from 'kysely'

import type { RowSelection, Sql, SqlValue } from '../database.ts'
import { attempt, type Connection } from './connection.ts'

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

  add(values: readonly SqlValue[]): void {
    for (const value of values) {
      if (this.#values === undefined && typeof value === 'bigint') this.#addNumber(value)
      else this.#all().push(value)
    }
  }

  get count(): number {
    return (this.#values?.length ?? this.#count) / this.#width
  }

  /** The rows at these places, in their order. */
  get selection(): RowSelection {
    // A key of several columns, or of text, is part of the CSV: the same CSV then says that they are the same rows.
    return this.#areNumbers() ? { ...this.#rows, where: sql<boolean>`${this.#key} in (${this.#list()})` } : this.#rows
  }

  /** Deletes the rows at these places; returns how many there were. */
  delete(connection: Connection): number {
    const { table } = this.#rows
    if (this.#areNumbers()) {
      const { statement, parameters } = connection.prepare(
        sql`delete from ${table.sql} where ${this.#key} in (${this.#list()})`,
      )
      return attempt(() => statement.run(...parameters)).changes
    }
    const parts = this.#rows.order.slice(1)
    const where = sql.join(
      parts.map((part) => sql`${part.value} is ${null}`),
      sql` and `,
    )
    // Prepared once and run with each row's key; the nulls only hold the parameters' places.
    const { statement } = connection.prepare(sql`delete from ${table.sql} where ${where}`)
    const values = this.#all()
    let deleted = 0
    for (let at = 0; at < values.length; at += this.#width) {
      deleted += attempt(() => statement.run(...values.slice(at, at + this.#width))).changes
    }
    return deleted
  }

  get #key(): Sql {
    return this.#rows.order[1]?.value ?? sql`rowid`
  }

  #areNumbers(): boolean {
    return this.#width === 1 && this.#values === undefined
  }

  #addNumber(value: bigint): void {
    if (this.#count === this.#numbers.length) {
      const larger = new BigInt64Array(this.#count * 2)
      larger.set(this.#numbers)
      this.#numbers = larger
    }
    this.#numbers[this.#count] = value
    this.#count += 1
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
