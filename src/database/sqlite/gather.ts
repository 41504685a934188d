/** Gathers rows and all that hangs on them, level by level, into temporary tables of their places. */
import { sql } from 'kysely'

import type { Db, OrderPart, Sql } from '../database.ts'
import { hangsByMore, upwardKeys, type Gathered, type Gathering, type TreeKey } from '../tree.ts'
import { orderPart, type SchemaTable } from './table.ts'
import type { SqliteTree } from './tree.ts'

/** What a gathering knows of the tree, and how it goes about it. */
interface Work {
  readonly db: Db
  readonly tree: SqliteTree
  readonly request: Gathering
}

/** The rows of a table of the tree: their places `k0`, `k1`, …, when each was found, and whether it stays. */
function nodeTable(at: number): Sql {
  return sql.id('temp', `retention_rows_${at}`)
}

/** The same for rows that lose a reference by a key. */
function linkTable(key: number): Sql {
  return sql.id('temp', `retention_links_${key}`)
}

/** The same for rows that rows hang on which go along, and that are only looked at. */
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

export function tableOf(tree: SqliteTree, at: number): SchemaTable {
  const table = tree.tables[at]?.table
  if (table === undefined) throw new TypeError('no such table in the tree')
  return table
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

/** Gathered rows of a key's parent, themselves, and the rows that refer to them by it. */
function fromParents(tree: SqliteTree, key: TreeKey): Sql {
  const parent = tableOf(tree, key.parent)
  const child = tableOf(tree, key.child)
  // A cross join is done in the order in which it is written.
  return sql`from ${nodeTable(key.parent)} as retention_row
    cross join ${parent.sql} as retention_parent on ${isAt(parent, 'retention_parent')}
    cross join ${child.sql} as retention_child on ${matches(parent, child, key)}`
}

/** Gathered rows of a key's child, themselves, and the rows that they refer to by it. */
function fromChildren(tree: SqliteTree, key: TreeKey, from = nodeTable(key.child)): Sql {
  const parent = tableOf(tree, key.parent)
  const child = tableOf(tree, key.child)
  return sql`from ${from} as retention_row
    cross join ${child.sql} as retention_child on ${isAt(child, 'retention_child')}
    cross join ${parent.sql} as retention_parent on ${matches(parent, child, key)}`
}

/** Marks rows that must stay, and with them all that hang together with them. */
async function keepShared(work: Work): Promise<void> {
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
function places(table: SchemaTable, alias?: string): Sql {
  return sql.join(names(table).map((name) => (alias === undefined ? sql.id(name) : sql.id(alias, name))))
}

/** Where a row is, in a temporary table of ours. */
function own(table: SchemaTable): Sql {
  return sql.join(names(table).map((_, index) => sql.id(`k${index}`)))
}

/** Values to be looked for in others. */
function tuple(values: Sql): Sql {
  return sql`(${values})`
}

async function run(db: Db, query: Sql): Promise<number> {
  const { numAffectedRows } = await query.execute(db)
  return Number(numAffectedRows ?? 0)
}
