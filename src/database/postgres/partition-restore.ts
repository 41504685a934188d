/** Makes partitions again that have been dropped, in the transaction of a restore whose rows need them. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import { hasCode, messageOf } from '../../errors.ts'
import type { Db, Finding, LostPartitions, MadePartitions, Partition, Sql } from '../database.ts'
import { isBounds } from './partition-bounds.ts'
import type { CatalogTable } from './table.ts'

/**
 * Makes those that are not there, empty, and attaches them: from then on the rows go through the table, as all rows do.
 * ATTACH keeps neither readers nor writers from the table; only a default partition is locked, so that it gets no rows
 * which the new one should have. https://www.postgresql.org/docs/current/sql-altertable.html
 */
export async function makePartitions(db: Db, table: CatalogTable, lost: LostPartitions): Promise<MadePartitions> {
  const tables: TableName[] = []
  const warnings: Finding[] = []
  for (const partition of await neededOf(db, table, lost)) {
    const made = await make(db, partition)
    if (made.failure === undefined) tables.push(partition.table)
    else warnings.push(made.failure)
    warnings.push(...made.warnings)
  }
  return { tables, warnings }
}

/** Those whose rows may be among the restored, that are not there, and that could be attached to a table that is. */
async function neededOf(db: Db, table: CatalogTable, { partitions, time }: LostPartitions): Promise<Partition[]> {
  const there = new Set(table.relatives.map(formatTableName))
  const lost = partitions.filter(
    ({ table: own, of }) => !there.has(formatTableName(own)) && there.has(formatTableName(of)),
  )
  const part = time === undefined ? undefined : table.orderBy(time.column)
  if (time === undefined || part === undefined || lost.length === 0) return lost
  const isWithin = ({ from, to }: Partition): Sql => {
    const ends = [
      ...(to === null ? [] : [sql`${part.bind(time.from)} <= ${part.bind(to)}`]),
      ...(from === null ? [] : [sql`${part.bind(time.to)} >= ${part.bind(from)}`]),
    ]
    return ends.length === 0 ? sql`true` : sql.join(ends, sql` and `)
  }
  const needed: Partition[] = []
  for (const partition of lost) {
    const { rows } = await sql`select 1 where ${isWithin(partition)}`.execute(db)
    if (rows.length > 0) needed.push(partition)
  }
  return needed
}

interface Made {
  /** Why it could not be made; the rows may have their place all the same, in another partition. */
  readonly failure: Finding | undefined
  readonly warnings: readonly Finding[]
}

/** As it was; or else, where it would not fit any more, in the form that the whole table has now. */
async function make(db: Db, partition: Partition): Promise<Made> {
  const name = formatTableName(partition.table)
  // Its text goes into a statement as it is.
  if (!isBounds(partition.bounds))
    return { failure: notMade(name, `its bounds are "${partition.bounds}"`), warnings: [] }
  const own = { name: sqlName(partition.table), of: sqlName(partition.of) }
  const attach = sql`alter table ${own.of} attach partition ${own.name} ${sql.raw(partition.bounds)}`
  const like = sql`create table ${own.name} (like ${own.of} including all excluding identity excluding indexes excluding statistics)`
  let why = 'the ledger has not its statements'
  if (partition.ddl.length > 0) {
    const failure = await tryAll(db, [...partition.ddl.map((text) => sql.raw(text)), attach])
    if (failure === undefined) return { failure: undefined, warnings: await giveRights(db, partition) }
    why = failure
  }
  const failure = await tryAll(db, [like, attach])
  if (failure !== undefined) return { failure: notMade(name, failure), warnings: [] }
  const text = `Partition ${name} was made again in the form of ${formatTableName(partition.of)}: ${why}`
  const hint = 'Its own indexes, storage, owner and grants, if it had any, are in the manifest.'
  return { failure: undefined, warnings: [{ level: 'warning', text, hint }] }
}

function notMade(name: string, why: string): Finding {
  return {
    level: 'warning',
    text: `Partition ${name} was not made again: ${why}`,
    hint: 'Its rows go where the table has a place for them.',
  }
}

/** Its owner and grants, as far as this role may. What the schema's defaults have granted meanwhile goes. */
async function giveRights(db: Db, { table, rights }: Partition): Promise<Finding[]> {
  const { rows } = await sql<{ statement: string }>`
    select distinct format('REVOKE ALL ON %s FROM %s', c.oid::regclass,
      case when acl.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(acl.grantee)) end) as statement
    from pg_class c, aclexplode(c.relacl) acl
    where c.oid = to_regclass(format('%I.%I', ${table.schema ?? 'public'}::text, ${table.name}::text)) and acl.grantee <> c.relowner
  `.execute(db)
  const warnings: Finding[] = []
  for (const text of [...rows.map(({ statement }) => statement), ...rights]) {
    const failure = await tryAll(db, [sql.raw(text)])
    if (failure !== undefined) warnings.push({ level: 'warning', text: `${text} failed: ${failure}` })
  }
  return warnings
}

/** Runs statements, all or none; returns what the one that failed failed with. */
async function tryAll(db: Db, statements: readonly Sql[]): Promise<string | undefined> {
  await sql`savepoint retention_partition`.execute(db)
  try {
    for (const statement of statements) await statement.execute(db)
    await sql`release savepoint retention_partition`.execute(db)
    return undefined
  } catch (error) {
    if (hasCode(error, 'DATABASE_UNREACHABLE') || hasCode(error, 'DATABASE_BUSY')) throw error
    await sql`rollback to savepoint retention_partition; release savepoint retention_partition`.execute(db)
    return messageOf(error)
  }
}

function sqlName({ schema = 'public', name }: TableName): Sql {
  return sql.id(schema, name)
}
