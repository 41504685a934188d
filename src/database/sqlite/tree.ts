/** The tables that foreign keys lead to from a policy's table down, and what stands against archiving their rows along. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
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
import { keyFindings, keyName, referencingKeys, type ForeignKey } from './foreign-keys.ts'
import { findTable, triggersOn, type SchemaTable } from './table.ts'

export interface SqliteTree extends Tree<SchemaTable> {
  /** Whether deleting its rows, or setting references, runs triggers. */
  readonly hasTriggers: boolean
  /** Whether keys of other tables lead to its rows, which may come to block deleting them. */
  readonly isReferred: boolean
}

/** Declared keys count, whether or not a connection enforces them. https://www.sqlite.org/foreignkeys.html */
const effects: Readonly<Record<string, KeyEffect>> = { 'SET NULL': 'null', 'SET DEFAULT': 'default' }

/**
 * Walks the foreign keys from a table down.
 * @param due rows of the table that would go; undefined reads no rows
 */
export async function readTree(
  db: Db,
  table: SchemaTable,
  children: Children,
  due: Sql<boolean> | undefined,
): Promise<{ tree: SqliteTree; findings: Finding[] }> {
  const tables: { table: SchemaTable; goes: boolean }[] = [{ table, goes: true }]
  const keys: TreeKey[] = []
  const findings: Finding[] = []
  let isReferred = false
  const walked = new Set<number>()
  const allowed = withOwn(children, table.name)
  for (let at = 0; at !== -1; at = tables.findIndex(({ goes }, index) => goes && !walked.has(index))) {
    walked.add(at)
    const parent = tables[at]?.table ?? table
    if (at > 0) findings.push(...(await childFindings(db, parent)))
    for (const key of await referencingKeys(db, parent)) {
      if (!isAllowed(allowed, { schema: undefined, name: key.table }, isSame)) {
        isReferred = true
        findings.push(...(await keyFindings(db, parent, key, at === 0 ? due : undefined)))
        if (at > 0 && effects[key.action] === undefined && key.action !== 'CASCADE') findings.push(leftOut(parent, key))
        continue
      }
      if (!(await isMatched(db, parent, key))) findings.push(mismatch(parent, key))
      let place = tables.findIndex((entry) => isSame(entry.table.name.name, key.table))
      if (place === -1) {
        const child = await findTable(db, { schema: undefined, name: key.table })
        if (child === undefined) continue
        place = tables.push({ table: child, goes: false }) - 1
      }
      const entry = tables[place]
      if (entry === undefined) continue
      const found = treeKey(key, place, at)
      if (found.effect === 'goes') entry.goes = true
      const refusal = found.effect === 'goes' ? undefined : linkRefusal(found, entry.table)
      if (refusal !== undefined) findings.push(refusal)
      if (!(await hasIndex(db, entry.table, key))) findings.push(noIndex(key))
      keys.push(found)
    }
  }
  const tree: SqliteTree = { tables, keys, isReferred, hasTriggers: await hasTriggers(db, tables) }
  return { tree, findings: [...findings, ...strayFindings(children, tree, isSame)] }
}

/** Letter case does not matter to SQLite. */
function isSame(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}

function treeKey(key: ForeignKey, child: number, parent: number): TreeKey {
  const { columns, referenced } = key
  const effect = effects[key.action] ?? 'goes'
  return { name: keyName(key), child, parent, columns, referenced, effect, sets: columns }
}

async function childFindings(db: Db, table: SchemaTable): Promise<Finding[]> {
  const name = `"${table.name.name}"`
  if (table.kind !== 'table') {
    return [{ level: 'refusal', text: `${name} is a ${table.kind}, not a table`, hint: 'Its rows cannot be archived.' }]
  }
  if (table.rowid === undefined && table.primaryKey.length === 0) {
    return [
      {
        level: 'refusal',
        text: `Rows of ${name} cannot be told apart: columns hide all of rowid, _rowid_ and oid, and there is no primary key`,
        hint: 'Rename one of the columns.',
      },
    ]
  }
  const triggers = await triggersOn(db, table, 'delete')
  if (triggers.length === 0) return []
  const text = `Triggers run when rows of ${name} are deleted: ${triggers.join(', ')}`
  return [{ level: 'warning', text, hint: 'What they change is not archived.' }]
}

