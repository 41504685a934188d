/** What overwriting columns comes to in SQLite: the values as their columns hold them, and what stands against it. */
import { sql } from 'kysely'

import type { SetValue } from '../../config/fields.ts'
import { messageOf } from '../../errors.ts'
import type { Column, Db, Finding, Sql } from '../database.ts'
import { setFindings, unfitValue, type Redaction, type SetFacts, type SetValues } from '../redaction.ts'
import { affinityOf, cell, cells } from './cells.ts'
import { referencingKeys } from './foreign-keys.ts'
import type { SchemaTable } from './table.ts'

/** A value for a column, as one of the storage classes. */
export function valueOf(value: SetValue): Sql {
  if (typeof value === 'boolean') return sql`${value ? 1n : 0n}`
  // The driver takes large numbers for REALs.
  return typeof value === 'number' && Number.isSafeInteger(value) ? sql`${BigInt(value)}` : sql`${value}`
}

/** `column = value` for each column. */
export function assignments(set: SetValues): Sql {
  return sql.join(Object.entries(set).map(([name, value]) => sql`${sql.id(name)} = ${valueOf(value)}`))
}

/** True where a column does not hold a value, byte by byte, whatever the column's collation. */
export function holdsOther(reference: Sql, value: SetValue): Sql<boolean> {
  return sql<boolean>`(${reference} collate binary is not ${valueOf(value)})`
}

/** What a policy's `set` comes to, and what is against it. @param time the column that ages the rows */
export async function readRedaction(
  db: Db,
  table: SchemaTable,
  written: SetValues,
  time: string,
): Promise<{ redaction: Redaction; findings: Finding[] }> {
  const set = Object.fromEntries(Object.entries(written).map(([name, value]) => [ownName(table, name), value]))
  const findings = setFindings(table, time, set, await readFacts(db, table))
  if (Object.keys(set).length < Object.keys(written).length) {
    const text = `"set" names a column of "${table.name.name}" twice: letter case makes no difference`
    findings.push({ level: 'refusal', text, hint: 'Leave one of them out.' })
  }
  if (findings.length === 0) findings.push(...(await valueFindings(db, table, set)))
  const open = Object.entries(set).map(([name, value]) => holdsOther(sql.id(name), value))
  return { redaction: { set, isOpen: sql<boolean>`(${sql.join(open, sql` or `)})` }, findings }
}

/** A column's name as its table has it: letter case is no difference to SQLite. */
function ownName({ columns }: SchemaTable, name: string): string {
  return columns.find((column) => column.name.toLowerCase() === name.toLowerCase())?.name ?? name
}

async function readFacts(db: Db, table: SchemaTable): Promise<SetFacts> {
  const { rows } = await sql<{ name: string; column: string | null }>`
    select i.name, c.name as column from pragma_index_list(${table.name.name}) as i, pragma_index_info(i.name) as c
    where i."unique" = 1 and i.partial = 0 order by i.seq, c.seqno
  `.execute(db)
  const unique = [...Map.groupBy(rows, (row) => row.name).values()].map((parts) =>
    parts.map(({ column }) => column ?? ''),
  )
  const keys = await referencingKeys(db, table)
  return {
    unique,
    uniqueNulls: [],
    partitionKey: [],
    referenced: keys.map((key) => ({
      by: { schema: undefined, name: key.table },
      columns: key.referenced.map((name) => ownName(table, name)),
    })),
    filled: [],
  }
}

/** Values that their columns would make others of, by their affinity, or do not take, in a STRICT table. */
async function valueFindings(db: Db, table: SchemaTable, set: SetValues): Promise<Finding[]> {
  const { rows } = await sql<{ strict: bigint }>`
    select strict from pragma_table_list where schema = 'main' and name = ${table.name.name}`.execute(db)
  const isStrict = rows[0]?.strict === 1n
  const findings: Finding[] = []
  for (const column of table.columns) {
    if (!Object.hasOwn(set, column.name)) continue
    const value = set[column.name] ?? null
    const why = await whyUnfit(db, column, value, isStrict)
    if (why !== undefined) findings.push(unfitValue(table, column, value, why))
  }
  return findings
}

async function whyUnfit(db: Db, { type }: Column, value: SetValue, isStrict: boolean): Promise<string | undefined> {
  const tried = sql.id('temp', 'retention_set')
  const before = valueOf(value)
  try {
    await sql`create temporary table retention_set (${
      isStrict ? sql`${cell(0)} ${sql.raw(type)}` : cells(1, [affinityOf(type)])
    }) ${isStrict ? sql`strict` : sql``}`.execute(db)
    await sql`insert into ${tried} values (${before})`.execute(db)
    const { rows } = await sql<{ same: bigint; held: string }>`
      select (typeof(c0) = typeof(v) or c0 = v and typeof(c0) in ('integer', 'real') and typeof(v) in ('integer', 'real')) as same,
        typeof(c0) || ' ' || quote(c0) as held
      from (select +c0 as c0, ${before} as v from ${tried})
    `.execute(db)
    return rows[0]?.same === 1n ? undefined : `it would be ${rows[0]?.held ?? 'nothing'} there`
  } catch (error) {
    return messageOf(error).replace('SQLite: ', '')
  } finally {
    await sql`drop table if exists ${tried}`.execute(db)
  }
}
