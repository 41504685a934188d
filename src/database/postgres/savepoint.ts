/** Tries something that rows may make fail, without the transaction being lost. */
import { sql } from 'kysely'

import { codeOf, type RetentionError } from '../../errors.ts'
import type { Db } from '../database.ts'

/** What came of a try. */
export type Tried<T> = { readonly value: T } | { readonly error: RetentionError }

/**
 * Runs work in a savepoint; where values or constraints make it fail, only what it did is undone.
 * @param undo undoes it even where nothing fails
 */
export async function tryOut<T>(db: Db, work: () => Promise<T>, undo = false): Promise<Tried<T>> {
  await sql`savepoint retention_try`.execute(db)
  try {
    const value = await work()
    if (undo) await sql`rollback to savepoint retention_try`.execute(db)
    await sql`release savepoint retention_try`.execute(db)
    return { value }
  } catch (error) {
    if (!isOfValues(error)) throw error
    await sql`rollback to savepoint retention_try; release savepoint retention_try`.execute(db)
    return { error }
  }
}

/** The SQLSTATE of an error of Postgres. */
export function stateOf(error: RetentionError): string {
  return codeOf(error.cause) ?? ''
}

/**
 * Data exceptions, broken constraints, tables that may not be read, casts and operators that there are none of, and what functions raise.
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
function isOfValues(error: unknown): error is RetentionError {
  return error instanceof Error && /^(22|23|42501|42846|42883|P0)/.test(codeOf(error.cause) ?? '')
}
