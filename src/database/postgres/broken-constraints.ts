/** Which constraints of a table keep rows out that were not put in, and which rows those are. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import { messageOf, type RetentionError } from '../../errors.ts'
import type { Db, Sql } from '../database.ts'
import { rowsUnfit, shownCharacters, shownRow, shownRows, type Unfit } from '../unfit.ts'
import { firstFailing } from './failing-rows.ts'
import { tryOut } from './savepoint.ts'
import type { CatalogTable } from './table.ts'

/** Rows that were refused. */
interface Incoming {
  /** They, as `s`, under the names and of the types of the table's columns. */
  readonly rows: Sql
  readonly columns: readonly string[]
  /** The column that has their number, from 1 to `last`. */
  readonly n: Sql
  readonly last: number
  /** The key of the table's rows that they would replace. */
  readonly replaces: readonly string[]
}

/**
 * Looks for all constraints that rows break, as far as these go by the rows' own columns; or else for the first row.
 * @param error what Postgres said
 * @param put tries to put in all rows up to a number
 */
export async function brokenConstraints(
  db: Db,
  table: CatalogTable,
  incoming: Incoming,
  error: RetentionError,
  put: (last: number) => Promise<unknown>,
): Promise<RetentionError> {
  const reasons: Unfit[] = []
  for (const breach of [
    ...nulls(table, incoming),
    ...(await checks(db, table, incoming)),
    ...(await parents(db, table, incoming)),
    ...(await twins(db, table, incoming)),
  ]) {
    const found = await tryOut(db, () => offenders(db, table, incoming, breach))
    if ('value' in found && found.value !== undefined) reasons.push(found.value)
  }
  if (reasons.length > 0) return rowsUnfit(table.name, reasons)
  const n = await firstFailing(db, incoming.last, put)
  if (n === undefined) return error
  const { rows } = await sql<{ key: string }>`
    select ${keyText(table, incoming)} as key from ${incoming.rows} where ${incoming.n} = ${n}
  `.execute(db)
  const reason = { what: messageOf(error), count: 1, isAtLeast: true, rows: rows.map(({ key }) => shownRow(key)) }
  return rowsUnfit(table.name, [reason], error.hint)
}

/** One way for rows to be refused. */
interface Breach {
  readonly what: string
  /** Rows, as `s`, and what else the condition needs. */
  readonly from: Sql
  readonly where: Sql
  /** What to show of a row beside its key. */
  readonly value?: Sql<string | null>
}

async function offenders(db: Db, table: CatalogTable, incoming: Incoming, breach: Breach): Promise<Unfit | undefined> {
  const { what, from, where, value } = breach
  const { rows } = await sql<{ key: string; value: string | null; count: string }>`
    select ${keyText(table, incoming)} as key, left(${value ?? sql`null`}, ${shownCharacters + 1}) as value,
      count(*) over ()::text as count
    from ${from} where ${where} order by ${incoming.n} limit ${shownRows}
  `.execute(db)
  const [first] = rows
  if (first === undefined) return undefined
  const shown = rows.map((row) => shownRow(row.key, value === undefined ? undefined : row.value))
  return { what, count: Number(first.count), rows: shown }
}

function nulls(table: CatalogTable, { rows, columns }: Incoming): Breach[] {
  return table.columns
    .filter(({ name, nullable }) => !nullable && columns.includes(name))
    .map(({ name }) => ({ what: `${name}, which must not be NULL`, from: rows, where: sql`s.${sql.id(name)} is null` }))
}

/** CHECK constraints that say something about the rows' own columns alone. */
async function checks(db: Db, table: CatalogTable, { rows, columns }: Incoming): Promise<Breach[]> {
  const found = await sql<{ name: string; columns: string[]; expression: string }>`
    select k.conname::text as name, pg_get_expr(k.conbin, k.conrelid) as expression,
      ${columnsOf('conrelid', 'conkey')} as columns
    from pg_constraint k where k.conrelid = ${table.oid}::oid and k.contype = 'c' order by k.conname
  `.execute(db)
  return found.rows
    .filter((check) => check.columns.every((name) => columns.includes(name)))
    .map(({ name, expression }) => ({
      what: `check constraint "${name}" (${expression})`,
      from: rows,
      // In the catalog's own words.
      where: sql`not coalesce((${sql.raw(expression)}), true)`,
    }))
}

