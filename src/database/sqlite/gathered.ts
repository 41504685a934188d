/** The tables that rows are gathered in, and what queries on them have in common. */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import type { Gathering, TreeKey } from '../tree.ts'
import type { SchemaTable } from './table.ts'
import type { SqliteTree } from './tree.ts'

/** What a gathering knows of the tree, and how it goes about it. */
export interface Work {
  readonly db: Db
  readonly tree: SqliteTree
  readonly request: Gathering
}

/** The rows of a table of the tree: their places `k0`, `k1`, …, when each was found, and whether it stays. */
export function nodeTable(at: number): Sql {
  return sql.id('temp', `retention_rows_${at}`)
}

/** A table of a tree, by its place. */
export function tableOf(tree: SqliteTree, at: number): SchemaTable {
  const table = tree.tables[at]?.table
  if (table === undefined) throw new TypeError('no such table in the tree')
  return table
}

/** Gathered rows of a key's parent, themselves, and the rows that refer to them by it. */
export function fromParents(tree: SqliteTree, key: TreeKey): Sql {
  const parent = tableOf(tree, key.parent)
  const child = tableOf(tree, key.child)
  // A cross join is done in the order in which it is written.
  return sql`from ${nodeTable(key.parent)} as retention_row
    cross join ${parent.sql} as retention_parent on ${isAt(parent, 'retention_parent')}
    cross join ${child.sql} as retention_child on ${matches(parent, child, key)}`
}

/** Gathered rows of a key's child, themselves, and the rows that they refer to by it. */
export function fromChildren(tree: SqliteTree, key: TreeKey, from = nodeTable(key.child)): Sql {
  const parent = tableOf(tree, key.parent)
  const child = tableOf(tree, key.child)
  return sql`from ${from} as retention_row
    cross join ${child.sql} as retention_child on ${isAt(child, 'retention_child')}
    cross join ${parent.sql} as retention_parent on ${matches(parent, child, key)}`
}

/**
 * Whether a row of the child refers to one of the parent. SQLite compares with the parent's collation and affinity: the
 * first is that of the left side of `=`; for the second, a column of another affinity is made one without any by `+`.
 * https://www.sqlite.org/foreignkeys.html#fk_basics https://www.sqlite.org/datatype3.html#comparison_expressions
 */
function matches(parent: SchemaTable, child: SchemaTable, { columns, referenced }: TreeKey): Sql {
  const parts = columns.map((column, index) => {
    const other = referenced[index] ?? ''
    const isSame = affinity(typeOf(parent, other)) === affinity(typeOf(child, column))
    const left = sql.id('retention_parent', other)
    return isSame
      ? sql`${left} = ${sql.id('retention_child', column)}`
      : sql`${left} = +${sql.id('retention_child', column)}`
  })
  return sql`${sql.join(parts, sql` and `)}`
}

function typeOf({ columns }: SchemaTable, name: string): string {
  return columns.find((column) => column.name.toLowerCase() === name.toLowerCase())?.type ?? ''
}

/** https://www.sqlite.org/datatype3.html#determination_of_column_affinity */
function affinity(type: string): string {
  if (/int/i.test(type)) return 'integer'
  if (/char|clob|text/i.test(type)) return 'text'
  if (/blob/i.test(type) || type === '') return 'none'
  if (/real|floa|doub/i.test(type)) return 'real'
  // In a STRICT table it means none.
  return /^any$/i.test(type) ? 'any' : 'numeric'
}

/** True where a gathered row is a row of its table. */
function isAt(table: SchemaTable, alias: string): Sql {
  const parts = names(table).map((name, index) => sql`${sql.id(alias, name)} = retention_row.${sql.id(`k${index}`)}`)
  return sql`${sql.join(parts, sql` and `)}`
}

function names(table: SchemaTable): readonly string[] {
  return table.rowid === undefined ? table.primaryKey : [table.rowid]
}

/** Where a row is, in a query over its table. */
export function places(table: SchemaTable, alias?: string): Sql {
  return sql.join(names(table).map((name) => (alias === undefined ? sql.id(name) : sql.id(alias, name))))
}

/** Where a row is, in a temporary table of ours. */
export function own(table: SchemaTable): Sql {
  return sql.join(names(table).map((_, index) => sql.id(`k${index}`)))
}

/** Values to be looked for in others. */
export function tuple(values: Sql): Sql {
  return sql`(${values})`
}

/** Runs a statement; returns how many rows it has touched. */
export async function run(db: Db, query: Sql): Promise<number> {
  const { numAffectedRows } = await query.execute(db)
  return Number(numAffectedRows ?? 0)
}
