/** Whether a policy may work on its table in SQLite. */
import { sql } from 'kysely'

import { messageOf } from '../../errors.ts'
import { formatTableName, type TableName } from '../../config/fields.ts'
import { didYouMean } from '../../config/validate.ts'
import type { Db, Finding, Inspection, InspectRequest, OrderPart, Table } from '../database.ts'
import { predicateTest, wherePredicate } from '../where.ts'
import { foreignKeyFindings } from './foreign-keys.ts'
import { readRedaction } from './redaction.ts'
import { findTable, orderPart, triggersOn, type SchemaTable } from './table.ts'
import { detectStorage, timeColumn } from './time.ts'
import { readTree, type SqliteTree } from './tree.ts'

/** What is found of a table in SQLite, beyond `Inspection`. */
export interface SqliteInspection extends Inspection {
  /** Whether its rows are known by their numbers, and SQLite can write their lines. */
  readonly writesLines: boolean
  readonly tree?: SqliteTree
  /** Triggers that run when its rows are deleted or overwritten. */
  readonly triggers: readonly string[]
}

/** Looks at a policy's table. `thorough` also reads rows: how they store time, and whether foreign keys block. */
export async function inspect(db: Db, request: InspectRequest, thorough: boolean): Promise<SqliteInspection> {
  const found = await findTable(db, request.table)
  const { set } = request
  // Rows that stay keep their numbers.
  const table = found === undefined || set === undefined ? found : { ...found, kept: undefined }
  const cannot = { sideBySide: false, writesLines: false, triggers: [] }
  const nothing = { table: undefined, column: request.column, time: undefined, order: [], ...cannot }
  if (table === undefined) return { ...nothing, findings: [await noSuchTable(db, request.table)] }
  if (table.kind !== 'table') return { ...nothing, findings: [noTable(table)] }
  const column = table.columns.find(({ name }) => name.toLowerCase() === request.column.toLowerCase())
  if (column === undefined) return { ...nothing, table, findings: [noSuchColumn(table, request.column)] }

  const order = orderParts(table, column.name)
  const triggers = await triggersOn(db, table, set === undefined ? 'delete' : 'update')
  const redacting = set === undefined ? undefined : await readRedaction(db, table, set, column.name)
  const findings = [
    ...(await whereFindings(db, table, request.where)),
    ...(redacting?.findings ?? keyFindings(table, order)),
    ...(await indexFindings(db, table, column.name)),
    ...triggerFindings(table, triggers, set === undefined ? 'deleted' : 'updated'),
  ]
  if (findings.some(({ level }) => level === 'refusal')) return { ...nothing, table, findings }

  const where = wherePredicate(request.where)
  const readsRows = thorough && request.storage === undefined
  const detected = readsRows
    ? await detectStorage(db, table.sql, column.name, where, request.hasWorked === true)
    : { storage: request.storage, undated: undefined, everywhere: false, findings: [] }
  const { storage, undated, everywhere, findings: doubts } = detected
  findings.push(...doubts)
  const time = timeColumn(column.name, storage, request.columnTimezone, everywhere)
  const due =
    readsRows && !doubts.some(({ level }) => level === 'refusal')
      ? sql<boolean>`${time.due(request.cutoff)} and ${where}`
      : undefined
  const { children } = request
  const hanging = children === undefined ? undefined : await readTree(db, table, children, due)
  if (redacting === undefined) findings.push(...(hanging?.findings ?? (await foreignKeyFindings(db, table, due))))
  const { rows: modes } = await sql<{ journal: string; encoding: string }>`
    select journal_mode as journal, encoding from pragma_journal_mode, pragma_encoding`.execute(db)
  // In another encoding, text that is taken for bytes is not UTF-8.
  const writesLines = table.rowid !== undefined && modes[0]?.encoding === 'UTF-8'
  // Without a write-ahead log, a reader keeps the writer waiting. https://www.sqlite.org/wal.html
  const sideBySide = writesLines && hanging === undefined && triggers.length === 0 && modes[0]?.journal === 'wal'
  return {
    table,
    column: column.name,
    time,
    order,
    sideBySide,
    writesLines,
    findings,
    triggers,
    ...(redacting === undefined ? {} : { redaction: redacting.redaction }),
    ...(undated === undefined ? {} : { undated }),
    ...(hanging === undefined ? {} : { tree: hanging.tree }),
  }
}

