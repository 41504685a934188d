/** The table that rows are gathered in, and what queries on it have in common. */
import { sql } from 'kysely'

import type { Db, RowSelection, Sql } from '../database.ts'
import type { Gathering } from '../tree.ts'
import type { PostgresKey, PostgresTree } from './tree.ts'

/** `node` says of which table a row is, `home` and `place` where it lies, `round` when it was found. */
export const gathered = sql.id('pg_temp', 'retention_gathered')

/** How rows are locked: not at all, as for a plan; waiting for others; or passing over what others hold. */
export type Locking = 'none' | 'wait' | 'skip'

/** What a gathering knows of the tree, and how it goes about it. */
export interface Work {
  readonly db: Db
  readonly tree: PostgresTree
  readonly request: Gathering
  readonly locking: Locking
}

/** A table's rows: of a partitioned one those of its partitions, of another its own, whatever inherits from it. */
export function rowsOf(table: RowSelection['table']): Sql {
  return table.hasPartitions ? table.sql : sql`only ${table.sql}`
}

/** The number that rows of a table of the tree have in `retention_gathered`. */
export function nodeOf(table: number): Sql {
  return sql`${sql.lit(table)}`
}

/** The same for rows that lose a reference, by the key's place in the tree. */
export function linkNodeOf(key: number): Sql {
  return sql`${sql.lit(-1 - key)}`
}

/** Whether a row of the parent is what a row of the child refers to, in the key's own way of comparing. */
export function matches({ columns, referenced, operators }: PostgresKey, parent: Sql, child: Sql): Sql {
  const parts = columns.map(
    (column, index) =>
      // The catalog's own, quoted, name of the operator.
      sql`${parent}.${sql.id(referenced[index] ?? '')} ${sql.raw(operators[index] ?? '=')} ${child}.${sql.id(column)}`,
  )
  return sql`(${sql.join(parts, sql` and `)})`
}

/** A query for rows that go, or that lose a reference. */
export function gatheredRows(
  table: RowSelection['table'],
  node: Sql,
  columns: readonly { readonly name: string }[],
): Sql {
  const list = sql.join(columns.map(({ name }) => sql.id('retention_child', name)))
  return sql`select ${list} from ${gathered} as retention_row join ${rowsOf(table)} as retention_child
    on retention_child.ctid = retention_row.place and retention_child.tableoid = retention_row.home
    where retention_row.node = ${node} and not retention_row.stays`
}

/** Runs a statement; returns how many rows it has touched. */
export async function run(db: Db, query: Sql): Promise<number> {
  const { numAffectedRows } = await query.execute(db)
  return Number(numAffectedRows ?? 0)
}
