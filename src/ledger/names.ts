/** Queries on a ledger's tables, under the names that the config gives them. */
import { sql, type Kysely } from 'kysely'

import type { TableName } from '../config/fields.ts'
import type { Db, Sql } from '../database/database.ts'
import { ledgerTableNames, qualified, type LedgerTables } from './schema.ts'

export class LedgerNames {
  readonly #schema: string | undefined
  readonly #tables: Record<keyof LedgerTables, TableName>

  constructor(ledger: TableName) {
    this.#schema = ledger.schema
    this.#tables = ledgerTableNames(ledger)
  }

  /** For queries on these tables. */
  in(db: Db): Kysely<LedgerTables> {
    return (this.#schema === undefined ? db : db.withSchema(this.#schema)).withTables<LedgerTables>()
  }

  /** A table's real name; to Kysely's types it goes by the one they know. */
  name<Name extends keyof LedgerTables>(table: Name): Name {
    return this.#tables[table].name as Name
  }

  /** A table for SQL. */
  sql(table: keyof LedgerTables): Sql {
    return sql`${qualified(this.#tables[table])}`
  }
}

/** An instant as ISO 8601: Postgres's driver gives dates, SQLite's the text that was stored. */
export function instant(value: string | Date): string {
  return typeof value === 'string' ? value : value.toISOString()
}

/** A list of columns, as it was kept as JSON. */
export function columnNames(json: string): string[] {
  const names: unknown = JSON.parse(json)
  return Array.isArray(names) ? names.map(String) : []
}
