/** One step on Postgres: the bytes of the archive come out of DELETE … RETURNING itself. */
import { sql } from 'kysely'

import type { Db, ExportedRows, Inspection, InspectRequest, RowSelection, Sql, StepTransaction } from '../database.ts'
import { refusalOf } from '../findings.ts'
import { Transaction, type Connections } from './connection.ts'
import { copyCsv, copyOut } from './copy.ts'
import { inspectTable, isTable } from './inspect.ts'
import { lockRestores } from './locks.ts'
import { findName, findTable, type CatalogTable } from './table.ts'

/** Rows are not read to look at the table: planning has asked them. */
const care = { thorough: false, deletes: true }

/** Begins a step: locks the table against changes of its form, and looks at it. */
export async function beginStep(connections: Connections, request: InspectRequest): Promise<StepTransaction> {
  const transaction = await Transaction.begin(connections, 'read write')
  const { db } = transaction
  try {
    await countAtOnce(transaction, connections.serverVersion)
    const named = await findName(db, request.table)
    if (named !== undefined && isTable(named)) {
      // Against this lock nobody can add a foreign key, a trigger or a rule, or change a column, until we commit. It is
      // the lock that DELETE takes itself, and blocks no reader and no writer; but a table may still be made a child or
      // a partition of ours. https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
      await sql`lock table ${named.sql} in row exclusive mode`.execute(db)
      // A hold on these rows, of a restore or of its own, is either there and seen, or placed when we have ended.
      await lockRestores(db, named, 'shared')
    }
    const table = await findTable(db, request.table)
    const family = table === undefined ? undefined : await readFamily(db, table)
    const inspection = await inspectTable(db, table, request, care)
    return new PostgresStep(transaction, request, table, family, inspection)
  } catch (error) {
    await transaction.rollback()
    throw error
  }
}

/**
 * Lets the statistics know of the dead rows when the step commits. Left to itself, the server may count them 10 seconds
 * later, after a VACUUM has removed them. https://www.postgresql.org/docs/current/monitoring-stats.html
 */
async function countAtOnce({ db }: Transaction, serverVersion: number): Promise<void> {
  if (serverVersion >= 150000) await sql`select pg_stat_force_next_flush()`.execute(db)
}

class PostgresStep implements StepTransaction {
  readonly held = 0
  readonly inspection: Inspection
  readonly #transaction: Transaction
  readonly #request: InspectRequest
  readonly #table: CatalogTable | undefined
  readonly #family: string | undefined

  constructor(
    transaction: Transaction,
    request: InspectRequest,
    table: CatalogTable | undefined,
    family: string | undefined,
    inspection: Inspection,
  ) {
    this.#transaction = transaction
    this.#request = request
    this.#table = table
    this.#family = family
    this.inspection = inspection
  }

  get db(): Db {
    return this.#transaction.db
  }

  export(rows: RowSelection, skipLocked: boolean, signal?: AbortSignal): ExportedRows {
    const columns = (this.#table?.columns ?? []).filter((column) => !column.generated)
    const deletion =
      skipLocked && this.#table?.mayLockRows === true ? deleteUnlocked(rows, columns) : deleteAll(rows, columns)
    const copy = copyOut(this.#transaction, copyCsv(deletion, columns), signal)
    // What was read has been deleted by being read.
    return { columns, csv: copy, count: copy.rows, records: copy.records, remove: () => this.#lookAgain() }
  }

  /**
   * What DELETE has touched is locked now. The one thing that the table's lock allows is that it gets another child or
   * partition, which may have brought foreign keys.
   */
  async #lookAgain(): Promise<void> {
    if (this.#table === undefined || (await readFamily(this.db, this.#table)) === this.#family) return
    const { findings } = await inspectTable(this.db, this.#table, this.#request, care)
    const refusal = refusalOf(findings)
    if (refusal !== undefined) throw refusal
  }

  async commit(): Promise<void> {
    await this.#transaction.commit()
  }

  async rollback(): Promise<void> {
    await this.#transaction.rollback()
  }
}

/** All children and partitions at any depth, as text that changes when they do. */
async function readFamily(db: Db, { oid }: CatalogTable): Promise<string | undefined> {
  const { rows } = await sql<{ family: string }>`
    with recursive family(oid) as (
      select ${oid}::oid union select i.inhrelid from family join pg_inherits i on i.inhparent = family.oid
    )
    select string_agg(oid::text, ' ' order by oid) as family from family
  `.execute(db)
  return rows[0]?.family
}

function deleteAll({ table, where }: RowSelection, columns: RowSelection['table']['columns']): Sql {
  const returning = sql.join(columns.map((column) => sql.id(column.name)))
  return sql`delete from ${rowsOf(table)} where ${where} returning ${returning}`
}

/** Leaves rows that somebody else holds where they are. A tenth slower: for steps that ran into such rows. */
function deleteUnlocked({ table, where }: RowSelection, columns: RowSelection['table']['columns']): Sql {
  const returning = sql.join(columns.map((column) => sql.id('retention_due', column.name)))
  return sql`
    delete from ${rowsOf(table)} as retention_due
    using (
      select tableoid as retention_table, ctid as retention_place from ${rowsOf(table)} where ${where} for update skip locked
    ) as retention_free
    where retention_due.tableoid = retention_free.retention_table and retention_due.ctid = retention_free.retention_place
    returning ${returning}`
}

/** A table's rows: of a partitioned one those of its partitions, of another its own, whatever inherits from it. */
function rowsOf(table: RowSelection['table']): Sql {
  return table.hasPartitions ? table.sql : sql`only ${table.sql}`
}