async function hasTriggers(db: Db, tables: SqliteTree['tables']): Promise<boolean> {
  for (const { table, goes } of tables) {
    if ((await triggersOn(db, table, goes ? 'delete' : 'update')).length > 0) return true
    if (goes && (await triggersOn(db, table, 'update')).length > 0) return true
  }
  return false
}

/** Whether a key refers to columns that are unique together; SQLite allows it to be declared otherwise, and then fails. */
async function isMatched(db: Db, parent: SchemaTable, { columns, referenced }: ForeignKey): Promise<boolean> {
  const names = referenced.map((name) => name.toLowerCase()).toSorted()
  const isThere = names.every((name) => parent.columns.some((column) => isSame(column.name, name)))
  if (!isThere || columns.length !== referenced.length) return false
  const isNames = (others: readonly string[]): boolean =>
    others
      .map((name) => name.toLowerCase())
      .toSorted()
      .join('\0') === names.join('\0')
  if (isNames(parent.primaryKey)) return true
  const { rows } = await sql<{ name: string; column: string | null }>`
    select i.name, c.name as column from pragma_index_list(${parent.name.name}) as i, pragma_index_info(i.name) as c
    where i."unique" = 1 and i.partial = 0
  `.execute(db)
  const indexes = Map.groupBy(rows, (row) => row.name)
  return [...indexes.values()].some((parts) => isNames(parts.map((part) => part.column ?? '')))
}

async function hasIndex(db: Db, table: SchemaTable, { columns }: ForeignKey): Promise<boolean> {
  const names = new Set(columns.map((name) => name.toLowerCase()))
  if (table.primaryKey.length > 0 && isCovered(table.primaryKey, names)) return true
  const { rows } = await sql<{ name: string; column: string | null }>`
    select i.name, c.name as column from pragma_index_list(${table.name.name}) as i, pragma_index_info(i.name) as c
    where i.partial = 0 order by i.name, c.seqno
  `.execute(db)
  const indexes = Map.groupBy(rows, (row) => row.name)
  return [...indexes.values()].some((parts) =>
    isCovered(
      parts.map((part) => part.column ?? ''),
      names,
    ),
  )
}

/** Whether an index begins with some columns, in any order. */
function isCovered(index: readonly string[], names: ReadonlySet<string>): boolean {
  const first = index.slice(0, names.size).map((name) => name.toLowerCase())
  return first.length === names.size && first.every((name) => names.has(name))
}

function leftOut(parent: SchemaTable, key: ForeignKey): Finding {
  const text = `Rows of "${key.table}" may hang on rows of "${parent.name.name}" by ${keyName(key)}, which blocks deleting them`
  return {
    level: 'refusal',
    text,
    hint: `Name ${formatTableName({ schema: undefined, name: key.table })} in "children" as well.`,
  }
}

function mismatch(parent: SchemaTable, key: ForeignKey): Finding {
  const to = key.referenced.map((name) => name || '?').join(', ')
  const text = `"${key.table}" refers to "${parent.name.name}" (${to}) by ${keyName(key)}, which is no primary key of it, nor unique`
  return {
    level: 'refusal',
    text,
    hint: 'SQLite calls this a foreign key mismatch. Add a unique index over these columns.',
  }
}

function noIndex(key: ForeignKey): Finding {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  const index = quoted(`${key.table}_${key.columns.join('_')}`)
  const text = `"${key.table}" has no index for ${keyName(key)}: every step reads the whole table`
  return {
    level: 'warning',
    text,
    hint: `CREATE INDEX ${index} ON ${quoted(key.table)} (${key.columns.map(quoted).join(', ')});`,
  }
}
