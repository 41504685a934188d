/**
 * One step on SQLite: archived from a read snapshot, without keeping writers away; then, under the write lock, the
 * proof that nothing has changed since, and the delete.
 */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type { CsvExport, Db, Inspection, InspectRequest, RowSelection, StepTransaction } from '../database.ts'
import { attempt, type Connection } from './connection.ts'
import { inspect } from './inspect.ts'
import { csvOf, type CsvColumn } from './rows.ts'

interface Exported {
  readonly rows: RowSelection
  readonly columns: readonly CsvColumn[]
  count: number
  sha256: string
}

export class SqliteStep implements StepTransaction {
  readonly #connection: Connection
  /** Changes whenever another connection has committed something. https://www.sqlite.org/pragma.html#pragma_data_version */
  #dataVersion: unknown
  #schemaVersion: unknown
  #exported: Exported | undefined

  constructor(connection: Connection) {
    this.#connection = connection
  }

  get db(): Db {
    return this.#connection.db
  }

  async begin(request: InspectRequest): Promise<Inspection> {
    this.#connection.begin('deferred')
    // The first read takes the snapshot; the versions read in it are its own.
    this.#dataVersion = this.#connection.pragma('data_version')
    this.#schemaVersion = this.#connection.pragma('schema_version')
    return inspect(this.#connection.db, request, false)
  }

  // SQLite locks no rows: there is never one to skip.
  async export(rows: RowSelection, _skipLocked: boolean, signal?: AbortSignal): Promise<CsvExport> {
    const columns = rows.table.columns.filter((column) => !column.generated)
    const csvColumns = columns.map(({ name }) => ({ name, value: sql.id(name) }))
    const exported: Exported = { rows, columns: csvColumns, count: 0, sha256: '' }
    this.#exported = exported
    return { columns, csv: this.#export(exported, signal), rows: async () => exported.count }
  }

  async remove(): Promise<void> {
    const exported = this.#exported
    if (exported === undefined) throw new RetentionError('DATABASE_FAILED', 'The step has exported nothing')
    this.#connection.begin('immediate')
    if (this.#connection.pragma('data_version') !== this.#dataVersion) this.#proveUnchanged(exported)
    const { statement, parameters } = this.#connection.prepare(
      sql`delete from ${exported.rows.table.sql} where ${exported.rows.where}`,
    )
    const { changes } = attempt(() => statement.run(...parameters))
    if (changes !== exported.count) {
      throw new RetentionError('DATABASE_FAILED', `${exported.count} rows were archived, but DELETE took ${changes}`, {
        hint: 'A trigger may keep rows from being deleted. Nothing has been deleted.',
      })
    }
  }

  async commit(): Promise<void> {
    this.#connection.commit()
  }

  async rollback(): Promise<void> {
    this.#connection.rollback()
  }

  async *#export(exported: Exported, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
    const hash = createHash('sha256')
    for (const lines of csvOf(
      this.#connection,
      exported.rows,
      exported.columns,
      (count) => (exported.count += count),
    )) {
      signal?.throwIfAborted()
      hash.update(lines)
      yield lines
    }
    exported.sha256 = hash.digest('hex')
    // Storing the archive may take long; in rollback-journal mode an open snapshot would keep writers waiting.
    this.#connection.commit()
  }

  /** Somebody has written since the snapshot. If these rows are still the same, byte for byte, it was elsewhere. */
  #proveUnchanged(exported: Exported): void {
    const hash = createHash('sha256')
    const sameSchema = this.#connection.pragma('schema_version') === this.#schemaVersion
    if (sameSchema) {
      for (const lines of csvOf(this.#connection, exported.rows, exported.columns, () => {})) hash.update(lines)
    }
    if (!sameSchema || hash.digest('hex') !== exported.sha256) {
      throw new RetentionError('ROWS_CHANGED', 'Rows of the step were changed while they were archived')
    }
  }
}
