/** What hangs on a policy's table by foreign keys: the tables, and the rows that go along with some of its own. */
import { formatTableName, type TableName } from '../config/fields.ts'
import type { Column, Db, Finding, RowSelection, Sql, Table } from './database.ts'

/** Which tables' rows may go along: all that hang, or only these. */
export type Children = 'archive' | readonly TableName[]

/** What becomes of a row when the one that it refers to goes: it goes as well, or its reference is set to something else. */
export type KeyEffect = 'goes' | 'null' | 'default'

/** A foreign key between two tables of a tree. */
export interface TreeKey {
  /** How messages call it. */
  readonly name: string
  /** The tables that refer and that are referred to, by their places in the tree. */
  readonly child: number
  readonly parent: number
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
  readonly effect: KeyEffect
  /** Those of `columns` that are set to something else. */
  readonly sets: readonly string[]
}

/** A table of a tree. */
interface TreeTable<ATable extends Table = Table> {
  readonly table: ATable
  /** Whether rows of it go along; else they only lose their references. */
  readonly goes: boolean
}

/** The tables that foreign keys lead to from a policy's table down, which is the first. */
export interface Tree<ATable extends Table = Table, AKey extends TreeKey = TreeKey> {
  readonly tables: readonly TreeTable<ATable>[]
  readonly keys: readonly AKey[]
}

/** What is asked for of rows and all that hangs on them. */
export interface Gathering {
  readonly tree: Tree
  /** The rows of the policy's table that are to go. */
  readonly rows: RowSelection
  /** All rows of it that may go: no other one goes along with a row that it hangs on. */
  readonly due: RowSelection
  /** Which rows of another table must stay for now; undefined where none must. */
  readonly held: (db: Db, table: Table) => Promise<Sql<boolean> | undefined>
}

/** Rows and all that hangs on them, as they were found. */
export interface Gathered {
  /** How many rows of each table of the tree go, in the tree's order. */
  readonly rows: readonly number[]
  /** How many references by each key are set to something else, in the order of the tree's keys. */
  readonly links: readonly number[]
  /** How many of the policy's rows stay, as rows hang on them that belong to rows that stay as well. */
  readonly stays: number
  /** True for those that go, and for those that stay, in a query over the policy's table in the same transaction. */
  readonly going: Sql<boolean>
  readonly staying: Sql<boolean>
}

/** What a key has set to something else, so that a restore can set it again. */
export interface Link {
  /** The columns that tell the rows apart. */
  readonly key: readonly string[]
  readonly columns: readonly string[]
  /** Those of `columns` that are set. */
  readonly sets: readonly string[]
  readonly to: 'null' | 'default'
}

/** One CSV of a step. */
export interface StepPart {
  readonly table: Table
  /** Undefined where it holds rows that go. */
  readonly link: Link | undefined
  readonly columns: readonly Column[]
  /** CSV bytes, header first. To be read once, to the end, one part after the other. */
  readonly csv: AsyncIterable<Buffer>
  /** Rows in the CSV. */
  readonly rows: number
}

/** Rows of a step and all that hangs on them, on their way into an archive. */
export interface GatheredStep extends Gathered {
  /** The policy's table first, each of the others after those that its rows refer to, as far as there is such an order. */
  readonly parts: readonly StepPart[]
  /** As `ExportedRows.remove`, for all parts. */
  remove(): Promise<void>
}

/** Whether a policy allows a table's rows to go along. Letter case counts as the database says. */
export function isAllowed(children: Children, table: TableName, isSame: (a: string, b: string) => boolean): boolean {
  if (children === 'archive') return true
  return children.some(
    ({ schema, name }) => isSame(name, table.name) && (schema === undefined || schema === table.schema),
  )
}

/** The policy's own table needs no leave: its rows may refer to each other. */
export function withOwn(children: Children, table: TableName): Children {
  return children === 'archive' ? children : [table, ...children]
}

