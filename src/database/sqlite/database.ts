/** SQLite behind the house's one interface. */
import { sql } from 'kysely'

import type { TableName } from '../../config/fields.ts'
import type { Throttle } from '../../config/throttle.ts'
import type {
  Candidate,
  Choice,
  ChoiceFile,
  Chosen,
  Database,
  Db,
  Finding,
  Felt,
  Inspection,
  InspectRequest,
  Lock,
  LostPartitions,
  RestoreTransaction,
  RowSelection,
  Space,
  Sql,
  StepTransaction,
  Table,
} from '../database.ts'
import type { Gathered, Gathering } from '../tree.ts'
import { candidates } from './candidates.ts'
import { chooseRecords } from './choose.ts'
import { connect, type Connection } from './connection.ts'
import { gather } from './gather.ts'
import { inspect, predicateError } from './inspect.ts'
import { isLockedBeside, lockBeside } from './lock.ts'
import { Reader } from './reader.ts'
import { OtherWriters } from './pressure.ts'
import { beginRestore } from './restore.ts'
import { fileSpace, returnPages } from './space.ts'
import { beginStep } from './step.ts'
import { findTable } from './table.ts'
import type { SqliteTree } from './tree.ts'

/** Opens a SQLite file that must be there. @throws RetentionError `DATABASE_UNREACHABLE` */
export async function openSqlite(file: string, readOnly: boolean): Promise<Database> {
  const connection = connect(file, readOnly)
  const { rows } = await sql<{ version: string }>`select sqlite_version() as version`.execute(connection.db)
  return new SqliteDatabase(connection, rows[0]?.version ?? '')
}

class SqliteDatabase implements Database {
  readonly kind = 'sqlite'
  readonly instantType = 'text'
  readonly hasOneWriter = true
  readonly location: string
  readonly version: string
  readonly #connection: Connection
  readonly #reader: Reader
  readonly #others: OtherWriters

  constructor(connection: Connection, version: string) {
    this.#connection = connection
    this.#reader = new Reader(connection.file, () => connection.shortenLog())
    this.#others = new OtherWriters(connection)
    this.location = `sqlite:${connection.file}`
    this.version = version
  }

  async read<T>(work: (db: Db) => Promise<T>): Promise<T> {
    return this.#transaction('deferred', work)
  }

  async scratch<T>(work: (db: Db) => Promise<T>): Promise<T> {
    const endTurn = await this.#connection.turns.take()
    try {
      this.#connection.begin('deferred')
      return await work(this.#connection.db)
    } finally {
      this.#connection.rollback()
      endTurn()
    }
  }

  async gather(db: Db, request: Gathering): Promise<Gathered> {
    // The tree of an inspection is ours.
    return gather(db, request.tree as SqliteTree, request)
  }

  async write<T>(work: (db: Db) => Promise<T>, isForStep = false): Promise<T> {
    return this.#transaction('immediate', work, isForStep)
  }

  async inspect(db: Db, request: InspectRequest): Promise<Inspection> {
    // With planning begins what a step may be in the way of.
    this.#others.watch()
    return inspect(db, request, true)
  }

  async averageRowBytes(db: Db, { table, where }: RowSelection): Promise<number> {
    const columns = table.columns.filter((column) => !column.generated).map((column) => sql.id(column.name))
    const lengths = columns.map((column) => sql`coalesce(length(cast(${column} as blob)), 0) + 3`)
    const { rows } = await sql<{ bytes: number | null }>`
      select avg(${sumOf(lengths)}) as bytes from (select * from ${table.sql} where ${where} limit 500)
    `.execute(db)
    return rows[0]?.bytes ?? 0
  }

  async ddl(db: Db, table: TableName): Promise<string[]> {
    const { rows } = await sql<{ ddl: string }>`
      select sql as ddl from sqlite_schema
      where lower(tbl_name) = lower(${table.name}) and sql is not null and type in ('table', 'index')
      order by type = 'table' desc, name
    `.execute(db)
    return rows.map((row) => `${row.ddl};`)
  }

  async apart<T>(_tables: readonly TableName[], work: (db: Db) => Promise<T>): Promise<T> {
    // A step of before has deleted its rows; another one proves under the write lock that nothing was written since.
    return this.write(work)
  }

  async findTable(db: Db, name: TableName): Promise<Table | undefined> {
    const table = await findTable(db, name)
    return table?.kind === 'table' ? table : undefined
  }

  async predicateError(db: Db, where: string, table: Table): Promise<string | undefined> {
    return predicateError(db, where, table)
  }

  async tableExists(db: Db, table: TableName): Promise<boolean> {
    return (await findTable(db, table)) !== undefined
  }

  async candidates(db: Db, days: readonly number[], now: Date): Promise<Candidate[]> {
    return candidates(db, days, now)
  }

  async lock(name: string): Promise<Lock | undefined> {
    return lockBeside(this.#connection.file, name)
  }

  async isLocked(name: string): Promise<boolean> {
    return isLockedBeside(this.#connection.file, name)
  }

  async pressure(_table: TableName, limits: Throttle): Promise<Felt> {
    return this.#others.felt(limits)
  }

  async watchWriters(): Promise<() => Promise<undefined>> {
    return async () => undefined
  }

  async step(request: InspectRequest): Promise<StepTransaction> {
    return beginStep(this.#connection, this.#reader, request)
  }

  async settle(): Promise<void> {
    return this.#connection.settle()
  }

  async restore(
    table: TableName,
    _lost?: LostPartitions,
    set?: readonly string[],
  ): Promise<RestoreTransaction | undefined> {
    return beginRestore(this.#connection, table, set)
  }

  async chooseRecords(files: readonly ChoiceFile[], choice: Choice): Promise<Chosen> {
    return this.scratch(() => chooseRecords(this.#connection, files, choice))
  }

  async space(): Promise<Space> {
    return fileSpace(this.#connection)
  }

  async reclaim(_table: TableName, signal: AbortSignal): Promise<Finding[]> {
    return returnPages(this.#connection, signal)
  }

  async close(): Promise<void> {
    await this.#reader.close()
    this.#connection.close()
  }

  async #transaction<T>(mode: 'deferred' | 'immediate', work: (db: Db) => Promise<T>, isForStep = false): Promise<T> {
    const endTurn = await this.#connection.turns.take()
    try {
      this.#connection.begin(mode, isForStep)
      const result = await work(this.#connection.db)
      this.#connection.commit()
      return result
    } catch (error) {
      this.#connection.rollback()
      throw error
    } finally {
      endTurn()
    }
  }
}

/** A sum as a tree: SQLite takes no expression that is 1000 deep, and a table may have 2000 columns. */
function sumOf(terms: readonly Sql[]): Sql {
  const half = Math.ceil(terms.length / 2)
  const [only] = terms
  if (half < 2) return terms.length === 1 && only !== undefined ? only : sql`(${sql.join(terms, sql` + `)})`
  return sql`(${sumOf(terms.slice(0, half))} + ${sumOf(terms.slice(half))})`
}
