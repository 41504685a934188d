/** Gathers rows and all that hangs on them, level by level, into temporary tables of their places. */
import { sql } from 'kysely'

import type { Db, OrderPart, Sql } from '../database.ts'
import { hangsByMore, upwardKeys, type Gathered, type Gathering, type TreeKey } from '../tree.ts'
import { orderPart, type SchemaTable } from './table.ts'
import { fromChildren, fromParents, nodeTable, own, places, run, tableOf, tuple, type Work } from './gathered.ts'
import { keepShared } from './staying.ts'
import type { SqliteTree } from './tree.ts'

/** What `nodeTable` is for rows that go, for rows that lose a reference by a key. */
function linkTable(key: number): Sql {
  return sql.id('temp', `retention_links_${key}`)
}

/** The same for rows that others hang on which go along, and that are only looked at. */
function aboveTable(at: number): Sql {
  return sql.id('temp', `retention_above_${at}`)
}

/** Where the rows of a key's child are gathered. */
function homeOf(key: TreeKey, at: number): Sql {
  return key.effect === 'goes' ? nodeTable(key.child) : linkTable(at)
}

/** What tells a table's rows apart: their number, or the primary key of a table that has none. */
export function placeParts(table: SchemaTable): OrderPart[] {
  return (table.rowid === undefined ? table.primaryKey : [table.rowid]).map(orderPart)
}

/** Gathers; the rows stay in temporary tables until `forget`. */
export async function gather(db: Db, tree: SqliteTree, request: Gathering): Promise<Gathered> {
  const work = { db, tree, request }
  await forget(db)
  for (const [at, { table, goes }] of tree.tables.entries()) if (goes) await create(db, nodeTable(at), table)
  for (const [at, key] of tree.keys.entries())
    if (key.effect !== 'goes') await create(db, linkTable(at), tableOf(tree, key.child))
  const upward = upwardKeys(tree)
  if (upward.length > 0)
    for (const [at, { table, goes }] of tree.tables.entries()) if (goes) await create(db, aboveTable(at), table)
  const { table, where } = request.rows
  const root = tableOf(tree, 0)
  await sql`insert into ${nodeTable(0)} (${own(root)}, round) select ${places(root)}, 0 from ${table.sql} where ${where}`.execute(
    db,
  )
  for (let round = 0; ; round += 1) {
    let added = 0
    for (const [at, key] of tree.keys.entries()) added += await gatherBy(work, key, at, round)
    for (const key of upward) added += await lookAbove(work, key, round)
    if (added === 0) break
  }
  await keepShared(work)
  for (const [at, key] of tree.keys.entries()) if (key.effect !== 'goes') await dropLoose(work, key, at)
  return summary(work)
}

/** Takes the temporary tables of a gathering away. */
export async function forget(db: Db): Promise<void> {
  const { rows } = await sql<{ name: string }>`
    select name from sqlite_temp_schema where type = 'table' and name glob 'retention_[rla]*_[0-9]*'
  `.execute(db)
  for (const { name } of rows) await sql`drop table ${sql.id('temp', name)}`.execute(db)
}

/** True for rows of a table of the tree that go. */
export function goingRows(tree: SqliteTree, at: number): Sql<boolean> {
  const table = tableOf(tree, at)
  return sql<boolean>`${tuple(places(table))} in (select ${own(table)} from ${nodeTable(at)} where stays = 0)`
}

/** True for rows of a key's table that lose their reference by it. */
export function linkedRows(tree: SqliteTree, key: TreeKey, at: number): Sql<boolean> {
  const table = tableOf(tree, key.child)
  return sql<boolean>`${tuple(places(table))} in (select ${own(table)} from ${linkTable(at)})`
}

async function create(db: Db, name: Sql, table: SchemaTable): Promise<void> {
  // Columns without a type keep every value as it is.
  await sql`create table ${name} (
    ${own(table)}, round integer not null default 0, stays integer not null default 0, primary key (${own(table)})
  ) without rowid`.execute(db)
}

/** Rows that hang, by a key, on rows of the last round. */
async function gatherBy({ db, tree, request }: Work, key: TreeKey, at: number, round: number): Promise<number> {
  const child = tableOf(tree, key.child)
  const home = homeOf(key, at)
  // Of the policy's own table only what is due.
  const isDue = key.child === 0 && key.effect === 'goes' ? sql`and ${request.due.where}` : sql``
  return run(
    db,
    sql`insert into ${home} (${own(child)}, round)
    select ${places(child)}, ${sql.lit(round + 1)} from ${child.sql}
    where ${tuple(places(child))} in (
      select ${places(child, 'retention_child')} ${fromParents(tree, key)} where retention_row.round = ${sql.lit(round)}
    ) and ${tuple(places(child))} not in (select ${own(child)} from ${home}) ${isDue}`,
  )
}

/** Rows that, by a key, rows of the last round hang on: of the policy's table what is due goes as well. */
async function lookAbove({ db, tree, request }: Work, key: TreeKey, round: number): Promise<number> {
  const parent = tableOf(tree, key.parent)
  const isRoot = key.parent === 0
  const into = isRoot ? nodeTable(0) : aboveTable(key.parent)
  const isDue = isRoot ? sql`and ${request.due.where}` : sql``
  const place = tuple(places(parent))
  let added = 0
  for (const from of [...(hangsByMore(tree, key.child) ? [nodeTable(key.child)] : []), aboveTable(key.child)]) {
    added += await run(
      db,
      sql`insert into ${into} (${own(parent)}, round)
      select ${places(parent)}, ${sql.lit(round + 1)} from ${parent.sql}
      where ${place} in (
        select ${places(parent, 'retention_parent')} ${fromChildren(tree, key, from)} where retention_row.round = ${sql.lit(round)}
      ) and ${place} not in (select ${own(parent)} from ${into})
        and ${place} not in (select ${own(parent)} from ${nodeTable(key.parent)}) ${isDue}`,
    )
  }
  return added
}

/** Forgets references that stay as they are: the row itself goes, or what it refers to does not. */
async function dropLoose({ db, tree }: Work, key: TreeKey, at: number): Promise<void> {
  const child = tableOf(tree, key.child)
  const place = tuple(own(child))
  const loses = sql`select ${places(child, 'retention_child')} ${fromParents(tree, key)} where retention_row.stays = 0`
  const goes =
    tree.tables[key.child]?.goes === true
      ? sql`${place} in (select ${own(child)} from ${nodeTable(key.child)} where stays = 0)`
      : sql`false`
  await sql`delete from ${linkTable(at)} where ${goes} or ${place} not in (${loses})`.execute(db)
}

async function summary({ db, tree }: Work): Promise<Gathered> {
  const count = async (rows: Sql): Promise<number> => {
    const { rows: found } = await sql<{ count: bigint }>`select count(*) as count from ${rows}`.execute(db)
    return Number(found[0]?.count ?? 0n)
  }
  const rows: number[] = []
  for (const [at, { goes }] of tree.tables.entries())
    rows.push(goes ? await count(sql`${nodeTable(at)} where stays = 0`) : 0)
  const links: number[] = []
  for (const [at, { effect }] of tree.keys.entries()) links.push(effect === 'goes' ? 0 : await count(linkTable(at)))
  const root = tableOf(tree, 0)
  const place = tuple(places(root))
  return {
    rows,
    links,
    stays: await count(sql`${nodeTable(0)} where stays = 1`),
    going: goingRows(tree, 0),
    staying: sql<boolean>`(${place} in (select ${own(root)} from ${nodeTable(0)} where stays = 1))`,
  }
}
