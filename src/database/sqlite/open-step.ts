/** The transactions of a step on SQLite, and the state of the file that they go by. */
import type { Connection } from './connection.ts'

/** The state of a database file. */
export interface Version {
  /** Changes whenever another connection has committed something. https://www.sqlite.org/pragma.html#pragma_data_version */
  readonly data: unknown
  /** Changes whenever a table, an index or a trigger does. */
  readonly schema: unknown
}

/** The transactions of a step, on the connection that steps beside it use as well: each has its turn from begin to end. */
export class OpenStep {
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
