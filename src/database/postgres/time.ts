/** Columns that store time in Postgres. */
import { sql } from 'kysely'

import { clockTime, type Cutoff } from '../../cutoff.ts'
import type { Sql, SqlValue, TimeColumn } from '../database.ts'
import type { CatalogColumn, CatalogTable } from './table.ts'

/** How a table's column stores time; undefined where it does not. */
export function timeOf(table: CatalogTable, name: string): TimeColumn | undefined {
  const column = table.columns.find((candidate) => candidate.name === name)
  return column === undefined ? undefined : timeColumn(column, 'UTC')
}

/** A column's way to store time; undefined where its type is none of time. */
export function timeColumn(column: CatalogColumn, columnTimezone: string): TimeColumn | undefined {
  const ref = sql.id(column.name)
  const before = bound(column.base, columnTimezone)
  if (before === undefined) return undefined
  return {
    storage: column.type,
    due: (cutoff) => sql<boolean>`(${ref} < ${before(cutoff)} and ${ref} > '-infinity')`,
    undated: sql<boolean>`(${ref} is null or ${ref} = 'infinity' or ${ref} = '-infinity')`,
    format: formatTime,
  }
}

/** The cutoff as a value of a column's type; undefined where that is none of time. */
export function cutoffAs(column: CatalogColumn, cutoff: Cutoff, columnTimezone: string): Sql | undefined {
  return bound(column.base, columnTimezone)?.(cutoff)
}

/** The cutoff in the column's own type: never compared across types, which the session's time zone would decide. */
function bound(type: string, columnTimezone: string): ((cutoff: Cutoff) => Sql) | undefined {
  switch (type) {
    case 'timestamp with time zone':
      return (cutoff) => sql`cast(${cutoff.instant} as timestamptz)`
    case 'timestamp without time zone':
      return (cutoff) => sql`cast(${clockTime(cutoff, columnTimezone)} as timestamp)`
    case 'date':
      return (cutoff) => sql`cast(${cutoff.day} as date)`
    default:
      return undefined
  }
}

/** `2026-10-23 00:00:00.5+00` as `2026-10-23T00:00:00.5Z`; years before Christ stay as Postgres writes them. */
function formatTime(value: SqlValue): string {
  const text = String(value)
  return /^[\d-]+ [\d:.]+(\+00)?$/.test(text) ? text.replace(' ', 'T').replace('+00', 'Z') : text
}