/** Tables that a policy names, and that nothing leads to. */
export function strayFindings(children: Children, tree: Tree, isSame: (a: string, b: string) => boolean): Finding[] {
  if (children === 'archive') return []
  const [root, ...others] = tree.tables
  const stray = children.filter((name) => !others.some(({ table }) => isAllowed([name], table.name, isSame)))
  return stray.map((name) => ({
    level: 'refusal',
    text: `"children" names ${formatTableName(name)}, but no foreign key leads from it to ${formatTableName(root?.table.name ?? name)} or its other children`,
    hint: `The tables that hang on it: ${others.map(({ table }) => formatTableName(table.name)).join(', ') || 'none'}.`,
  }))
}

/** The places of a tree's tables whose rows go, each after those that its rows refer to; in a cycle, as they come. */
export function parentsFirst({ tables, keys }: Tree): number[] {
  // The policy's own comes first even in a circle.
  const order: number[] = [0]
  const seen = new Set<number>(order)
  const visit = (at: number): void => {
    if (seen.has(at)) return
    seen.add(at)
    for (const key of keys) if (key.child === at && key.parent !== at) visit(key.parent)
    order.push(at)
  }
  for (const [at, { goes }] of tables.entries()) if (goes) visit(at)
  return order.filter((at) => tables[at]?.goes === true)
}

/** Whether rows of a table of a tree may hang on several others. */
export function hangsByMore({ keys }: Tree, table: number): boolean {
  return table > 0 && keys.filter(({ effect, child }) => effect === 'goes' && child === table).length > 1
}

/**
 * The keys that lead from a row that goes along to others that it hangs on as well: what is due among those, wherever its
 * own step would be, must go with it, or neither could ever go.
 */
export function upwardKeys<AKey extends TreeKey>(tree: Tree<Table, AKey>): AKey[] {
  if (!tree.tables.some((_, at) => hangsByMore(tree, at))) return []
  return tree.keys.filter(({ effect, child }) => effect === 'goes' && child > 0)
}

/** What a key of a tree would have to be told of a restore. */
export function linkOf(key: TreeKey, table: Table): Link | undefined {
  if (key.effect === 'goes') return undefined
  return { key: table.key, columns: key.columns, sets: key.sets, to: key.effect }
}

/** What rows refer to by a foreign key: which columns of theirs to which of a table. */
export interface Reference {
  readonly columns: readonly string[]
  readonly table: TableName
  readonly to: readonly string[]
}

/** What the rows of a file refer to among the tables whose rows go. @param link where the file holds references alone */
export function referencesOf({ tables, keys }: Tree, table: Table, link: Link | undefined): Reference[] {
  const name = formatTableName(table.name)
  return keys.flatMap(({ child, parent, columns, referenced, effect }): Reference[] => {
    const [from, to] = [tables[child]?.table, tables[parent]?.table]
    if (from === undefined || to === undefined || formatTableName(from.name) !== name) return []
    const isOther = link !== undefined && (effect !== link.to || columns.join('\0') !== link.columns.join('\0'))
    return isOther ? [] : [{ columns, table: to.name, to: referenced }]
  })
}

/** The columns of a link's CSV. */
export function linkColumns<AColumn extends Column>({ key, columns }: Link, all: readonly AColumn[]): AColumn[] {
  return all.filter(({ name }) => key.includes(name) || columns.includes(name))
}

/** Why references of a table's rows could not be set again; undefined where they could. */
export function linkRefusal(key: TreeKey, table: Table): Finding | undefined {
  const name = formatTableName(table.name)
  if (table.key.length === 0) {
    const hint = `Give ${name} a primary key, or make the key ON DELETE NO ACTION.`
    return {
      level: 'refusal',
      text: `References of ${name} by ${key.name} could not be set again by a restore: it has no key`,
      hint,
    }
  }
  if (key.sets.some((column) => table.key.includes(column))) {
    const hint = 'Make it ON DELETE NO ACTION or CASCADE.'
    return { level: 'refusal', text: `Deleting changes the key of rows of ${name}, by ${key.name}`, hint }
  }
  return undefined
}
