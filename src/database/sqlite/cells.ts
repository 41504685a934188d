/** Temporary tables with an archive's values as they are: `n` their order from 1, `c0`, `c1`, … the values. */
import { sql } from 'kysely'

import { InvalidText, type Cell } from '../../archive/csv.ts'
import { parseRows } from '../../archive/parse.ts'
import type { Sql } from '../database.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'

/** Puts the rows of a CSV into such a table; returns how many. @param width how many columns it has */
export async function fillCells(
  connection: Connection,
  table: Sql,
  width: number,
  csv: AsyncIterable<Buffer>,
): Promise<number> {
  const insertion = (row: readonly Cell[]): Sql =>
    sql`insert into ${table} (${cells(width)}) values (${sql.join(row.map(valueSql))})`
  const usual = connection.prepare(insertion(Array.from({ length: width }, () => null))).statement
  let records = 0
  for await (const rows of parseRows(csv)) {
    for (const row of rows) {
      records += 1
      if (records === 1) continue
      if (row.some((value) => value instanceof InvalidText)) {
        const { statement, parameters } = connection.prepare(insertion(row))
        attempt(() => statement.run(...parameters))
      } else {
        attempt(() => usual.run(...row))
      }
    }
  }
  return Math.max(0, records - 1)
}

/** The columns with the values. @param affinities what they make of values; without, they leave every storage class as it is */
export function cells(width: number, affinities: readonly string[] = []): Sql {
  return sql.join(Array.from({ length: width }, (_, index) => sql`${cell(index)} ${sql.raw(affinities[index] ?? '')}`))
}

/** One of them. */
export function cell(index: number): Sql {
  return sql.id(`c${index}`)
}

/** A cell for an INSERT. Bytes that are text, though not valid UTF-8, become text again inside SQLite. */
function valueSql(value: Cell): Sql {
  return value instanceof InvalidText ? sql`cast(${value.bytes} as text)` : sql`${value}`
}

/** What a column of a declared type makes of values. https://www.sqlite.org/datatype3.html#determination_of_column_affinity */
export function affinityOf(type: string, isStrict = false): string {
  const declared = type.toUpperCase()
  if (declared.includes('INT')) return 'INTEGER'
  if (/CHAR|CLOB|TEXT/.test(declared)) return 'TEXT'
  if (declared === '' || declared.includes('BLOB')) return 'BLOB'
  if (/REAL|FLOA|DOUB/.test(declared)) return 'REAL'
  // ANY means what it says in STRICT tables alone.
  return isStrict && declared === 'ANY' ? 'BLOB' : 'NUMERIC'
}