/** Foreign keys to rows that are not there. */
async function parents(db: Db, table: CatalogTable, { rows, columns }: Incoming): Promise<Breach[]> {
  const found = await sql<{
    name: string
    schema: string
    table: string
    isOwn: boolean
    columns: string[]
    referenced: string[]
  }>`
    select k.conname::text as name, n.nspname::text as schema, c.relname::text as table,
      k.confrelid = k.conrelid as "isOwn",
      ${columnsOf('conrelid', 'conkey')} as columns, ${columnsOf('confrelid', 'confkey')} as referenced
    from pg_constraint k
    join pg_class c on c.oid = k.confrelid join pg_namespace n on n.oid = c.relnamespace
    where k.conrelid = ${table.oid}::oid and k.contype = 'f' order by k.conname
  `.execute(db)
  return found.rows
    .filter((key) => key.columns.every((name) => columns.includes(name)))
    .map((key) => {
      const own = key.columns.map((name) => sql`s.${sql.id(name)}`)
      const isParent = sql.join(
        own.map((column, index) => sql`p.${sql.id(key.referenced[index] ?? '')} = ${column}`),
        sql` and `,
      )
      const isNull = sql.join(
        own.map((column) => sql`${column} is null`),
        sql` or `,
      )
      const among = sql`or exists (select from (select * from ${rows}) as p where ${isParent})`
      return {
        what: `foreign key "${key.name}", whose (${key.columns.join(', ')}) is not in ${formatTableName({ schema: key.schema, name: key.table })}`,
        from: rows,
        where: sql`not (${isNull} or exists (select from ${sql.id(key.schema, key.table)} as p where ${isParent}) ${key.isOwn ? among : sql``})`,
        value: sql<string>`concat_ws(', ', ${sql.join(own)})`,
      }
    })
}

/** Unique indexes over the rows' own columns: rows that are equal to one of the table's, or to one another. */
async function twins(db: Db, table: CatalogTable, { rows, columns, replaces }: Incoming): Promise<Breach[]> {
  const found = await sql<{ name: string; columns: string[]; parts: string[]; predicate: string | null }>`
    select i.indexrelid::regclass::text as name, pg_get_expr(i.indpred, i.indrelid) as predicate,
      array(select pg_get_indexdef(i.indexrelid, part, false) from generate_series(1, i.indnkeyatts) part) as parts,
      array(
        select a.attname::text from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid and d.refobjsubid > 0
        union select a.attname::text from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey)
      ) as columns
    from pg_index i
    where i.indrelid = ${table.oid}::oid and i.indisunique and i.indisvalid and not i.indisexclusion order by 1
  `.execute(db)
  return found.rows
    .filter((index) => index.columns.every((name) => columns.includes(name)))
    .map(({ name, parts, predicate }) => {
      // In the catalog's own words.
      const values = parts.map((part, index) => sql`(${sql.raw(part)}) as ${sql.id(`retention_part${index}`)}`)
      const names = parts.map((_, index) => sql.id(`retention_part${index}`))
      const where = predicate === null ? sql`true` : sql`(${sql.raw(predicate)})`
      const kept = replaces.map((column) => sql.id(column))
      const isEqual = sql.join(
        names.map((part) => sql`t.${part} = s.${part}`),
        sql` and `,
      )
      // What an insert would replace is not in its way.
      const isReplaced =
        kept.length === 0
          ? sql`false`
          : sql`(${sql.join(kept.map((column) => sql`t.${column}`))}) = (${sql.join(kept.map((column) => sql`s.${column}`))})`
      const keptParts = kept.length === 0 ? sql`` : sql`, ${sql.join(kept)}`
      const from = sql`(
        select *, count(*) over (partition by ${sql.join(names)}) as retention_twins
        from (select *, ${sql.join(values)} from ${rows} where ${where}) as parted
        where not (${sql.join(
          names.map((part) => sql`${part} is null`),
          sql` or `,
        )})
      ) as s`
      return {
        what: `duplicate key for unique index "${name}" (${parts.join(', ')})`,
        from,
        where: sql`(s.retention_twins > 1 or exists (
          select from (select ${sql.join(values)} ${keptParts} from ${table.sql} where ${where}) as t
          where ${isEqual} and not ${isReplaced}
        ))`,
        value: sql<string>`concat_ws(', ', ${sql.join(names.map((part) => sql`s.${part}`))})`,
      }
    })
}

/** A row by the table's key, or where it has none by its number. */
function keyText({ key }: CatalogTable, { columns, n }: Incoming): Sql<string> {
  if (key.length === 0 || !key.every((name) => columns.includes(name))) return sql<string>`concat('row ', s.${n})`
  return sql<string>`concat_ws(', ', ${sql.join(key.map((name) => sql`concat(${`${name} = `}::text, s.${sql.id(name)})`))})`
}

function columnsOf(relation: string, numbers: string): Sql {
  return sql.raw(`array(
    select a.attname::text from unnest(k.${numbers}) with ordinality as part(attnum, n)
    join pg_attribute a on a.attrelid = k.${relation} and a.attnum = part.attnum order by part.n
  )`)
}
