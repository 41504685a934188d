/**
 * An archive's values as values of their columns' types today, converted as `ALTER TABLE … TYPE … USING column::type`
 * would, and whether they still are the same ones.
 */
import { sql } from 'kysely'

import type { ColumnSource, Db, Sql } from '../database.ts'
import { tryOut } from './savepoint.ts'
import type { CatalogColumn } from './table.ts'

/** How a column of the table gets its values out of the archive's text. */
export interface Conversion {
  readonly column: CatalogColumn
  /** The archive's text; a parameter where it is one value for all rows. */
  readonly text: Sql<string | null>
  /** The archive's column; undefined where all rows get one value. */
  readonly archive: string | undefined
  /** For messages: `text → integer`. */
  readonly types: string
  /** The value of the new type. */
  readonly value: Sql
  /** Whether it is still the same value, never NULL. */
  readonly isSame: Sql<boolean>
  /** Whether it is written otherwise; undefined where only the type's own form of it can be meant. */
  readonly isRewritten: Sql<boolean> | undefined
}

/** A type that the archive's values had, as it is called now; text where there is none of the name any more. */
export interface OldType {
  /** In the catalog's own words, quoted where need be, without modifiers and domains. */
  readonly type: string
  /** pg_type.typcategory */
  readonly category: string
}

const text: OldType = { type: 'text', category: 'S' }
const numbers = new Set(['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision'])
const times = new Set(['date', 'timestamp without time zone', 'timestamp with time zone'])

/** What has become of types that a manifest names. */
export async function oldTypes(db: Db, types: readonly (string | undefined)[]): Promise<OldType[]> {
  const { rows } = await sql<OldType & { n: string }>`
    with recursive base(n, oid) as (
      select n, to_regtype(name)::oid from unnest(${types.map((type) => type ?? '')}::text[]) with ordinality as given(name, n)
      where name <> ''
      union all
      select base.n, t.typbasetype from base join pg_type t on t.oid = base.oid where t.typtype = 'd'
    )
    select n::text, format_type(t.oid, -1) as type, t.typcategory::text as category
    from base join pg_type t on t.oid = base.oid where t.typtype <> 'd'
  `.execute(db)
  const found = new Map(rows.map((row) => [Number(row.n), row]))
  return types.map((_, index) => found.get(index + 1) ?? text)
}

/** How a source's values get into their column. @param cell the archive's text of it */
export async function conversionOf(
  db: Db,
  column: CatalogColumn,
  source: ColumnSource,
  cell: { readonly text: Sql<string | null>; readonly old: OldType; readonly named: string | undefined },
): Promise<Conversion> {
  const fresh = sql.raw(column.type)
  const isKept = 'archive' in source && (cell.named === undefined || cell.named === column.type)
  const old = isKept ? text : cell.old
  const typed = cast(cell.text, old.type)
  // Between enums, say, there is no cast: then the new type reads what the old one wrote.
  const isThere = async (from: string, to: string): Promise<boolean> =>
    from === 'text' || 'value' in (await tryOut(db, () => sql`select ${cast(cast(sql`null`, from), to)}`.execute(db)))
  const hasCast = await isThere(old.type, column.base)
  const value = sql`cast(${hasCast ? typed : cell.text} as ${fresh})`
  const hasCastBack = hasCast && old.type !== 'text' && (await isThere(column.base, old.type))
  const isText = old.category === 'S' || old.type === 'json'
  const comparison = ((): Sql<boolean> => {
    if (isKept) return isWritten(value, cell.text)
    if (numbers.has(column.base) && (numbers.has(old.type) || old.category === 'S'))
      return sql<boolean>`nullif(concat(${value}), '')::numeric = ${cell.text}::numeric`
    if (times.has(column.base) && (times.has(old.type) || old.category === 'S'))
      return sql<boolean>`${value}::timestamptz = ${cell.text}::timestamptz`
    if (isString(column)) return sql<boolean>`${value}::text = ${typed}::text`
    // What such text says only the type that reads it knows.
    if (isText) return sql<boolean>`true`
    return hasCastBack ? isWritten(cast(value, old.type), cell.text) : isWritten(value, cell.text)
  })()
  return {
    column,
    text: cell.text,
    archive: 'archive' in source ? source.archive : undefined,
    types: cell.named === undefined || isKept ? column.type : `${cell.named} → ${column.type}`,
    value,
    isSame: sql<boolean>`coalesce(${comparison}, ${cell.text} is null)`,
    isRewritten: isText && !isKept && !isString(column) ? sql<boolean>`not ${isWritten(value, cell.text)}` : undefined,
  }
}

function isString({ base }: CatalogColumn): boolean {
  return ['text', 'character varying', 'character', 'bpchar', 'name'].includes(base)
}

/** Whether a value is written as some text; `concat` writes as archives do, other than a cast. */
function isWritten(value: Sql, as: Sql): Sql<boolean> {
  return sql<boolean>`concat(${value}) = coalesce(${as}, '')`
}

/** @param type the catalog's own, quoted, name of it */
function cast(value: Sql, type: string): Sql {
  return sql`cast(${value} as ${sql.raw(type)})`
}
