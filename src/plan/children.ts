/** What goes along with a policy's due rows by foreign keys, and which of them stay because of it. Only reads. */
import { sql } from 'kysely'

import { formatTableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import type { Database, Db, Finding, Inspection, RowSelection } from '../database/database.ts'
import type { Gathered, Gathering, KeyEffect, Tree } from '../database/tree.ts'
import { shortId } from '../ledger/hold.ts'
import type { Ledger } from '../ledger/ledger.ts'

/** A table whose rows go along with a policy's, or refer to them. */
export interface ChildRows {
  readonly table: string
  /** Rows that are archived and deleted along. */
  readonly rows: number
  /** Rows that stay, and whose reference is archived and set to something else. */
  readonly references: number
  /** The foreign keys by which they hang on others, and what becomes of them when those go. */
  readonly via: readonly { readonly table: string; readonly columns: readonly string[]; readonly effect: KeyEffect }[]
}

/** What holds depend on. */
interface HoldContext {
  readonly ledger: Ledger
  readonly now: Date
}

/**
 * What is to be gathered; undefined for a policy without children.
 * @param rows those that are to go
 * @param due those that may
 */
export function gatheringOf(
  { tree }: Inspection,
  rows: RowSelection,
  due: RowSelection,
  policy: Policy,
  { ledger, now }: HoldContext,
): Gathering | undefined {
  if (tree === undefined) return undefined
  const own = tree.tables[0]?.table.name
  // A hold of another policy on a table's rows is one on what hangs on ours as well.
  const held: Gathering['held'] = (db, table) =>
    ledger.holds.where(db, table, table.name === own ? policy.name : '', now)
  return { tree, rows, due, held }
}

/** Due rows and what goes along with them. */
export interface Along {
  /** Those that go: not those that must stay as something hangs on them that stays. */
  readonly due: RowSelection
  readonly stays: number
  readonly children: readonly ChildRows[]
  readonly findings: readonly Finding[]
}

/** Finds out what goes along with rows, in `Database.scratch`. */
export async function gatherAlong(
  db: Db,
  database: Database,
  request: Gathering,
  context: HoldContext,
): Promise<Along> {
  const found = await database.gather(db, request)
  const { rows } = request
  const { stays } = found
  // The exclusion last: what narrows an index comes first.
  const due = stays === 0 ? rows : { ...rows, where: sql<boolean>`(${rows.where} and not ${found.staying})` }
  return {
    due,
    stays,
    children: childRows(request.tree, found),
    findings: await stayFindings(db, request.tree, stays, context),
  }
}

/** The tables that hang on a policy's, and how many of their rows go along. */
function childRows(tree: Tree, found: Pick<Gathered, 'rows' | 'links'>): ChildRows[] {
  const nameOf = (at: number): string => formatTableName(tree.tables[at]?.table.name ?? { schema: undefined, name: '' })
  return tree.tables.flatMap((_, at) => {
    if (at === 0) return []
    const keys = tree.keys.filter(({ child }) => child === at)
    const references = tree.keys.reduce(
      (sum, key, index) => sum + (key.child === at ? (found.links[index] ?? 0) : 0),
      0,
    )
    const via = keys.map(({ parent, columns, effect }) => ({ table: nameOf(parent), columns, effect }))
    return [{ table: nameOf(at), rows: found.rows[at] ?? 0, references, via }]
  })
}

async function stayFindings(db: Db, tree: Tree, stays: number, context: HoldContext): Promise<Finding[]> {
  if (stays === 0) return []
  const [rows, stay, them] =
    stays === 1 ? ['row past its time', 'stays', 'it'] : ['rows past their time', 'stay', 'them']
  const holds = await legalHolds(db, tree, context)
  const named = holds.length === 0 ? '' : `; legal holds on what hangs on them: ${holds.join(', ')}`
  const text = `${stays} ${rows} ${stay}: what hangs on ${them} is held, or belongs to rows that stay as well${named}`
  return [{ level: 'warning', text, hint: 'They go when those do: rows that are due later, or that are held.' }]
}

/** The legal holds on the tables of a tree but the first, in words. */
async function legalHolds(db: Db, { tables }: Tree, { ledger, now }: HoldContext): Promise<string[]> {
  const found: string[] = []
  for (const { table } of tables.slice(1)) {
    for (const { hold } of await ledger.holds.onRows(db, table, '', now))
      if (hold.kind === 'legal') found.push(`${shortId(hold)} on ${formatTableName(table.name)}`)
  }
  return found
}

/** Runs queries that only read; for a policy with children in a way that lets them be gathered. */
export async function look<T>(database: Database, policy: Policy, work: (db: Db) => Promise<T>): Promise<T> {
  return policy.children === undefined ? database.read(work) : database.scratch(work)
}
