/**
 * One step on SQLite: archived from a read snapshot, without keeping writers away; then, under the write lock, the
 * proof that nothing has changed since, and the delete of the very rows that were read.
 */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { hasCode, RetentionError } from '../../errors.ts'
import type { Db, ExportedRows, InspectRequest, RowSelection, Sql, StepTransaction } from '../database.ts'
import type { Gathering, GatheredStep } from '../tree.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'
import { inspect, type SqliteInspection } from './inspect.ts'
import { csvPieces } from './pieces.ts'
import { Places } from './places.ts'
import type { Reader } from './reader.ts'
import { csvOf, csvQuery, type CsvColumn } from './rows.ts'
import { gatherStep } from './step-tree.ts'

/** The state of a database file. */
interface Version {
  /** Changes whenever another connection has committed something. https://www.sqlite.org/pragma.html#pragma_data_version */
  readonly data: unknown
  /** Changes whenever a table, an index or a trigger does. */
  readonly schema: unknown
}

/** Begins a step: looks at the table. */
export async function beginStep(
  connection: Connection,
  reader: Reader,
  request: InspectRequest,
): Promise<StepTransaction> {
  const step = new OpenStep(connection)
  try {
    await step.begin('deferred')
    // The first read takes the snapshot; the versions read in it are its own.
    const version = { data: connection.pragma('data_version'), schema: connection.pragma('schema_version') }
    return new SqliteStep(step, reader, version, await inspect(connection.db, request, false))
  } catch (error) {
    step.rollback()
    throw error
  }
}

/** The transactions of a step, on the connection that steps beside it use as well: each has its turn from begin to end. */
class OpenStep {
  readonly connection: Connection
  /** How long it has had the write lock, in milliseconds. */
  held = 0
  #endTurn: (() => void) | undefined
  #lockedAt: number | undefined
  #isUnenforced = false

  constructor(connection: Connection) {
    this.connection = connection
  }

  /** @param enforces whether SQLite itself acts by foreign keys in it, as it does by default */
  async begin(mode: 'deferred' | 'immediate', enforces = true): Promise<void> {
    this.#endTurn = await this.connection.turns.take()
    // Only between transactions can it be said. https://www.sqlite.org/pragma.html#pragma_foreign_keys
    this.#isUnenforced = !enforces && this.connection.pragma('foreign_keys') === 1n
    if (this.#isUnenforced) this.connection.raw.pragma('foreign_keys = off')
    this.connection.begin(mode, mode === 'immediate')
    if (mode === 'immediate') this.#lockedAt = performance.now()
  }

  /** The version of the schema at this moment; within a transaction, of another step as well, it would be an earlier one. */
  async schemaNow(): Promise<unknown> {
    const endTurn = await this.connection.turns.take()
    try {
      return this.connection.pragma('schema_version')
    } finally {
      endTurn()
    }
  }

  commit(): void {
    this.connection.commit()
    if (this.#lockedAt !== undefined) {
      this.held = performance.now() - this.#lockedAt
      this.connection.checkpoint()
    }
    this.#end()
  }

  rollback(): void {
    if (this.#endTurn !== undefined) this.connection.rollback()
    this.#end()
  }

  #end(): void {
    if (this.#isUnenforced) this.connection.raw.pragma('foreign_keys = on')
    this.#isUnenforced = false
    this.#endTurn?.()
    this.#endTurn = undefined
  }
}

class SqliteStep implements StepTransaction {
  readonly inspection: SqliteInspection
  readonly #step: OpenStep
  readonly #reader: Reader
  readonly #version: Version

  constructor(step: OpenStep, reader: Reader, version: Version, inspection: SqliteInspection) {
    this.#step = step
    this.#reader = reader
    this.#version = version
    this.inspection = inspection
  }

  get db(): Db {
    return this.#step.connection.db
  }

  // SQLite locks no rows: there is never one to skip.
  export(rows: RowSelection, _skipLocked: boolean, signal?: AbortSignal): ExportedRows {
    const columns = rows.table.columns.filter((column) => !column.generated)
    const reader = this.inspection.writesLines ? this.#reader : undefined
    return new SqliteRows(this.#step, reader, this.#version, rows, columns, signal)
  }

  get held(): number {
    return this.#step.held
  }

  async gather(request: Gathering, _skipLocked: boolean, signal?: AbortSignal): Promise<GatheredStep> {
    const { tree } = this.inspection
    if (tree === undefined) throw new TypeError('no tree was asked for')
    const step = this.#step
    const { connection } = step
    const parts = {
      connection,
      isUnchanged: () => connection.pragma('data_version') === this.#version.data,
      isSameSchema: () => connection.pragma('schema_version') === this.#version.schema,
      endSnapshot: () => step.commit(),
      beginWriting: (enforces: boolean) => step.begin('immediate', enforces),
    }
    return gatherStep(parts, tree, request, signal)
  }

  async commit(): Promise<void> {
    this.#step.commit()
  }

  async rollback(): Promise<void> {
    this.#step.rollback()
  }
}

class SqliteRows implements ExportedRows {
  readonly columns: ExportedRows['columns']
  readonly csv: AsyncIterable<Buffer>
  readonly #step: OpenStep
  readonly #version: Version
  readonly #places: Places
  readonly #reader: Reader | undefined
  #sha256 = ''

  /** @param reader undefined where SQLite cannot write the rows' lines itself */
  constructor(
    step: OpenStep,
    reader: Reader | undefined,
    version: Version,
    rows: RowSelection,
    columns: ExportedRows['columns'],
    signal: AbortSignal | undefined,
  ) {
    this.#step = step
    this.#version = version
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
    const deletion = this.#places.deletion(connection)
    await this.#step.begin('immediate')
    if (connection.pragma('data_version') !== this.#version.data) {
      this.#proveUnchanged()
      // The rows are the same; a hold on them may be new.
      const where = await held()
      if (where !== undefined && this.#hasAny(where))
        throw changed('Rows of the step were held while they were archived')
    }
    const deleted = deletion()
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
        throw changed('The form of the table was changed while its rows were read', error)
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
    if (connection.pragma('schema_version') === this.#version.schema && !this.#hasHighest()) {
      const hash = createHash('sha256')
      const { selection } = this.#places
      const pieces =
        this.#reader === undefined
          ? csvOf(connection, selection, this.#csvColumns)
          : csvPieces(connection.raw, csvQuery(connection, selection, this.#names))
      for (const { bytes } of pieces) hash.update(bytes)
      if (hash.digest('hex') === this.#sha256) return
    }
    throw changed('Rows of the step were changed while they were archived')
  }

  /** Whether a row that must stay is among them now, because what was above it has gone. */
  #hasHighest(): boolean {
    const { kept } = this.#places.selection.table
    return kept !== undefined && this.#hasAny(kept.where)
  }

  /** Whether that is true for any of the rows, as they are now. */
  #hasAny(condition: Sql<boolean>): boolean {
    const { table, where } = this.#places.selection
    const { statement, parameters } = this.#step.connection.prepare(
      sql`select 1 from ${table.sql} where ${where} and ${condition}`,
    )
    return attempt(() => statement.get(...parameters)) !== undefined
  }

  get #names(): string[] {
    return this.columns.map(({ name }) => name)
  }

  get #csvColumns(): CsvColumn[] {
    return this.#names.map((name) => ({ name, value: sql.id(name) }))
  }
}

function changed(text: string, cause?: unknown): RetentionError {
  return new RetentionError('ROWS_CHANGED', text, cause === undefined ? {} : { cause })
}
