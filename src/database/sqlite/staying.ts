/** Which of the rows that were gathered must stay, as something that hangs on them, or that they hang on, stays. */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import { hangsByMore, type TreeKey } from '../tree.ts'
import { fromChildren, fromParents, nodeTable, own, places, run, tableOf, tuple, type Work } from './gathered.ts'
import type { SchemaTable } from './table.ts'

/** Marks rows that must stay, and with them all that hang together with them. */
export async function keepShared(work: Work): Promise<void> {
  const { db, tree, request } = work
  let staying = 0
  for (const key of tree.keys) {
    if (key.effect !== 'goes') continue
    if (key.child === 0) staying += await keepParentsOfOthers(work, key)
    if (hangsByMore(tree, key.child)) staying += await keepChildrenOfOthers(work, key)
  }
  for (const [at, { table, goes }] of tree.tables.entries()) {
    if (!goes) continue
    const reasons = [await request.held(db, table), at > 0 ? table.kept?.where : undefined]
    for (const held of reasons.filter((reason) => reason !== undefined)) {
      const rows = sql`select ${places(table)} from ${table.sql} where ${tuple(places(table))} in (
        select ${own(table)} from ${nodeTable(at)}) and ${held}`
      staying += await keep(db, nodeTable(at), table, rows)
    }
  }
  for (const key of tree.keys) if (key.effect !== 'goes') staying += await keepParentsOfHeld(work, key)
  while (staying > 0) {
    staying = 0
    for (const key of tree.keys) {
      if (key.effect !== 'goes') continue
      staying += await keepParents(work, key)
      if (key.child > 0) staying += await keepChildren(work, key)
    }
  }
}

/** A row of the policy's table that hangs on another and is not due keeps that one. */
async function keepParentsOfOthers({ db, tree }: Work, key: TreeKey): Promise<number> {
  const [parent, child] = [tableOf(tree, key.parent), tableOf(tree, key.child)]
  const isKnown = sql`${tuple(places(child, 'retention_child'))} in (select ${own(child)} from ${nodeTable(key.child)})`
  const rows = sql`select ${places(parent, 'retention_parent')} ${fromParents(tree, key)} where not ${isKnown}`
  return keep(db, nodeTable(key.parent), parent, rows)
}

/** A row stays if a held one would lose its reference to it: what is held stays as it is. */
async function keepParentsOfHeld({ db, tree, request }: Work, key: TreeKey): Promise<number> {
  const [parent, child] = [tableOf(tree, key.parent), tableOf(tree, key.child)]
  const held = await request.held(db, child)
  if (held === undefined) return 0
  const isHeld = sql`${tuple(places(child, 'retention_child'))} in (select ${places(child)} from ${child.sql} where ${held})`
  const rows = sql`select ${places(parent, 'retention_parent')} ${fromParents(tree, key)} where ${isHeld}`
  return keep(db, nodeTable(key.parent), parent, rows)
}

/** A row that goes along stays if it hangs on another one as well, which does not go. */
async function keepChildrenOfOthers({ db, tree }: Work, key: TreeKey): Promise<number> {
  const [parent, child] = [tableOf(tree, key.parent), tableOf(tree, key.child)]
  const isKnown = sql`${tuple(places(parent, 'retention_parent'))} in (select ${own(parent)} from ${nodeTable(key.parent)})`
  const rows = sql`select ${places(child, 'retention_child')} ${fromChildren(tree, key)} where not ${isKnown}`
  return keep(db, nodeTable(key.child), child, rows)
}

/** What a row that stays hangs on stays. */
async function keepParents({ db, tree }: Work, key: TreeKey): Promise<number> {
  const parent = tableOf(tree, key.parent)
  const rows = sql`select ${places(parent, 'retention_parent')} ${fromChildren(tree, key)} where retention_row.stays = 1`
  return keep(db, nodeTable(key.parent), parent, rows)
}

/** What hangs on a row that stays stays. */
async function keepChildren({ db, tree }: Work, key: TreeKey): Promise<number> {
  const child = tableOf(tree, key.child)
  const rows = sql`select ${places(child, 'retention_child')} ${fromParents(tree, key)} where retention_row.stays = 1`
  return keep(db, nodeTable(key.child), child, rows)
}

async function keep(db: Db, node: Sql, table: SchemaTable, rows: Sql): Promise<number> {
  return run(db, sql`update ${node} set stays = 1 where stays = 0 and ${tuple(own(table))} in (${rows})`)
}
