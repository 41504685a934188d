/** Whether a policy may work on its table in Postgres. */
import { sql } from 'kysely'

import { messageOf } from '../../errors.ts'
import { formatTableName, type TableName } from '../../config/fields.ts'
import { didYouMean } from '../../config/validate.ts'
import type { Db, Finding, Inspection, InspectRequest, OrderPart, SqlValue, Table } from '../database.ts'
import { predicateTest, wherePredicate } from '../where.ts'
import { foreignKeyFindings } from './foreign-keys.ts'
import { readRedaction, setColumns } from './redaction.ts'
import { tableFindings } from './table-findings.ts'
import { findName, findTable, type CatalogTable } from './table.ts'
import { timeColumn } from './time.ts'
import { readTree, type PostgresTree } from './tree.ts'

/** How closely to look. */
export interface Care {
  /** Also ask whether foreign keys would block the delete, which reads rows. */
  readonly thorough: boolean
  /** Whether this very role is about to delete; one that may only read can plan for another. */
  readonly deletes: boolean
}

/** What is found of a table in Postgres, beyond `Inspection`. */
export interface PostgresInspection extends Inspection {
  readonly tree?: PostgresTree
  /** Triggers that run when its rows are deleted or overwritten. */
  readonly triggers: readonly string[]
}

/** Finds a table, and keeps it from changing its form as long as it is looked at. */
async function findSteadyTable(db: Db, name: TableName): Promise<CatalogTable | undefined> {
  const table = await findName(db, name)
  // The lock of any SELECT.
  if (table?.maySelect === true && isTable(table)) await sql`lock table ${table.sql} in access share mode`.execute(db)
  return findTable(db, name)
}

/** Looks at a policy's table. */
export async function inspect(db: Db, request: InspectRequest, care: Care): Promise<Inspection> {
  return inspectTable(db, await findSteadyTable(db, request.table), request, care)
}

/** Whether it has rows of its own, or partitions that have. */
export function isTable({ kind }: Pick<CatalogTable, 'kind'>): boolean {
  return kind === 'r' || kind === 'p'
}

/** The same of a table that was found, and is locked. */
export async function inspectTable(
  db: Db,
  table: CatalogTable | undefined,
  request: InspectRequest,
  care: Care,
): Promise<PostgresInspection> {
  const nothing = {
    table: undefined,
    column: request.column,
    time: undefined,
    order: [],
    sideBySide: false,
    triggers: [],
  }
  if (table === undefined) return { ...nothing, findings: [await noSuchTable(db, request.table)] }
  if (!isTable(table)) return { ...nothing, findings: [noTable(table)] }
  const column = table.columns.find(({ name }) => name === request.column)
  const time = column === undefined ? undefined : timeColumn(column, request.columnTimezone)
  if (column === undefined || time === undefined) {
    return { ...nothing, table, findings: [noTimeColumn(table, request.column)] }
  }

  const { set } = request
  const names = set === undefined ? undefined : setColumns(table, set).map(({ name }) => name)
  const found = await tableFindings(db, table, request.column, care.deletes, names)
  const findings = [...(await whereFindings(db, table, request.where)), ...found.findings]
  const order = [...[column.name].flatMap((name) => table.orderBy(name) ?? []), ...keyParts(table, column.name)]
  if (set !== undefined) {
    const { redaction, findings: more } = await readRedaction(db, table, set, column.name)
    const { triggers } = found
    const sideBySide = triggers.length === 0
    return {
      table,
      column: column.name,
      time,
      order,
      sideBySide,
      findings: [...findings, ...more],
      triggers,
      redaction,
    }
  }
  findings.push(...keyFindings(table))
  const readsRows = care.thorough && request.storage === undefined && !findings.some(({ level }) => level === 'refusal')
  const due = readsRows ? sql<boolean>`${time.due(request.cutoff)} and ${wherePredicate(request.where)}` : undefined
  const { children } = request
  const hanging = children === undefined ? undefined : await readTree(db, table, children, due, care.deletes)
  findings.push(...(hanging?.findings ?? (await foreignKeyFindings(db, table, due))))
  const { triggers } = found
  const sideBySide = triggers.length === 0 && hanging === undefined
  const tree = hanging === undefined ? {} : { tree: hanging.tree }
  return { table, column: column.name, time, order, sideBySide, findings, triggers, ...tree }
}

