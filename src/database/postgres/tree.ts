/** The tables that foreign keys lead to from a policy's table down, and what stands against archiving their rows along. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import type { Db, Finding, Sql } from '../database.ts'
import {
  isAllowed,
  linkRefusal,
  strayFindings,
  type Children,
  type KeyEffect,
  type Tree,
  type TreeKey,
  withOwn,
} from '../tree.ts'
import { keyFindings, referencingKeys, type ForeignKey } from './foreign-keys.ts'
import { tableFindings } from './table-findings.ts'
import { findTable, type CatalogTable } from './table.ts'

/** A key, and the relations that it is between: a partition perhaps, where the tree has the whole table. */
export interface PostgresKey extends TreeKey {
  readonly childSql: Sql
  readonly parentSql: Sql
  /** By which the referenced columns, on the left, are compared with the key's own. */
  readonly operators: readonly string[]
}

export type PostgresTree = Tree<CatalogTable, PostgresKey>

/** pg_constraint.confdeltype */
const effects: Readonly<Record<string, KeyEffect>> = { c: 'goes', a: 'goes', r: 'goes', n: 'null', d: 'default' }

/**
 * Walks the foreign keys from a table down.
 * @param due rows of the table that would go; undefined reads no rows
 * @param deletes whether this very role is about to delete
 */
export async function readTree(
  db: Db,
  table: CatalogTable,
  children: Children,
  due: Sql<boolean> | undefined,
  deletes: boolean,
): Promise<{ tree: PostgresTree; findings: Finding[] }> {
  const tables: { table: CatalogTable; goes: boolean }[] = [{ table, goes: true }]
  const keys: PostgresKey[] = []
  const findings: Finding[] = [...lockFindings(table, deletes)]
  const walked = new Set<number>()
  const allowed = withOwn(children, table.name)
  for (let at = 0; at !== -1; at = tables.findIndex(({ goes }, index) => goes && !walked.has(index))) {
    walked.add(at)
    const parent = tables[at]?.table ?? table
    if (at > 0) findings.push(...(await childFindings(db, parent, deletes)))
    for (const key of await referencingKeys(db, parent.oid)) {
      if (!isAllowed(allowed, { schema: key.schema, name: key.table }, isSame)) {
        findings.push(...(await keyFindings(db, parent, key, at === 0 ? due : undefined)))
        if (at > 0 && effects[key.action] === 'goes' && key.action !== 'c') findings.push(leftOut(parent, key))
        continue
      }
      if (key.isTemporal) findings.push(temporal(key))
      const child = await placeOf(db, key, tables)
      if (child === undefined) {
        findings.push(ofTheWhole(table, key))
        continue
      }
      const found = treeKey(key, child.at, at)
      if (found.effect === 'goes') child.entry.goes = true
      const refusal = found.effect === 'goes' ? undefined : linkRefusal(found, child.entry.table)
      if (refusal !== undefined) findings.push(refusal)
      if (!key.hasIndex) findings.push(noIndex(key))
      keys.push(found)
    }
  }
  for (const { table: linked, goes } of tables) if (!goes) findings.push(...(await linkedFindings(db, linked, deletes)))
  const tree = { tables, keys }
  return { tree, findings: [...findings, ...strayFindings(children, tree, isSame)] }
}

/** Letter case counts. */
function isSame(a: string, b: string): boolean {
  return a === b
}

/** Where the tree has a key's table; undefined where it has only a partition of it. */
async function placeOf(
  db: Db,
  key: ForeignKey,
  tables: { table: CatalogTable; goes: boolean }[],
): Promise<{ at: number; entry: { table: CatalogTable; goes: boolean } } | undefined> {
  const name = { schema: key.rootSchema, name: key.rootTable }
  const at = tables.findIndex(({ table }) => isTable(table.name, name))
  const there = tables[at]
  if (there !== undefined) return { at, entry: there }
  if (tables.some(({ table }) => table.relatives.some((relative) => isTable(relative, name)))) return undefined
  const table = await findTable(db, name)
  if (table === undefined) return undefined
  const entry = { table, goes: false }
  tables.push(entry)
  return { at: tables.length - 1, entry }
}

function isTable(a: TableName, b: TableName): boolean {
  return a.schema === b.schema && a.name === b.name
}

function treeKey(key: ForeignKey, child: number, parent: number): PostgresKey {
  return {
    name: `foreign key "${key.name}"`,
    child,
    parent,
    columns: key.columns,
    referenced: key.referenced,
    effect: effects[key.action] ?? 'goes',
    sets: key.sets.length > 0 ? key.sets : key.columns,
    childSql: sql.id(key.schema, key.table),
    parentSql: sql.id(key.toSchema, key.toTable),
    operators: key.operators,
  }
}

/** What stands against deleting rows of a table that hangs on others. */
async function childFindings(db: Db, table: CatalogTable, deletes: boolean): Promise<Finding[]> {
  const { findings } = await tableFindings(db, table, undefined, deletes)
  return [...findings, ...lockFindings(table, deletes)]
}

async function linkedFindings(db: Db, table: CatalogTable, deletes: boolean): Promise<Finding[]> {
  // Their references are set by the database itself; only reading and locking them is ours.
  const { findings } = await tableFindings(db, table, undefined, false)
  const isOurs = ({ text }: Finding): boolean => /row-level security|may not read/i.test(text)
  return [...findings.filter(isOurs), ...lockFindings(table, deletes)]
}

/** So that no row can come to hang on one that goes, it is locked; Postgres lets only those who may update a column. */
function lockFindings(table: CatalogTable, deletes: boolean): Finding[] {
  if (!deletes || table.mayLockRows) return []
  const name = formatTableName(table.name)
  return [
    {
      level: 'refusal',
      text: `This role may not lock rows of ${name}, which archiving what hangs on them needs`,
      hint: `GRANT UPDATE ON ${name} to it.`,
    },
  ]
}

function leftOut(parent: CatalogTable, key: ForeignKey): Finding {
  const other = formatTableName({ schema: key.schema, name: key.table })
  const text = `Rows of ${other} may hang on rows of ${formatTableName(parent.name)} by foreign key "${key.name}", which blocks deleting them`
  return { level: 'refusal', text, hint: `Name ${other} in "children" as well.` }
}

function temporal(key: ForeignKey): Finding {
  const text = `Foreign key "${key.name}" compares periods of time, which cannot be followed`
  return { level: 'refusal', text }
}

function ofTheWhole(table: CatalogTable, key: ForeignKey): Finding {
  const whole = formatTableName({ schema: key.rootSchema, name: key.rootTable })
  const text = `Rows of ${whole} hang on rows of its own partition ${formatTableName(table.name)}, by foreign key "${key.name}"`
  return { level: 'refusal', text, hint: `Write the policy for ${whole}.` }
}

function noIndex(key: ForeignKey): Finding {
  const other = formatTableName({ schema: key.schema, name: key.table })
  const text = `Foreign key "${key.name}" (${key.columns.join(', ')}) of ${other} has no index: every step reads the whole table`
  return { level: 'warning', text, hint: key.createIndex }
}
