/**
 * Gathers rows and all that hangs on them, level by level, each in a statement of its own: a row that is locked FOR UPDATE
 * keeps others from coming to hang on it, and what came before is seen by the next statement.
 * https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
 */
import { sql } from 'kysely'

import type { Db, RowSelection, Sql } from '../database.ts'
import { hangsByMore, upwardKeys, type Gathered, type Gathering } from '../tree.ts'
import type { PostgresKey, PostgresTree } from './tree.ts'

/** `node` says of which table a row is, `home` and `place` where it lies, `round` when it was found. */
const gathered = sql.id('pg_temp', 'retention_gathered')

/** How rows are locked: not at all, as for a plan; waiting for others; or passing over what others hold. */
export type Locking = 'none' | 'wait' | 'skip'

/** What a gathering knows of the tree, and how it goes about it. */
interface Work {
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
  await run(
    db,
    sql`insert into ${gathered} (node, home, place, round)
    select 0, tableoid, ctid, 0 from ${rowsOf(table)} where ${where} ${lockClause(locking)}`,
  )
  for (let round = 0; ; round += 1) {
    await sql`analyze ${gathered}`.execute(db)
    let added = 0
    for (const [at, key] of tree.keys.entries()) added += await gatherBy(work, key, at, round)
    for (const key of upwardKeys(tree)) added += await lookAbove(work, key, round)
    if (added === 0) break
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

/** Whether a row of the parent is what a row of the child refers to, in the key's own way of comparing. */
function matches({ columns, referenced, operators }: PostgresKey, parent: Sql, child: Sql): Sql {
  const parts = columns.map(
    (column, index) =>
      // The catalog's own, quoted, name of the operator.
      sql`${parent}.${sql.id(referenced[index] ?? '')} ${sql.raw(operators[index] ?? '=')} ${child}.${sql.id(column)}`,
  )
  return sql`(${sql.join(parts, sql` and `)})`
}

/** Marks rows that must stay, and with them all that hang together with them. */
async function keepShared(work: Work): Promise<void> {
  const { db, tree } = work
  let staying = 0
  for (const [at, key] of tree.keys.entries()) {
    // Where rows are locked, this is the proof that nothing hangs on those that go but what was gathered.
    if (key.child === 0 || work.locking !== 'none') staying += await keepParentsOfOthers(db, key, at)
    if (key.effect === 'goes' && hangsByMore(tree, key.child)) staying += await keepChildrenOfOthers(db, key)
  }
  for (const [at, { table, goes }] of tree.tables.entries()) {
    const held = at > 0 && goes ? await work.request.held(db, table) : undefined
    if (held === undefined) continue
    staying += await run(
      db,
      sql`update ${gathered} as retention_row set stays = true
      where node = ${nodeOf(at)} and exists (
        select from ${rowsOf(table)} where ${table.sql}.ctid = retention_row.place and ${table.sql}.tableoid = retention_row.home
          and ${held}
      )`,
    )
  }
  while (staying > 0) {
    staying = 0
    for (const key of tree.keys) {
      if (key.effect !== 'goes') continue
      staying += await spread(db, key, 'up')
      if (key.child > 0) staying += await spread(db, key, 'down')
    }
  }
}

/** A row stays if one hangs on it that was not gathered: it is not due, or others hold it. */
async function keepParentsOfOthers(db: Db, key: PostgresKey, at: number): Promise<number> {
  const node = key.effect === 'goes' ? nodeOf(key.child) : linkNodeOf(at)
  return run(
    db,
    sql`update ${gathered} as retention_row set stays = true
    from ${key.parentSql} as retention_parent
    where retention_row.node = ${nodeOf(key.parent)} and not retention_row.stays
      and retention_parent.ctid = retention_row.place and retention_parent.tableoid = retention_row.home
      and exists (
        select from ${key.childSql} as retention_child where ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
          and not exists (
            select from ${gathered} as retention_known where retention_known.node = ${node}
              and retention_known.home = retention_child.tableoid and retention_known.place = retention_child.ctid
          )
      )`,
  )
}

/** A row that goes along stays if it hangs on another one as well, which does not go. */
async function keepChildrenOfOthers(db: Db, key: PostgresKey): Promise<number> {
  return run(
    db,
    sql`update ${gathered} as retention_row set stays = true
    from ${key.childSql} as retention_child
    where retention_row.node = ${nodeOf(key.child)} and not retention_row.stays
      and retention_child.ctid = retention_row.place and retention_child.tableoid = retention_row.home
      and exists (
        select from ${key.parentSql} as retention_parent where ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
          and not exists (
            select from ${gathered} as retention_known where retention_known.node = ${nodeOf(key.parent)}
              and retention_known.home = retention_parent.tableoid and retention_known.place = retention_parent.ctid
          )
      )`,
  )
}

/** From rows that stay to those that they hang on (`up`), or to those that hang on them (`down`). */
async function spread(db: Db, key: PostgresKey, to: 'up' | 'down'): Promise<number> {
  const [other, own] = to === 'up' ? [key.child, key.parent] : [key.parent, key.child]
  const names = { parent: sql.id('retention_parent'), child: sql.id('retention_child') }
  const [otherName, ownName] = to === 'up' ? [names.child, names.parent] : [names.parent, names.child]
  return run(
    db,
    sql`update ${gathered} as retention_row set stays = true
    where node = ${nodeOf(own)} and not stays and exists (
      select from ${gathered} as retention_known, ${key.childSql} as retention_child, ${key.parentSql} as retention_parent
      where retention_known.node = ${nodeOf(other)} and retention_known.stays
        and ${otherName}.ctid = retention_known.place and ${otherName}.tableoid = retention_known.home
        and ${ownName}.ctid = retention_row.place and ${ownName}.tableoid = retention_row.home
        and ${matches(key, names.parent, names.child)}
    )`,
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

async function run(db: Db, query: Sql): Promise<number> {
  const { numAffectedRows } = await query.execute(db)
  return Number(numAffectedRows ?? 0)
}
