/** One step on Postgres: the bytes of the archive come out of DELETE … RETURNING itself. */
import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type {
  CsvExport,
  Db,
  Inspection,
  InspectRequest,
  RowSelection,
  Sql,
  StepTransaction,
  Table,
} from '../database.ts'
import { Transaction, type Connections } from './connection.ts'
import { copyOut } from './copy.ts'
import { inspect } from './inspect.ts'
import { findTable } from './table.ts'
import { withLiterals } from './literal.ts'

export class PostgresStep implements StepTransaction {
  readonly #connections: Connections
  #transaction: Transaction | undefined

  constructor(connections: Connections) {
    this.#connections = connections
  }

  get db(): Db {
    return this.#open().db
  }

  async begin(request: InspectRequest): Promise<Inspection> {
    this.#transaction = await Transaction.begin(this.#connections, 'read write')
    const { db } = this.#transaction
    const table = await findTable(db, request.table)
    // Against this lock nobody can add a foreign key, a trigger or a rule, or change a column, until we commit:
    // what is found now stays true. It is the lock that DELETE takes itself, and blocks no reader and no writer.
    if (table?.kind === 'r' || table?.kind === 'p') await sql`lock table ${table.sql} in row exclusive mode`.execute(db)
    return inspect(db, request, { thorough: false, deletes: true })
  }

  async export(rows: RowSelection, skipLocked: boolean, signal?: AbortSignal): Promise<CsvExport> {
    const transaction = this.#open()
    const columns = rows.table.columns.filter((column) => !column.generated)
    const passesOver = skipLocked && (await mayLockRows(transaction.db, rows.table))
    const deletion = passesOver ? deleteUnlocked(rows, columns) : deleteAll(rows, columns)
    const text = withLiterals(sql`copy (${deletion}) to stdout with (format csv, header true, encoding 'UTF8')`)
    const copy = copyOut(transaction, text, signal)
    return { columns, csv: copy, rows: () => copy.rows() }
  }

  async remove(): Promise<void> {
    // Exporting has deleted them.
  }

  async commit(): Promise<void> {
    await this.#open().commit()
  }

  async rollback(): Promise<void> {
    await this.#transaction?.rollback()
  }

  #open(): Transaction {
    if (this.#transaction === undefined) throw new RetentionError('DATABASE_FAILED', 'The step has not begun')
    return this.#transaction
  }
}

function deleteAll({ table, where }: RowSelection, columns: RowSelection['table']['columns']): Sql {
  const returning = sql.join(columns.map((column) => sql.id(column.name)))
  return sql`delete from ${table.sql} where ${where} returning ${returning}`
}

/** Leaves rows that somebody else holds where they are. A tenth slower: for steps that ran into such rows. */
function deleteUnlocked({ table, where }: RowSelection, columns: RowSelection['table']['columns']): Sql {
  const returning = sql.join(columns.map((column) => sql.id('retention_due', column.name)))
  return sql`
    delete from ${table.sql} as retention_due
    using (
      select tableoid as retention_table, ctid as retention_place from ${table.sql} where ${where} for update skip locked
    ) as retention_free
    where retention_due.tableoid = retention_free.retention_table and retention_due.ctid = retention_free.retention_place
    returning ${returning}`
}

/** Postgres lets only those lock rows who may update them. */
async function mayLockRows(db: Db, { name }: Table): Promise<boolean> {
  const { rows } = await sql<{ may: boolean }>`
    select has_any_column_privilege(format('%I.%I', ${name.schema ?? ''}::text, ${name.name}::text), 'UPDATE') as may
  `.execute(db)
  return rows[0]?.may === true
}