/** @param time comes before them, and is not told twice: a query's columns have different names */
function keyParts(table: CatalogTable, time: string): OrderPart[] {
  if (table.key.length > 0) {
    return table.key.filter((name) => name !== time).flatMap((name) => table.orderBy(name) ?? [])
  }
  // Without a key, the row's place tells rows apart; in partitions it is unique only together with the partition.
  return [systemPart('tableoid', 'oid'), systemPart('ctid', 'tid')]
}

function systemPart(name: string, type: string): OrderPart {
  return {
    value: sql.id(name),
    read: sql<SqlValue>`${sql.id(name)}::text`,
    bind: (value) => sql`cast(${value} as ${sql.raw(type)})`,
  }
}

function noTable(table: CatalogTable): Finding {
  const hint = 'Only the rows of ordinary and partitioned tables can be archived.'
  return { level: 'refusal', text: `${formatTableName(table.name)} is ${kindName(table.kind)}, not a table`, hint }
}

async function noSuchTable(db: Db, name: TableName): Promise<Finding> {
  const { rows } = await sql<{ schema: string; name: string; visible: boolean }>`
    select n.nspname as schema, c.relname as name, pg_table_is_visible(c.oid) as visible
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
  `.execute(db)
  const written = formatTableName(name)
  const elsewhere = rows.find((row) => row.name === name.name)
  const names = rows.map((row) =>
    formatTableName({ schema: row.visible && name.schema === undefined ? undefined : row.schema, name: row.name }),
  )
  const near = elsewhere === undefined ? didYouMean(written, names) : ` (did you mean "${formatTableName(elsewhere)}"?)`
  return {
    level: 'refusal',
    text: `There is no table "${written}"${near}`,
    hint: 'Mend "table" in the policy. Letter case counts.',
  }
}

function noTimeColumn(table: CatalogTable, name: string): Finding {
  const column = table.columns.find((candidate) => candidate.name === name)
  const usable = table.columns
    .filter((candidate) => timeColumn(candidate, 'UTC') !== undefined)
    .map((candidate) => candidate.name)
  const hint =
    usable.length === 0
      ? `${formatTableName(table.name)} has no timestamp or date column.`
      : `Columns of ${formatTableName(table.name)} that can age rows: ${usable.join(', ')}.`
  const text =
    column === undefined
      ? `${formatTableName(table.name)} has no column "${name}"${didYouMean(
          name,
          table.columns.map((candidate) => candidate.name),
        )}`
      : `Column "${name}" of ${formatTableName(table.name)} is of type ${column.type}, which does not say how old a row is`
  return { level: 'refusal', text, hint }
}

function keyFindings(table: CatalogTable): Finding[] {
  if (table.key.length > 0) return []
  return [
    {
      level: 'warning',
      text: `${formatTableName(table.name)} has no primary key and no unique index over columns that are NOT NULL`,
      hint: 'A deferrable one does not serve. Rows are told apart by their place, and a restore is held by time range instead of row by row.',
    },
  ]
}

async function whereFindings(db: Db, table: CatalogTable, where: string | undefined): Promise<Finding[]> {
  const error = where === undefined ? undefined : await predicateError(db, where, table)
  if (error === undefined) return []
  return [{ level: 'refusal', text: `"where" is not a predicate on ${formatTableName(table.name)}: ${error}` }]
}

/** What keeps a text from being one whole predicate on a table; undefined where it is one. */
export async function predicateError(db: Db, where: string, table: Table): Promise<string | undefined> {
  // It would stand for a value of the query around it.
  if (/\$\d/.test(where.replaceAll(/'(?:[^']|'')*'/g, ''))) return 'it has a parameter, such as $1'
  await sql`savepoint retention_where`.execute(db)
  try {
    await predicateTest(where, table.sql).execute(db)
    return undefined
  } catch (error) {
    return messageOf(error)
  } finally {
    await sql`rollback to savepoint retention_where`.execute(db)
  }
}

function kindName(kind: string): string {
  return { v: 'a view', m: 'a materialized view', f: 'a foreign table' }[kind] ?? 'something else'
}
