/**
 * One step on SQLite: archived from a read snapshot, without keeping writers away; then, under the write lock, the
 * proof that nothing has changed since, and the delete, or the update, of the very rows that were read.
 */
import type { Db, ExportedRows, InspectRequest, RowSelection, StepTransaction } from '../database.ts'
import { redactionColumns } from '../redaction.ts'
import type { Gathering, GatheredStep } from '../tree.ts'
import type { Connection } from './connection.ts'
import { inspect, type SqliteInspection } from './inspect.ts'
import { OpenStep, type Version } from './open-step.ts'
import type { Reader } from './reader.ts'
import { SqliteRows } from './step-rows.ts'
import { gatherStep } from './step-tree.ts'

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
    const { redaction, column, writesLines, triggers } = this.inspection
    const { columns, key } = rows.table
    const archived =
      redaction === undefined
        ? columns.filter(({ generated }) => !generated)
        : redactionColumns(columns, key, column, redaction.set)
    const redacting = redaction === undefined ? undefined : { ...redaction, triggers, time: column }
    const reader = writesLines ? this.#reader : undefined
    return new SqliteRows(this.#step, reader, this.#version, rows, archived, redacting, signal)
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
