/** One step on Postgres: the bytes of the archive come out of DELETE … RETURNING, or UPDATE … RETURNING, itself. */
import { sql } from 'kysely'

import type { Db, ExportedRows, InspectRequest, RowSelection, Sql, StepTransaction } from '../database.ts'
import { RetentionError } from '../../errors.ts'
import { refusalOf } from '../findings.ts'
import { redactionColumns, type Redaction } from '../redaction.ts'
import type { Gathering, GatheredStep } from '../tree.ts'
import { Transaction, type Connections } from './connection.ts'
import { copyCsv, copyOut } from './copy.ts'
import { rowsOf } from './gathered.ts'
import { inspectTable, isTable, type PostgresInspection } from './inspect.ts'
import { lockForm, lockRestores } from './locks.ts'
import { prepareNotes, proveRedacted, redactRows } from './redact-step.ts'
import { setColumns } from './redaction.ts'
import { gatherStep, lockTree, treeSignature } from './step-tree.ts'
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
      // Against this lock nobody can add a foreign key, a trigger or a rule, or change a column, until we commit; but a
      // table may still be made a child or a partition of ours.
      await lockForm(db, named, await columnsToSet(db, request))
      // A hold on these rows, of a restore or of its own, is either there and seen, or placed when we have ended.
      await lockRestores(db, named, 'shared')
    }
    const table = await findTable(db, request.table)
    const family = table === undefined ? undefined : await readFamily(db, table)
    const look = (): Promise<PostgresInspection> => inspectTable(db, table, request, care)
    const inspection = await lockTree(db, await look(), look)
    if (mayDiffer(inspection) && table !== undefined) await prepareNotes(db, table, inspection.column)
    return new PostgresStep(transaction, request, table, family, inspection)
  } catch (error) {
    await transaction.rollback()
    throw error
  }
}

/** The columns that are to be overwritten, as far as they are there; undefined where rows go. */
async function columnsToSet(db: Db, { table, set }: InspectRequest): Promise<string[] | undefined> {
  const found = set === undefined ? undefined : await findTable(db, table)
  return found === undefined || set === undefined ? undefined : setColumns(found, set).map(({ name }) => name)
}

/** Whether rows may come to hold something else than what is written to them. */
function mayDiffer({ redaction, triggers }: PostgresInspection): boolean {
  return redaction !== undefined && triggers.length > 0
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
  readonly inspection: PostgresInspection
  readonly #transaction: Transaction
  readonly #request: InspectRequest
  readonly #table: CatalogTable | undefined
  readonly #family: string | undefined

  constructor(
    transaction: Transaction,
    request: InspectRequest,
    table: CatalogTable | undefined,
    family: string | undefined,
    inspection: PostgresInspection,
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
    const { redaction } = this.inspection
    if (redaction !== undefined) return this.#redact(rows, redaction, skipLocked, signal)
    const columns = (this.#table?.columns ?? []).filter((column) => !column.generated)
    const deletion =
      skipLocked && this.#table?.mayLockRows === true ? deleteUnlocked(rows, columns) : deleteAll(rows, columns)
    const copy = copyOut(this.#transaction, copyCsv(deletion, columns), signal)
    // What was read has been deleted by being read.
    return { columns, csv: copy, count: copy.rows, records: copy.records, remove: () => this.#lookAgain() }
  }

  #redact(
    rows: RowSelection,
    redaction: Redaction,
    skipLocked: boolean,
    signal: AbortSignal | undefined,
  ): ExportedRows {
    const table = this.#table
    if (table === undefined) throw new TypeError('rows of a table that was found')
    const { inspection } = this
    const columns = redactionColumns(table.columns, table.key, inspection.column, redaction.set)
    const { column, triggers } = inspection
    const notes = mayDiffer(inspection) ? { time: column } : undefined
    const update = redactRows(rows, table, redaction, columns, skipLocked, notes)
    const copy = copyOut(this.#transaction, copyCsv(update, columns), signal)
    const remove = async (): Promise<void> => {
      if (notes !== undefined) await proveRedacted(this.db, rows, redaction, column, triggers)
      await this.#lookAgain()
    }
    return { columns, csv: copy, count: copy.rows, records: copy.records, remove }
  }

  async gather(request: Gathering, skipLocked: boolean, signal?: AbortSignal): Promise<GatheredStep> {
    const { tree } = this.inspection
    if (tree === undefined) throw new TypeError('no tree was asked for')
    const signature = await treeSignature(this.db, tree)
    const step = await gatherStep(this.#transaction, tree, request, skipLocked, signal)
    const remove = async (): Promise<void> => {
      await step.remove()
      if ((await treeSignature(this.db, tree)) === signature) return
      const { findings, tree: now } = await inspectTable(this.db, this.#table, this.#request, care)
      const refusal = refusalOf(findings)
      if (refusal !== undefined) throw refusal
      // What has come to hang on these rows meanwhile has not been looked for.
      if (now?.keys.length !== tree.keys.length || now.tables.length !== tree.tables.length) throw treeChanged()
    }
    return { ...step, remove }
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

function treeChanged(): RetentionError {
  return new RetentionError('ROWS_CHANGED', 'The tables of the step were changed while they were archived')
}

/** All children and partitions at any depth, as text that changes when they do. */
async function readFamily(db: Db, { oid }: Pick<CatalogTable, 'oid'>): Promise<string | undefined> {
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
