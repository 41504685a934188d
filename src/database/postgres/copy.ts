/** COPY as bytes, out of a table and into one, with Postgres's errors told as ours. */
import { pipeline } from 'node:stream/promises'

import { sql } from 'kysely'
import { DatabaseError } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'

import type { Sql } from '../database.ts'
import { postgresError, type Transaction } from './connection.ts'
import { CopyReader } from './copy-reader.ts'
import { withLiterals } from './literal.ts'
import type { CatalogColumn } from './table.ts'

/** Types whose values never need quotes. Those of all others are always quoted: looking whether they need it costs a fifth. */
const plain =
  /^(smallint|integer|bigint|oid|real|double precision|numeric|boolean|uuid|date|time(stamp)? with(out)? time zone)$/

/** The statement that gives a query's rows as an archive's CSV. @param columns what the query selects */
export function copyCsv(query: Sql, columns: readonly CatalogColumn[]): string {
  const quoted = columns.filter(({ base }) => !plain.test(base)).map(({ name }) => sql.id(name))
  const forced = quoted.length === 0 ? sql`` : sql`, force_quote (${sql.join(quoted)})`
  return withLiterals(sql`copy (${query}) to stdout with (format csv, header true, encoding 'UTF8'${forced})`)
}

/** Runs a COPY … FROM STDIN; returns how many rows it has put in. After an error the connection can only be cut. */
export async function copyIn(
  transaction: Transaction,
  table: Sql,
  columns: readonly string[],
  csv: AsyncIterable<Buffer>,
): Promise<number> {
  const list = sql.join(columns.map((name) => sql.id(name)))
  const text = withLiterals(sql`copy ${table} (${list}) from stdin with (format csv, header true, encoding 'UTF8')`)
  const copy = transaction.client.query(copyFrom(text))
  transaction.isCopying = true
  await pipeline(csv, copy).catch((error: unknown) => {
    throw error instanceof DatabaseError ? postgresError(error) : error
  })
  transaction.isCopying = false
  return copy.rowCount
}

/** The bytes of a COPY, and how many rows they are. */
export interface CopyOut extends AsyncIterable<Buffer> {
  /** By the server's count. To be asked once the bytes have been read to their end, as is the next. */
  readonly rows: () => Promise<number>
  /** As they came. */
  readonly records: () => number
}

/**
 * Starts a COPY … TO STDOUT; until it has been read to its end, the connection takes no other command.
 * @param signal aborted, it ends the reading with an error at once
 */
export function copyOut(transaction: Transaction, text: string, signal?: AbortSignal): CopyOut {
  const copy = transaction.client.query(new CopyReader(text))
  transaction.isCopying = true
  return {
    async *[Symbol.asyncIterator]() {
      try {
        yield* copy.blocks(signal)
        transaction.isCopying = false
      } catch (error) {
        throw signal?.aborted === true ? error : postgresError(error)
      }
    },
    rows: async () => {
      // Foreign keys are checked after the last byte.
      await copy.end().catch((error: unknown) => {
        throw postgresError(error)
      })
      return copy.rowCount
    },
    records: () => copy.records,
  }
}
