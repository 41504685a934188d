/**
 * Gathers rows and all that hangs on them, level by level, each in a statement of its own: a row that is locked FOR UPDATE
 * keeps others from coming to hang on it, and what came before is seen by the next statement.
 * https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
 */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import { hangsByMore, upwardKeys, type Gathered, type Gathering } from '../tree.ts'
import { gathered, linkNodeOf, matches, nodeOf, rowsOf, run, type Locking, type Work } from './gathered.ts'
import { keepShared } from './staying.ts'
import type { PostgresKey, PostgresTree } from './tree.ts'

/** The number of rows of a table of the tree that rows hang on which go along, and that are only looked at. */
function aboveNodeOf(table: number): Sql {
  return sql`${sql.lit(1_000_000 + table)}`
}

/** Gathers; the rows are then in a temporary table that goes with the transaction. */
export async function gather(db: Db, tree: PostgresTree, request: Gathering, locking: Locking): Promise<Gathered> {
  const work = { db, tree, request, locking }
  await sql`create temporary table retention_gathered (
    node integer, home oid, place tid, round integer not null, stays boolean not null default false,
    primary key (node, home, place)
  ) on commit drop`.execute(db)
  const { table, where } = request.rows
  let count = await run(
    db,
    sql`insert into ${gathered} (node, home, place, round)
    select 0, tableoid, ctid, 0 from ${rowsOf(table)} where ${where} ${lockClause(locking)}`,
  )
  let added = count
  for (let round = 0; ; round += 1) {
    // For the planner; of a long chain, each round adds but a few.
    if (added * 10 >= count) await sql`analyze ${gathered}`.execute(db)
    added = 0
    for (const [at, key] of tree.keys.entries()) added += await gatherBy(work, key, at, round)
    for (const key of upwardKeys(tree)) added += await lookAbove(work, key, round)
    if (added === 0) break
    count += added
  }
  await keepShared(work)
  for (const [at, key] of tree.keys.entries()) if (key.effect !== 'goes') await dropLoose(db, key, at)
  return summary(work)
}

/** Rows that hang, by a key, on rows of the last round. */
async function gatherBy(
  { db, tree, request, locking }: Work,
  key: PostgresKey,
  at: number,
  round: number,
): Promise<number> {
  const node = key.effect === 'goes' ? nodeOf(key.child) : linkNodeOf(at)
  // Of the policy's own table only what is due.
  const isOwn = key.child === 0 && key.effect === 'goes'
  const isDue = isOwn ? sql`and ${request.due.where}` : sql``
  const child = tree.tables[key.child]?.table
  const from = child?.hasPartitions === true ? key.childSql : sql`only ${key.childSql}`
  return run(
    db,
    sql`insert into ${gathered} (node, home, place, round)
    select ${node}, tableoid, ctid, ${sql.lit(round + 1)} from ${from}
    where exists (
      select from ${gathered} as retention_row join ${key.parentSql} as retention_parent
        on retention_parent.ctid = retention_row.place and retention_parent.tableoid = retention_row.home
      where retention_row.node = ${nodeOf(key.parent)} and retention_row.round = ${sql.lit(round)}
        and ${matches(key, sql.id('retention_parent'), key.childSql)}
    )
    and not exists (
      select from ${gathered} as retention_known where retention_known.node = ${node}
        and retention_known.home = ${key.childSql}.tableoid and retention_known.place = ${key.childSql}.ctid
    ) ${isDue} ${lockClause(locking)}`,
  )
}

