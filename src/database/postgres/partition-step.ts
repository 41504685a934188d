/**
 * One step on Postgres that archives a partition whole: copied from a snapshot, in nobody's way. Then a short transaction
 * proves that it is still the same, while writers of this old partition alone wait, and for the moment of dropping it
 * keeps all others from the table.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import { codeOf, hasCode, RetentionError } from '../../errors.ts'
import type {
  Db,
  ExportedRows,
  Inspection,
  InspectRequest,
  Partition,
  RowSelection,
  Sql,
  StepTransaction,
} from '../database.ts'
import { refusalOf } from '../findings.ts'
import { Transaction, type Connections } from './connection.ts'
import { copyCsv, copyOut } from './copy.ts'
import { inspectTable } from './inspect.ts'
import { lockRestores } from './locks.ts'
import { definePartition } from './partition-ddl.ts'
import { obstacleTo } from './partition-obstacles.ts'
import { findLeaf, type Leaf } from './partitions.ts'
import { lookAt, proveSame, type Seen } from './partition-proof.ts'
import { findTable, type CatalogTable } from './table.ts'

/** Rows are not read to look at the table: planning has asked them. */
const care = { thorough: false, deletes: true }

/**
 * The longest wait for a lock, in milliseconds: in a deadlock it is we who give way, as Postgres looks for one after a
 * second; and whoever comes while we wait for the table, waits behind us.
 */
const longestWait = 500
/** How often the partition is tried to be dropped, and how long is waited first, in milliseconds. */
const attempts = 4
const firstWait = 200

/** Begins a step that drops a partition: takes a snapshot of it, and looks at the table. */
export async function beginPartitionStep(
  connections: Connections,
  request: InspectRequest,
  name: TableName,
): Promise<StepTransaction> {
  const transaction = await Transaction.begin(connections, 'one snapshot')
  const { db } = transaction
  try {
    const table = await findTable(db, request.table)
    const leaf = table === undefined ? undefined : await findLeaf(db, table, request.column, name)
    if (table === undefined || leaf === undefined) throw changed(name, 'it is no partition any more')
    // The lock of any SELECT.
    await sql`lock table only ${sqlName(leaf.table)} in access share mode`.execute(db)
    const inspection = await inspectTable(db, table, request, care)
    const partition = await definePartition(db, leaf)
    return new PartitionStep(connections, request, { table, leaf, partition }, inspection, transaction)
  } catch (error) {
    await transaction.rollback()
    throw error
  }
}

/** A partition as it was when the step began. */
interface Found {
  readonly table: CatalogTable
  readonly leaf: Leaf
  readonly partition: Partition
}

class PartitionStep implements StepTransaction {
  readonly held = 0
  readonly inspection: Inspection
  readonly #connections: Connections
  readonly #request: InspectRequest
  readonly #found: Found
  /** First the one that reads, then the one that drops. */
  #transaction: Transaction

  constructor(
    connections: Connections,
    request: InspectRequest,
    found: Found,
    inspection: Inspection,
    transaction: Transaction,
  ) {
    this.#connections = connections
    this.#request = request
    this.#found = found
    this.inspection = inspection
    this.#transaction = transaction
  }

  get db(): Db {
    return this.#transaction.db
  }

  async gather(): Promise<never> {
    throw new TypeError('what hangs on rows goes with them one by one')
  }