function orderParts(table: SchemaTable, column: string): OrderPart[] {
  const parts = table.rowid === undefined ? (table.primaryKey.length > 0 ? table.primaryKey : table.key) : [table.rowid]
  return [column, ...parts].map(orderPart)
}

function noTable(table: SchemaTable): Finding {
  const hint = 'Only the rows of ordinary tables can be archived.'
  return { level: 'refusal', text: `"${table.name.name}" is a ${table.kind}, not a table`, hint }
}

async function noSuchTable(db: Db, name: TableName): Promise<Finding> {
  const { rows } = await sql<{ name: string }>`
    select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\'
  `.execute(db)
  const written = formatTableName(name)
  return {
    level: 'refusal',
    text: `There is no table "${written}"${didYouMean(
      name.name,
      rows.map((row) => row.name),
    )}`,
    hint: name.schema === undefined ? 'Mend "table" in the policy.' : 'A SQLite table is written without a schema.',
  }
}

function noSuchColumn(table: Table, name: string): Finding {
  const names = table.columns.map((column) => column.name)
  return {
    level: 'refusal',
    text: `"${table.name.name}" has no column "${name}"${didYouMean(name, names)}`,
    hint: `Its columns are: ${names.join(', ')}.`,
  }
}

async function whereFindings(db: Db, table: Table, where: string | undefined): Promise<Finding[]> {
  const error = where === undefined ? undefined : await predicateError(db, where, table)
  if (error === undefined) return []
  return [{ level: 'refusal', text: `"where" is not a predicate on "${table.name.name}": ${error}` }]
}

/** What keeps a text from being one whole predicate on a table; undefined where it is one. */
export async function predicateError(db: Db, where: string, table: Table): Promise<string | undefined> {
  return predicateTest(where, table.sql)
    .execute(db)
    .then(() => undefined, messageOf)
}

function keyFindings(table: SchemaTable, order: readonly OrderPart[]): Finding[] {
  if (order.length < 2) {
    return [
      {
        level: 'refusal',
        text: `Rows of "${table.name.name}" cannot be told apart: columns hide all of rowid, _rowid_ and oid, and there is no primary key`,
        hint: 'Rename one of the columns, or add a unique index over columns that are NOT NULL.',
      },
    ]
  }
  if (table.key.length > 0) return []
  return [
    {
      level: 'warning',
      text: `"${table.name.name}" has no primary key and no unique index over columns that are NOT NULL`,
      hint: 'A restore is held by time range instead of row by row.',
    },
  ]
}

async function indexFindings(db: Db, table: SchemaTable, column: string): Promise<Finding[]> {
  const { rows } = await sql`
    select 1 from pragma_index_list(${table.name.name}) as i, pragma_index_info(i.name) as c
    where i.partial = 0 and c.seqno = 0 and c.name = ${column}
  `.execute(db)
  if (rows.length > 0 || (table.key.length === 1 && table.key[0] === column)) return []
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  return [
    {
      level: 'warning',
      text: `Column "${column}" of "${table.name.name}" has no index: every step reads the whole table`,
      hint: `CREATE INDEX ${quoted(`${table.name.name}_${column}`)} ON ${quoted(table.name.name)} (${quoted(column)});`,
    },
  ]
}

function triggerFindings(table: Table, names: readonly string[], done: 'deleted' | 'updated'): Finding[] {
  if (names.length === 0) return []
  return [
    {
      level: 'warning',
      text: `Triggers run when rows of "${table.name.name}" are ${done}: ${names.join(', ')}`,
      hint: 'What they change is not archived.',
    },
  ]
}
