/** Whether others write to a SQLite file, which has one writer at a time. */
import type { Throttle } from '../../config/throttle.ts'
import type { Felt } from '../database.ts'
import type { Connection } from './connection.ts'

export class OtherWriters {
  readonly #connection: Connection
  /** Undefined until `watch`. */
  #version: unknown

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** From now on others are watched, if they are not yet. */
  watch(): void {
    this.#version ??= this.#read()
  }

  /** Whether another connection has committed anything since this was last asked, or since `watch`. */
  felt(limits: Throttle): Felt {
    const before = this.#version
    this.#version = this.#read()
    const felt = limits.busyWriters && before !== undefined && before !== this.#version
    return { pressures: felt ? [{ signal: 'busyWriters', text: 'others write' }] : [], hidden: undefined }
  }

  /** Changes with every commit of another connection. https://www.sqlite.org/pragma.html#pragma_data_version */
  #read(): unknown {
    return this.#connection.pragma('data_version')
  }
}