  // No row is locked before all are.
  export(rows: RowSelection, _skipLocked: boolean, signal?: AbortSignal): ExportedRows {
    const columns = this.#found.table.columns.filter((column) => !column.generated)
    let seen: Seen | undefined
    let [count, records] = [0, 0]
    const read = async function* (this: PartitionStep): AsyncGenerator<Buffer> {
      const name = sqlName(this.#found.leaf.table)
      const from = rowsOf(this.#found)
      const begun = performance.now()
      seen = await lookAt(this.db, from, rows.where)
      if (seen.due !== seen.rows) throw changed(this.#found.leaf.table, 'not all of its rows are due')
      // The proof that it is the same will take as long.
      if (performance.now() - begun > this.#connections.limits.lock) throw tooLarge(this.#found.leaf.table)
      const list = sql.join(columns.map((column) => sql.id(column.name)))
      const copy = copyOut(this.#transaction, copyCsv(sql`select ${list} from only ${name}`, columns), signal)
      yield* copy
      records = copy.records()
      count = await copy.rows()
      // Storing the archive may take long; an open snapshot would keep VACUUM from its work everywhere.
      await this.#transaction.commit()
    }
    return {
      columns,
      partition: this.#found.partition,
      csv: read.call(this),
      count: async () => count,
      records: () => records,
      remove: async (held) => {
        if (seen === undefined || seen.rows !== count) throw changed(this.#found.leaf.table, 'it was not read whole')
        await this.#remove(seen, held, signal)
      },
    }
  }

  /** @throws RetentionError `ROWS_CHANGED`, also when others held it for too long */
  async #remove(seen: Seen, held: () => Promise<Sql<boolean> | undefined>, signal?: AbortSignal): Promise<void> {
    const { limits } = this.#connections
    for (let attempt = 1; ; attempt += 1) {
      this.#transaction = await Transaction.begin(this.#connections, 'read write', {
        ...limits,
        lock: Math.min(limits.lock, longestWait),
      })
      try {
        await this.#drop(seen, held)
        return
      } catch (error) {
        await this.#transaction.rollback()
        const isBusy = hasCode(error, 'DATABASE_BUSY')
        if (hasCode(error, 'DATABASE_FAILED') || (isBusy && attempt === attempts)) {
          throw changed(this.#found.leaf.table, error.message, error)
        }
        if (!isBusy) throw error
        await sleep(
          firstWait * 2 ** (attempt - 1) * (0.5 + Math.random()),
          undefined,
          signal === undefined ? {} : { signal },
        )
      }
    }
  }

  async #drop(seen: Seen, held: () => Promise<Sql<boolean> | undefined>): Promise<void> {
    const { db } = this
    const { table, leaf, partition } = this.#found
    const name = sqlName(leaf.table)
    const parent = sqlName(leaf.of)
    // 1. Whoever writes to this partition has ended, or waits; everything else goes on, in other partitions too.
    await lockRestores(db, table, 'shared')
    await sql`lock table only ${name} in share mode`.execute(db)
    // 2. Prove that its rows are those that were read, and that none of them is held by now.
    const refusal = refusalOf(
      (await inspectTable(db, await findTable(db, this.#request.table), this.#request, care)).findings,
    )
    if (refusal !== undefined) throw refusal
    const isHeld = await held()
    await this.#limitTo(this.#connections.limits.lock)
    const proof = await proveSame(db, rowsOf(this.#found), isHeld, seen).catch((error: unknown) => {
      // query_canceled
      throw codeOf(error instanceof Error ? error.cause : undefined) === '57014' ? tooLarge(leaf.table) : error
    })
    if (!proof) throw changed(leaf.table, 'its rows changed, or were held, while they were archived')
    await this.#limitTo(this.#connections.limits.step)
    // 3. Nobody is in the table now, and everybody waits from here on: no more than must be is done until the commit.
    // Of a table with partitions ONLY is itself. https://www.postgresql.org/docs/current/sql-lock.html
    await sql`lock table only ${parent}, only ${name} in access exclusive mode`.execute(db)
    const now = await findLeaf(db, table, this.#request.column, leaf.table)
    const against = now?.oid === leaf.oid ? await obstacleTo(db, now, true) : { text: 'it is another by now' }
    if (now === undefined || against !== undefined) throw changed(leaf.table, against?.text ?? 'it is gone')
    if (JSON.stringify(await definePartition(db, now)) !== JSON.stringify(partition)) {
      throw changed(leaf.table, 'its form changed while it was archived')
    }
    await sql`alter table ${parent} detach partition ${name}`.execute(db)
    await sql`drop table ${name}`.execute(db)
  }

  async #limitTo(milliseconds: number): Promise<void> {
    await sql`select set_config('statement_timeout', ${String(milliseconds)}, true)`.execute(this.db)
  }

  async commit(): Promise<void> {
    await this.#transaction.commit()
  }

  async rollback(): Promise<void> {
    await this.#transaction.rollback()
  }
}

/** A partition's rows, under the name of its table, by which a hold may call it. */
function rowsOf({ table, leaf }: Found): Sql {
  return sql`only ${sqlName(leaf.table)} as ${sql.id(table.name.name)}`
}

function sqlName({ schema = 'public', name }: TableName): ReturnType<typeof sql.id> {
  return sql.id(schema, name)
}

function changed(table: TableName, why: string, cause?: unknown): RetentionError {
  return new RetentionError('ROWS_CHANGED', `Partition ${formatTableName(table)} cannot be dropped whole: ${why}`, {
    cause,
  })
}

function tooLarge(table: TableName): RetentionError {
  return changed(table, 'to prove that it has not changed would take longer than "lockTimeout"')
}
