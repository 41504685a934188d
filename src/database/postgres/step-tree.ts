/** A step over a table and what hangs on it: all tables locked, the rows gathered, copied, and deleted in one statement. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import { RetentionError } from '../../errors.ts'
import type { Db } from '../database.ts'
import { linkColumns, linkOf, parentsFirst, type GatheredStep, type Gathering, type StepPart } from '../tree.ts'
import type { Transaction } from './connection.ts'
import { copyCsv, copyOut } from './copy.ts'
import { deleteGathered, gather } from './gather.ts'
import { gatheredRows, linkNodeOf, nodeOf } from './gathered.ts'
import type { PostgresInspection } from './inspect.ts'
import { lockRestores } from './locks.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'
import type { PostgresTree } from './tree.ts'

/**
 * Locks the tables that hang on a policy's against changes of their form, as its own is locked already.
 * @param look looks at the tables again
 * @returns the tree that cannot change any more, as far as locks on tables can see to it
 */
export async function lockTree(
  db: Db,
  first: PostgresInspection,
  look: () => Promise<PostgresInspection>,
): Promise<PostgresInspection> {
  const locked = new Set<string>()
  let inspection = first
  for (;;) {
    const [, ...others] = inspection.tree?.tables ?? []
    // In one order, so that no two steps wait for each other.
    const free = others
      .filter(({ table }) => !locked.has(table.oid))
      .toSorted((a, b) => Number(a.table.oid) - Number(b.table.oid))
    if (free.length === 0) return inspection
    for (const { table } of free) {
      // Whoever may not lock it is told why by the findings.
      if (table.mayLockRows) await sql`lock table ${table.sql} in row exclusive mode`.execute(db)
      await lockRestores(db, table, 'shared')
      locked.add(table.oid)
    }
    inspection = await look()
  }
}

/** A text that changes when tables get other partitions or keys, which no lock on them keeps off. */
export async function treeSignature(db: Db, { tables }: PostgresTree): Promise<string> {
  const oids = sql.join(tables.map(({ table }) => sql`cast(${table.oid} as oid)`))
  const { rows } = await sql<{ signature: string }>`
    with recursive family(oid) as (
      select unnest(array[${oids}]) union select i.inhrelid from family join pg_inherits i on i.inhparent = family.oid
    )
    select coalesce((select string_agg(oid::text, ' ' order by oid) from family), '') || '; ' || coalesce((
      select string_agg(k.oid::text || k.confdeltype::text, ' ' order by k.oid) from pg_constraint k
      where k.contype = 'f' and k.confrelid in (select oid from family)
    ), '') as signature
  `.execute(db)
  return rows[0]?.signature ?? ''
}

/** Gathers the rows of a step, to be copied part by part and then deleted all at once. */
export async function gatherStep(
  transaction: Transaction,
  tree: PostgresTree,
  request: Gathering,
  skipLocked: boolean,
  signal: AbortSignal | undefined,
): Promise<GatheredStep> {
  const { db } = transaction
  const found = await gather(db, tree, request, skipLocked ? 'skip' : 'wait')
  const order = parentsFirst(tree)
  const part = (
    table: CatalogTable,
    node: ReturnType<typeof nodeOf>,
    columns: CatalogColumn[],
    rows: number,
  ): StepPart => ({
    table,
    link: undefined,
    columns,
    rows,
    // They are locked: what is copied now is what is deleted then, the very same version of each row.
    csv: copied(transaction, table, node, columns, signal),
  })
  const parts = order.flatMap((at): StepPart[] => {
    const rows = found.rows[at] ?? 0
    const table = tree.tables[at]?.table
    if (table === undefined || (rows === 0 && at > 0)) return []
    return [
      part(
        table,
        nodeOf(at),
        table.columns.filter(({ generated }) => !generated),
        rows,
      ),
    ]
  })
  const links = tree.keys.flatMap((key, at): StepPart[] => {
    const rows = found.links[at] ?? 0
    const table = tree.tables[key.child]?.table
    const link = table === undefined || rows === 0 ? undefined : linkOf(key, table)
    if (table === undefined || link === undefined) return []
    return [{ ...part(table, linkNodeOf(at), linkColumns(link, table.columns), rows), link }]
  })
  return { ...found, parts: [...parts, ...links], remove: () => removeGathered(db, tree, order, found.rows) }
}

async function* copied(
  transaction: Transaction,
  table: CatalogTable,
  node: ReturnType<typeof nodeOf>,
  columns: readonly CatalogColumn[],
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const copy = copyOut(transaction, copyCsv(gatheredRows(table, node, columns), columns), signal)
  yield* copy
  await copy.rows()
}

/** Deletes exactly the rows that were gathered, or fails. */
async function removeGathered(
  db: Db,
  tree: PostgresTree,
  order: readonly number[],
  gathered: readonly number[],
): Promise<void> {
  // The last ones first, as far as there is an order: triggers then find what they know it from.
  const places = order.filter((at) => (gathered[at] ?? 0) > 0).toReversed()
  const deleted = await deleteGathered(db, tree, places)
  for (const [index, at] of places.entries()) {
    if (deleted[index] === gathered[at]) continue
    const name = formatTableName(tree.tables[at]?.table.name ?? { schema: undefined, name: '' })
    throw new RetentionError(
      'DATABASE_FAILED',
      `${gathered[at]} rows of ${name} were archived, but DELETE took ${deleted[index]}`,
      { hint: 'A trigger may keep rows from being deleted. Nothing has been deleted.' },
    )
  }
}