/** Rows that, by a key, rows of the last round hang on: of the policy's table what is due goes as well. */
async function lookAbove({ db, tree, request, locking }: Work, key: PostgresKey, round: number): Promise<number> {
  const from = [...(hangsByMore(tree, key.child) ? [nodeOf(key.child)] : []), aboveNodeOf(key.child)]
  const isRoot = key.parent === 0
  const node = isRoot ? nodeOf(0) : aboveNodeOf(key.parent)
  const known = isRoot ? [node] : [node, nodeOf(key.parent)]
  return run(
    db,
    sql`insert into ${gathered} (node, home, place, round)
    select ${node}, tableoid, ctid, ${sql.lit(round + 1)} from ${key.parentSql}
    where exists (
      select from ${gathered} as retention_row join ${key.childSql} as retention_child
        on retention_child.ctid = retention_row.place and retention_child.tableoid = retention_row.home
      where retention_row.node in (${sql.join(from)}) and retention_row.round = ${sql.lit(round)}
        and ${matches(key, key.parentSql, sql.id('retention_child'))}
    )
    and not exists (
      select from ${gathered} as retention_known where retention_known.node in (${sql.join(known)})
        and retention_known.home = ${key.parentSql}.tableoid and retention_known.place = ${key.parentSql}.ctid
    ) ${isRoot ? sql`and ${request.due.where} ${lockClause(locking)}` : sql``}`,
  )
}

/** Forgets references that stay as they are: the row itself goes, or what it refers to does not. */
async function dropLoose(db: Db, key: PostgresKey, at: number): Promise<void> {
  await sql`delete from ${gathered} as retention_row
    where node = ${linkNodeOf(at)} and (
      exists (
        select from ${gathered} as retention_known where retention_known.node = ${nodeOf(key.child)}
          and not retention_known.stays
          and retention_known.home = retention_row.home and retention_known.place = retention_row.place
      )
      or not exists (
        select from ${gathered} as retention_known, ${key.childSql} as retention_child, ${key.parentSql} as retention_parent
        where retention_known.node = ${nodeOf(key.parent)} and not retention_known.stays
          and retention_parent.ctid = retention_known.place and retention_parent.tableoid = retention_known.home
          and retention_child.ctid = retention_row.place and retention_child.tableoid = retention_row.home
          and ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
      )
    )`.execute(db)
}

async function summary({ db, tree, request }: Work): Promise<Gathered> {
  await sql`analyze ${gathered}`.execute(db)
  const { rows } = await sql<{ node: number; going: string; staying: string }>`
    select node, (count(*) filter (where not stays))::text as going, (count(*) filter (where stays))::text as staying
    from ${gathered} group by node`.execute(db)
  const going = (node: number): number => Number(rows.find((row) => row.node === node)?.going ?? 0)
  const { table } = request.rows
  const marked = (stays: Sql): Sql<boolean> => sql<boolean>`exists (
    select from ${gathered} as retention_row where retention_row.node = 0 and ${stays}
      and retention_row.home = ${table.sql}.tableoid and retention_row.place = ${table.sql}.ctid
  )`
  return {
    rows: tree.tables.map((_, at) => going(at)),
    links: tree.keys.map((_, at) => going(-1 - at)),
    stays: Number(rows.find((row) => row.node === 0)?.staying ?? 0),
    going: marked(sql`not retention_row.stays`),
    staying: marked(sql`retention_row.stays`),
  }
}

/**
 * Deletes the rows that go, of all tables in one statement: what foreign keys do is done at its end, when nothing is left
 * that refers to another. Returns how many rows of each table went, in the order given.
 */
export async function deleteGathered(db: Db, tree: PostgresTree, places: readonly number[]): Promise<number[]> {
  const deletions = places.map((at) => {
    const table = tree.tables[at]?.table
    if (table === undefined) throw new TypeError('no such table in the tree')
    return sql`${sql.id(`retention_${at}`)} as (
      delete from ${rowsOf(table)} as retention_child using ${gathered} as retention_row
      where retention_row.node = ${nodeOf(at)} and not retention_row.stays
        and retention_child.ctid = retention_row.place and retention_child.tableoid = retention_row.home
      returning 1
    )`
  })
  const counts = places.map(
    (at) => sql`(select count(*) from ${sql.id(`retention_${at}`)})::text as ${sql.id(`n${at}`)}`,
  )
  const { rows } = await sql<Record<string, string>>`with ${sql.join(deletions)} select ${sql.join(counts)}`.execute(db)
  // What is put off to the end of the transaction happens now, so that its errors are told before the commit.
  await sql`set constraints all immediate`.execute(db)
  return places.map((at) => Number(rows[0]?.[`n${at}`] ?? -1))
}

function lockClause(locking: Locking): Sql {
  if (locking === 'none') return sql``
  return locking === 'skip' ? sql`for update skip locked` : sql`for update`
}
