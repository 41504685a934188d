/** Predicates of users' own, of policies and of holds, as a part of our queries. */
import { randomBytes } from 'node:crypto'

import { sql } from 'kysely'

import { RetentionError } from '../errors.ts'
import type { Sql } from './database.ts'

/** The predicate in brackets, or `true` for a policy without one; the line break ends a comment it may end with. */
export function wherePredicate(where: string | undefined): Sql<boolean> {
  return where === undefined ? sql<boolean>`true` : sql<boolean>`(${sql.raw(where)}\n)`
}

/** True for rows that a hold's predicate is true for, or unknown (NULL): what nobody knows may be what is looked for. */
export function heldPredicate(where: string): Sql<boolean> {
  return sql<boolean>`(${wherePredicate(where)} is not false)`
}

/** True for rows that a predicate is unknown for. */
export function unknownPredicate(where: string): Sql<boolean> {
  return sql<boolean>`(${wherePredicate(where)} is null)`
}

/** True for rows that a predicate gives neither true nor false nor NULL for: SQLite takes any number for a condition. */
export function noCondition(where: string): Sql<boolean> {
  return sql<boolean>`(${wherePredicate(where)} not in (0, 1))`
}

/** A name for a column or a table of ours within reach of a predicate, which no predicate can mean. */
export function privateName(): string {
  return `retention_${randomBytes(8).toString('hex')}`
}

/** What is asked of a column with a collation that is not there could only be answered by another one. */
export function collationGone(column: string, collation: string): RetentionError {
  return new RetentionError(
    'USAGE',
    `column ${JSON.stringify(column)} had the collation ${collation}, which is not there`,
    { hint: 'Without it nobody can tell which of its values are the same.' },
  )
}

/**
 * A query that fails unless the text is one whole predicate. One that cannot stand alone, `a = 1) or (true` say, would
 * change the meaning of the query around it; between CASE WHEN and THEN it is a syntax error. Nothing is run.
 */
export function predicateTest(where: string, table: Sql): Sql {
  // With a parameter it is a prepared statement, of which Postgres takes only one at a time.
  return sql`explain select 1 from ${table} where case when ${sql.raw(where)}\n then 1 = 1 end and 1 = cast(${1} as integer)`
}
