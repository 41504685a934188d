/** Which of the rows that were gathered must stay, as something that hangs on them, or that they hang on, stays. */
import { sql } from 'kysely'

import type { Db, Sql } from '../database.ts'
import { hangsByMore } from '../tree.ts'
import { gathered, linkNodeOf, matches, nodeOf, rowsOf, run, type Work } from './gathered.ts'
import type { PostgresKey } from './tree.ts'

/** Marks rows that must stay, and with them all that hang together with them. */
export async function keepShared(work: Work): Promise<void> {
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
  for (const [at, key] of tree.keys.entries())
    if (key.effect !== 'goes') staying += await keepParentsOfHeld(work, key, at)
  while (staying > 0) {
    staying = 0
    for (const key of tree.keys) {
      if (key.effect !== 'goes') continue
      staying += await spread(db, key, 'up')
      if (key.child > 0) staying += await spread(db, key, 'down')
    }
  }
}

/** Lets gathered rows of one side of a key stay for which there is a row such as `because` selects. Returns how many. */
async function keep(db: Db, key: PostgresKey, side: 'parent' | 'child', because: Sql): Promise<number> {
  const row = sql.id(`retention_${side}`)
  return run(
    db,
    sql`update ${gathered} as retention_row set stays = true
    from ${side === 'parent' ? key.parentSql : key.childSql} as ${row}
    where retention_row.node = ${nodeOf(key[side])} and not retention_row.stays
      and ${row}.ctid = retention_row.place and ${row}.tableoid = retention_row.home and exists (${because})`,
  )
}

/** A row stays if one hangs on it that was not gathered: it is not due, or others hold it. */
async function keepParentsOfOthers(db: Db, key: PostgresKey, at: number): Promise<number> {
  const node = key.effect === 'goes' ? nodeOf(key.child) : linkNodeOf(at)
  return keep(
    db,
    key,
    'parent',
    sql`
      select from ${key.childSql} as retention_child where ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
        and not exists (
          select from ${gathered} as retention_known where retention_known.node = ${node}
            and retention_known.home = retention_child.tableoid and retention_known.place = retention_child.ctid
        )
    `,
  )
}

/** A row stays if a held one would lose its reference to it: what is held stays as it is. */
async function keepParentsOfHeld({ db, tree, request }: Work, key: PostgresKey, at: number): Promise<number> {
  const table = tree.tables[key.child]?.table
  const held = table === undefined ? undefined : await request.held(db, table)
  if (table === undefined || held === undefined) return 0
  return keep(
    db,
    key,
    'parent',
    sql`
      select from ${gathered} as retention_known join ${key.childSql} as retention_child
        on retention_child.ctid = retention_known.place and retention_child.tableoid = retention_known.home
      where retention_known.node = ${linkNodeOf(at)}
        and ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
        and exists (
          select from ${rowsOf(table)}
          where ${table.sql}.ctid = retention_child.ctid and ${table.sql}.tableoid = retention_child.tableoid and ${held}
        )
    `,
  )
}

/** A row that goes along stays if it hangs on another one as well, which does not go. */
async function keepChildrenOfOthers(db: Db, key: PostgresKey): Promise<number> {
  return keep(
    db,
    key,
    'child',
    sql`
      select from ${key.parentSql} as retention_parent where ${matches(key, sql.id('retention_parent'), sql.id('retention_child'))}
        and not exists (
          select from ${gathered} as retention_known where retention_known.node = ${nodeOf(key.parent)}
            and retention_known.home = retention_parent.tableoid and retention_known.place = retention_parent.ctid
        )
    `,
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
