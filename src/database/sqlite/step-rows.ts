/** The rows of a step on SQLite: read from the snapshot; then proved to be the same, and deleted or overwritten. */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { hasCode, RetentionError } from '../../errors.ts'
import type { ExportedRows, RowSelection, Sql } from '../database.ts'
import { notHeld, timeMoved, type Redaction } from '../redaction.ts'
import { attempt } from './driver.ts'
import type { OpenStep, Version } from './open-step.ts'
import { csvPieces } from './pieces.ts'
import { Places } from './places.ts'
import type { Reader } from './reader.ts'
import { assignments } from './redaction.ts'
import { csvOf, csvQuery, type CsvColumn } from './rows.ts'

/** How rows are overwritten, and what may have a word in it. */
interface Redacting extends Redaction {
  readonly triggers: readonly string[]
  /** The column that ages the rows. */
  readonly time: string
}

export class SqliteRows implements ExportedRows {
  readonly columns: ExportedRows['columns']
  readonly csv: AsyncIterable<Buffer>
  readonly #step: OpenStep
  readonly #version: Version
  readonly #places: Places
  readonly #reader: Reader | undefined
  readonly #rows: RowSelection
  readonly #redacting: Redacting | undefined
  #sha256 = ''

  /**
   * @param reader undefined where SQLite cannot write the rows' lines itself
   * @param redacting undefined where the rows go
   */
  constructor(
    step: OpenStep,
    reader: Reader | undefined,
    version: Version,
    rows: RowSelection,
    columns: ExportedRows['columns'],
    redacting: Redacting | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.#step = step
    this.#version = version
    this.#rows = rows
    this.#redacting = redacting
    this.columns = columns
    this.#places = new Places(rows)
    this.#reader = reader
    this.csv = reader === undefined ? this.#read(rows, signal) : this.#readBeside(reader, rows, signal)
  }

  async count(): Promise<number> {
    return this.#places.count
  }

  async remove(held: () => Promise<Sql<boolean> | undefined>): Promise<void> {
    const { connection } = this.#step
    // What can be made ready before others have to wait, is.
    const { table } = this.#rows
    const redacting = this.#redacting
    const change = this.#places.change(
      connection,
      // OR ABORT: a column's own ON CONFLICT clause could delete rows that are in the way, and nobody would know.
      redacting === undefined
        ? sql`delete from ${table.sql}`
        : sql`update or abort ${table.sql} set ${assignments(redacting.set)}`,
    )
    await this.#step.begin('immediate')
    if (connection.pragma('data_version') !== this.#version.data) {
      this.#proveUnchanged()
      // The rows are the same; a hold on them may be new.
      const where = await held()
      if (where !== undefined && this.#hasAny(where))
        throw changedMeanwhile('Rows of the step were held while they were archived')
    }
    const asked = redacting !== undefined && redacting.triggers.length > 0 ? redacting : undefined
    const times = asked && this.#digestOf(asked.time)
    const changed = change()
    if (changed !== this.#places.count) {
      const [verb, done] = redacting === undefined ? ['DELETE', 'deleted'] : ['UPDATE', 'updated']
      throw new RetentionError(
        'DATABASE_FAILED',
        `${this.#places.count} rows were archived, but ${verb} took ${changed}`,
        {
          hint: `A trigger may keep rows from being ${done}. Nothing has been ${done}.`,
        },
      )
    }
    if (asked === undefined) return
    const open = this.#countAny(asked.isOpen)
    if (open > 0) throw notHeld(open, asked.triggers)
    if (this.#digestOf(asked.time) !== times) throw timeMoved(asked.time, asked.triggers)
  }

  /** Of what the rows hold in a column. */
  #digestOf(name: string): string {
    const hash = createHash('sha256')
    const columns = [{ name, value: sql.id(name) }]
    for (const { bytes } of csvOf(this.#step.connection, this.#places.selection, columns)) hash.update(bytes)
    return hash.digest('hex')
  }

  async *#readBeside(reader: Reader, rows: RowSelection, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
    const query = csvQuery(this.#step.connection, rows, this.#names)
    // The reader's snapshot is a later one. What others commit in between changes our version as well, and is found; what
    // steps beside this one delete are other rows.
    this.#step.commit()
    const onEnd = (sha256: string): void => void (this.#sha256 = sha256)
    try {
      for await (const piece of reader.read(query, onEnd, signal)) {
        this.#places.add(piece.numbers)
        yield piece.bytes
      }
    } catch (error) {
      // A column that the query names may have gone since.
      if (hasCode(error, 'DATABASE_FAILED') && (await this.#step.schemaNow()) !== this.#version.schema)
        throw changedMeanwhile('The form of the table was changed while its rows were read', error)
      throw error
    }
  }

  async *#read(rows: RowSelection, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
    const hash = createHash('sha256')
    for (const piece of csvOf(this.#step.connection, rows, this.#csvColumns)) {
      signal?.throwIfAborted()
      hash.update(piece.bytes)
      this.#places.add(piece.places)
      yield piece.bytes
    }
    this.#sha256 = hash.digest('hex')
    // Storing the archive may take long; in rollback-journal mode an open snapshot would keep writers waiting.
    this.#step.commit()
  }

  /**
   * Somebody has written since the step began. If these rows are still the same, byte for byte, it was elsewhere.
   * @throws RetentionError `ROWS_CHANGED`
   */
  #proveUnchanged(): void {
    const { connection } = this.#step
    const isSame = connection.pragma('schema_version') === this.#version.schema
    if (isSame && !this.#hasHighest() && !this.#hasUndue()) {
      const hash = createHash('sha256')
      const { selection } = this.#places
      const pieces =
        this.#reader === undefined
          ? csvOf(connection, selection, this.#csvColumns)
          : csvPieces(connection.raw, csvQuery(connection, selection, this.#names))
      for (const { bytes } of pieces) hash.update(bytes)
      if (hash.digest('hex') === this.#sha256) return
    }
    throw changedMeanwhile('Rows of the step were changed while they were archived')
  }

  /** Whether a row that must stay is among them now, because what was above it has gone. */
  #hasHighest(): boolean {
    const { kept } = this.#places.selection.table
    return kept !== undefined && this.#hasAny(kept.where)
  }

  /** Whether a row is not to be redacted any more: its archive does not have the columns that `where` may ask. */
  #hasUndue(): boolean {
    return this.#redacting !== undefined && this.#hasAny(sql<boolean>`(${this.#rows.where}) is not true`)
  }

  /** Whether that is true for any of the rows, as they are now. */
  #hasAny(condition: Sql<boolean>): boolean {
    return this.#countAny(condition) > 0
  }

  /** For how many of them it is. */
  #countAny(condition: Sql<boolean>): number {
    const { table, where } = this.#places.selection
    const { statement, parameters } = this.#step.connection.prepare(
      sql`select count(*) from ${table.sql} where ${where} and ${condition}`,
    )
    return Number(attempt(() => statement.pluck().get(...parameters)))
  }

  get #names(): string[] {
    return this.columns.map(({ name }) => name)
  }

  get #csvColumns(): CsvColumn[] {
    return this.#names.map((name) => ({ name, value: sql.id(name) }))
  }
}

function changedMeanwhile(text: string, cause?: unknown): RetentionError {
  return new RetentionError('ROWS_CHANGED', text, cause === undefined ? {} : { cause })
}
