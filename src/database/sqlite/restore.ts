/** One restore on SQLite: the database locked, the table looked at, and the two ways into it. */
import type { TableName } from '../../config/fields.ts'
import type {
  ArchivedRows,
  ArchiveForm,
  Db,
  IncomingRows,
  OldValues,
  PlacedRows,
  Redacted,
  RestoreTable,
  RestoreTransaction,
  StagedRows,
} from '../database.ts'
import type { Link } from '../tree.ts'
import type { Connection } from './connection.ts'
import { relink } from './relink.ts'
import { load } from './restore-direct.ts'
import { stageOld, unstageOld } from './restore-redacted.ts'
import { stage, unstage } from './restore-staged.ts'
import { stageArchive, unstageArchive } from './staged-archive.ts'
import { findTable, triggersOn, type SchemaTable } from './table.ts'

/**
 * Begins a restore; undefined where there is no such table.
 * @param set the columns that are to be set in rows that are there; undefined where rows are put in
 */
export async function beginRestore(
  connection: Connection,
  name: TableName,
  set?: readonly string[],
): Promise<RestoreTransaction | undefined> {
  connection.begin('immediate')
  try {
    const table = await findTable(connection.db, name)
    if (table?.kind === 'table') {
      const event = set === undefined ? 'insert' : 'update'
      return new SqliteRestore(connection, table, await triggersOn(connection.db, table, event))
    }
  } catch (error) {
    connection.rollback()
    throw error
  }
  connection.rollback()
  return undefined
}

class SqliteRestore implements RestoreTransaction {
  readonly table: RestoreTable
  readonly #connection: Connection
  readonly #table: SchemaTable

  constructor(connection: Connection, table: SchemaTable, triggers: readonly string[]) {
    this.#connection = connection
    this.#table = table
    this.table = { ...table, findings: [], triggers }
  }

  get db(): Db {
    return this.#connection.db
  }

  canLoad(): boolean {
    // Types need no look: what has gone in is read back and compared.
    return this.#table.rowid !== undefined && this.table.triggers.length === 0
  }

  async load({ columns }: IncomingRows, csv: AsyncIterable<Buffer>): Promise<PlacedRows | undefined> {
    return load(this.#connection, this.#table, columns, csv)
  }

  async stage(columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<StagedRows> {
    return stage(this.#connection, this.#table, columns, csv)
  }

  async also(name: TableName): Promise<RestoreTransaction | undefined> {
    // Until the commit: in whatever order the tables come, and if they refer to each other in a circle.
    this.#connection.raw.pragma('defer_foreign_keys = on')
    const table = await findTable(this.db, name)
    if (table?.kind !== 'table') return undefined
    return new SqliteRestore(this.#connection, table, await triggersOn(this.db, table, 'insert'))
  }

  async loadTogether(): Promise<undefined> {}

  async relink(link: Link, columns: readonly string[], csv: AsyncIterable<Buffer>): ReturnType<typeof relink> {
    return relink(this.#connection, this.#table, link, columns, csv)
  }

  async stageOld(redacted: Redacted, columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<OldValues> {
    return stageOld(this.#connection, this.#table, redacted, columns, csv)
  }

  async stageArchive(archive: ArchiveForm, csv: AsyncIterable<Buffer>): Promise<ArchivedRows> {
    return stageArchive(this.#connection, this.#table, archive, csv)
  }

  async commit(): Promise<void> {
    await unstage(this.db)
    await unstageArchive(this.db)
    await unstageOld(this.#connection)
    this.#connection.commit()
  }

  async rollback(): Promise<void> {
    this.#connection.rollback()
  }
}
