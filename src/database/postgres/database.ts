/** Postgres behind the house's one interface. */
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
  Partitioning,
  RestoreTransaction,
  RowSelection,
  Space,
  StepTransaction,
  Table,
} from '../database.ts'
import type { Gathered, Gathering } from '../tree.ts'
import { candidates } from './candidates.ts'
import { chooseRecords } from './choose.ts'
import { Connections, postgresLocation, Transaction, type Limits } from './connection.ts'
import { tableDdl } from './ddl.ts'
import { gather } from './gather.ts'
import { inspect, isTable, predicateError } from './inspect.ts'
import { beginPartitionStep } from './partition-step.ts'
import { wholePartitions } from './partitions.ts'
import { findName, findTable } from './table.ts'
import { isLocked, lockGone, lockRestores, takeLock } from './locks.ts'
import { pressureOn } from './pressure.ts'
import { beginRestore } from './restore.ts'
import { tableSpace } from './space.ts'
import { beginStep } from './step.ts'
import type { PostgresTree } from './tree.ts'
import { vacuum } from './vacuum.ts'

/** Connects to a Postgres database. @throws RetentionError `DATABASE_UNREACHABLE` */
export async function openPostgres(address: string, limits: Limits, access: 'read' | 'write'): Promise<Database> {
  const location = postgresLocation(address)
  const connections = new Connections(address, location, limits)
  try {
    const client = await connections.connect()
    client.release()
  } catch (error) {
    await connections.close()
    throw error
  }
  return new PostgresDatabase(connections, location, access)
}

class PostgresDatabase implements Database {
  readonly kind = 'postgres'
  readonly instantType = 'timestamptz'
  readonly hasOneWriter = false
  readonly location: string
  readonly partitioning: Partitioning
  readonly #connections: Connections
  readonly #access: 'read' | 'write'

  constructor(connections: Connections, location: string, access: 'read' | 'write') {
    this.#connections = connections
    this.#access = access
    this.location = location
    this.partitioning = {
      whole: (db, inspection, request) => wholePartitions(db, inspection, request, access === 'write'),
      step: (request, partition) => beginPartitionStep(connections, request, partition),
    }
  }

  get version(): string {
    return `${Math.floor(this.#connections.serverVersion / 10000)}.${this.#connections.serverVersion % 10000}`
  }

  async read<T>(work: (db: Db) => Promise<T>): Promise<T> {
    // Counting what is due in a large table may take longer than any step.
    return this.#transaction('read only', { ...this.#connections.limits, step: 0 }, work)
  }

  async scratch<T>(work: (db: Db) => Promise<T>): Promise<T> {
    const transaction = await Transaction.begin(this.#connections, 'read write', {
      ...this.#connections.limits,
      step: 0,
    })
    try {
      return await work(transaction.db)
    } finally {
      await transaction.rollback()
    }
  }

  async gather(db: Db, request: Gathering): Promise<Gathered> {
    // The tree of an inspection is ours.
    return gather(db, request.tree as PostgresTree, request, 'none')
  }

  async write<T>(work: (db: Db) => Promise<T>): Promise<T> {
    return this.#transaction('read write', this.#connections.limits, work)
  }

  async inspect(db: Db, request: InspectRequest): Promise<Inspection> {
    return inspect(db, request, { thorough: true, deletes: this.#access === 'write' })
  }

  async averageRowBytes(db: Db, { table, where }: RowSelection): Promise<number> {
    const columns = sql.join(table.columns.filter((column) => !column.generated).map((column) => sql.id(column.name)))
    const { rows } = await sql<{ bytes: number }>`
      select coalesce(avg(octet_length(sample::text)), 0)::float8 as bytes
      from (select ${columns} from ${table.sql} where ${where} limit 500) sample
    `.execute(db)
    return rows[0]?.bytes ?? 0
  }

  async ddl(db: Db, table: TableName): Promise<string[]> {
    const found = await findName(db, table)
    return found === undefined ? [] : tableDdl(db, found.oid)
  }

  async apart<T>(names: readonly TableName[], work: (db: Db) => Promise<T>): Promise<T> {
    const { lock, step } = this.#connections.limits
    // Steps that are under way are waited for, and none of them takes longer.
    return this.#transaction('read write', { lock: step, step }, async (db) => {
      for (const name of names) {
        const table = await findName(db, name)
        await (table !== undefined && isTable(table) ? lockRestores(db, table, 'exclusive') : lockGone(db, name))
      }
      await sql`select set_config('lock_timeout', ${String(lock)}, true)`.execute(db)
      return work(db)
    })
  }

  async findTable(db: Db, name: TableName): Promise<Table | undefined> {
    const table = await findTable(db, name)
    return table !== undefined && isTable(table) ? table : undefined
  }

  async predicateError(db: Db, where: string, table: Table): Promise<string | undefined> {
    return predicateError(db, where, table)
  }

  async tableExists(db: Db, table: TableName): Promise<boolean> {
    return (await findName(db, table)) !== undefined
  }

  async candidates(db: Db, days: readonly number[], now: Date): Promise<Candidate[]> {
    return candidates(db, days, now)
  }

  async lock(name: string): Promise<Lock | undefined> {
    return takeLock(this.#connections, name)
  }

  async isLocked(name: string): Promise<boolean> {
    return this.read((db) => isLocked(db, name))
  }

  async pressure(table: TableName, limits: Throttle): Promise<Felt> {
    return this.read(async (db) => {
      const { pressures, hidden } = await pressureOn(db, table, limits)
      const isBusy = limits.busyWriters && (await this.#connections.otherWriters.areBusy(db))
      return { pressures: isBusy ? [...pressures, { signal: 'busyWriters', text: 'others write' }] : pressures, hidden }
    })
  }

  async watchWriters(): Promise<() => Promise<number>> {
    const count = await this.read((db) => this.#connections.otherWriters.watch(db))
    return async () => this.read(count)
  }

  async step(request: InspectRequest): Promise<StepTransaction> {
    return beginStep(this.#connections, request)
  }

  // Each commit is durable when it returns.
  async settle(): Promise<void> {}

  async restore(
    table: TableName,
    lost: LostPartitions = { partitions: [], time: undefined },
    set?: readonly string[],
  ): Promise<RestoreTransaction | undefined> {
    return beginRestore(this.#connections, table, lost, set)
  }

  async chooseRecords(files: readonly ChoiceFile[], choice: Choice): Promise<Chosen> {
    return chooseRecords(this.#connections, files, choice)
  }

  async space(table: TableName, deleted: number): Promise<Space> {
    const hasOldStatistics = this.#connections.serverVersion < 150000
    const work = async (db: Db): Promise<Space> => tableSpace(db, table, deleted, hasOldStatistics)
    return this.#transaction('read only', this.#connections.limits, work)
  }

  async reclaim(table: TableName, signal: AbortSignal): Promise<Finding[]> {
    return vacuum(this.#connections, table, signal)
  }

  async close(): Promise<void> {
    await this.#connections.close()
  }

  async #transaction<T>(mode: 'read only' | 'read write', limits: Limits, work: (db: Db) => Promise<T>): Promise<T> {
    const transaction = await Transaction.begin(this.#connections, mode, limits)
    try {
      const result = await work(transaction.db)
      await transaction.commit()
      return result
    } catch (error) {
      await transaction.rollback()
      throw error
    }
  }
}
