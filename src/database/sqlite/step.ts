/**
 * One step on SQLite: archived from a read snapshot, without keeping writers away; then, under the write lock, the
 * proof that nothing has changed since, and the delete of the very rows that were read.
 */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type { Db, ExportedRows, Inspection, InspectRequest, RowSelection, StepTransaction } from '../database.ts'
import { attempt, type Connection } from './connection.ts'
import { inspect } from './inspect.ts'
import { Places } from './places.ts'
import { csvOf, type CsvColumn } from './rows.ts'

/** The state of a database file that a snapshot shows. */
interface Version {
  /** Changes whenever another connection has committed something. https://www.sqlite.org/pragma.html#pragma_data_version */
  readonly data: unknown
  /** Changes whenever a table, an index or a trigger does. */
  readonly schema: unknown
}

/** Begins a step: takes the snapshot, and looks at the table in it. */
export async function beginStep(connection: Connection, request: InspectRequest): Promise<StepTransaction> {
  connection.begin('deferred')
  try {
    // The first read takes the snapshot; the versions read in it are its own.
    const version = { data: connection.pragma('data_version'), schema: connection.pragma('schema_version') }
    return new SqliteStep(connection, version, await inspect(connection.db, request, false))
  } catch (error) {
    connection.rollback()
    throw error
  }
}

class SqliteStep implements StepTransaction {
  readonly inspection: Inspection
  readonly #connection: Connection
  readonly #version: Version

  constructor(connection: Connection, version: Version, inspection: Inspection) {
    this.#connection = connection
    this.#version = version
    this.inspection = inspection
  }

  get db(): Db {
    return this.#connection.db
  }

  // SQLite locks no rows: there is never one to skip.
  export(rows: RowSelection, _skipLocked: boolean, signal?: AbortSignal): ExportedRows {
    const columns = rows.table.columns.filter((column) => !column.generated)
    return new SqliteRows(this.#connection, this.#version, rows, columns, signal)
  }

  async commit(): Promise<void> {
    this.#connection.commit()
  }

  async rollback(): Promise<void> {
    this.#connection.rollback()
  }
}

class SqliteRows implements ExportedRows {
  readonly columns: ExportedRows['columns']
  readonly csv: AsyncIterable<Buffer>
  readonly #connection: Connection
  readonly #version: Version
  readonly #rows: RowSelection
  readonly #places: Places
  #sha256 = ''

  constructor(
    connection: Connection,
    version: Version,
    rows: RowSelection,
    columns: ExportedRows['columns'],
    signal: AbortSignal | undefined,
  ) {
    this.#connection = connection
    this.#version = version
    this.#rows = rows
    this.columns = columns
    this.#places = new Places(rows)
    this.csv = this.#read(signal)
  }

  async count(): Promise<number> {
    return this.#places.count
  }

  async remove(): Promise<void> {
    this.#connection.begin('immediate')
    if (this.#connection.pragma('data_version') !== this.#version.data) this.#proveUnchanged()
    const deleted = this.#places.delete(this.#connection)
    if (deleted !== this.#places.count) {
      throw new RetentionError(
        'DATABASE_FAILED',
        `${this.#places.count} rows were archived, but DELETE took ${deleted}`,
        {
          hint: 'A trigger may keep rows from being deleted. Nothing has been deleted.',
        },
      )
    }
  }

  async *#read(signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
    const hash = createHash('sha256')
    for (const piece of csvOf(this.#connection, this.#rows, this.#csvColumns)) {
      signal?.throwIfAborted()
      hash.update(piece.bytes)
      this.#places.add(piece.places)
      yield piece.bytes
    }
    this.#sha256 = hash.digest('hex')
    // Storing the archive may take long; in rollback-journal mode an open snapshot would keep writers waiting.
    this.#connection.commit()
  }

  /**
   * Somebody has written since the snapshot. If these rows are still the same, byte for byte, it was elsewhere.
   * @throws RetentionError `ROWS_CHANGED`
   */
  #proveUnchanged(): void {
    if (this.#connection.pragma('schema_version') === this.#version.schema && !this.#hasHighest()) {
      const hash = createHash('sha256')
      for (const { bytes } of csvOf(this.#connection, this.#places.selection, this.#csvColumns)) hash.update(bytes)
      if (hash.digest('hex') === this.#sha256) return
    }
    throw new RetentionError('ROWS_CHANGED', 'Rows of the step were changed while they were archived')
  }

  /** Whether a row that must stay is among them now, because what was above it has gone. */
  #hasHighest(): boolean {
    const { table, where } = this.#places.selection
    if (table.kept === undefined) return false
    const { statement, parameters } = this.#connection.prepare(
      sql`select 1 from ${table.sql} where ${where} and ${table.kept.where}`,
    )
    return attempt(() => statement.get(...parameters)) !== undefined
  }

  get #csvColumns(): CsvColumn[] {
    return this.columns.map(({ name }) => ({ name, value: sql.id(name) }))
  }
}
