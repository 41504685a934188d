/** A table as it is now: its columns, its key, how its rows are ordered, selected and aged. */
import type { Kysely, RawBuilder } from 'kysely'

import type { TableName } from '../config/fields.ts'
import type { Cutoff } from '../cutoff.ts'

/** Kysely over tables that are known only at run time; queries are written with its `sql` tag. */
export type Db = Kysely<unknown>

/** A value as the database's driver takes and gives it, exact. */
export type SqlValue = string | number | bigint | Buffer | null

/** A piece of SQL. */
export type Sql<T = unknown> = RawBuilder<T>

/** What a look at the live schema brought up about a policy. */
export interface Finding {
  /** A refusal stops the policy before anything is touched; a warning is worth knowing. */
  readonly level: 'refusal' | 'warning'
  /** What is so, with names and values. */
  readonly text: string
  /** What to do about it. */
  readonly hint?: string
}

/** A column of a table. */
export interface Column {
  readonly name: string
  /** The database's own name of the type. */
  readonly type: string
  readonly nullable: boolean
  /** Computed by the database, and so never archived nor restored. */
  readonly generated: boolean
  /** Filled by the database where a new row brings no value: a default, an identity, SQLite's row number. */
  readonly hasDefault: boolean
  /** How it compares text, where not as its type (Postgres) or any column (SQLite) does: a collation's name. */
  readonly collation: string | null
  /** On SQLite, whether it is another name for the row's number. */
  readonly isRowid: boolean
}

/** One of the expressions that order a table's rows: the time column, then the key. */
export interface OrderPart {
  /** The expression itself. */
  readonly value: Sql
  /** The expression, read so that `bind` can give it back exactly. */
  readonly read: Sql<SqlValue>
  /** A value that was read, for a comparison with `value`. */
  bind(value: SqlValue): Sql
}

/** How a table's time column tells due rows from others. */
export interface TimeColumn {
  /** How it stores time, in a few words; undefined where no row has a time yet. */
  readonly storage: string | undefined
  /** True for rows before the cutoff; never for undated ones. */
  due(cutoff: Cutoff): Sql<boolean>
  /** True for rows without a usable time. */
  readonly undated: Sql<boolean>
  /** A value that was read from the column, as ISO 8601. */
  format(value: SqlValue): string
}

/** A table as it is now. */
export interface Table<AColumn extends Column = Column> {
  readonly name: TableName
  /** The name for SQL, quoted. */
  readonly sql: Sql
  /** All columns in the table's order. */
  readonly columns: readonly AColumn[]
  /** The columns that tell rows apart; empty where there is none. */
  readonly key: readonly string[]
  /** Some of its columns as one text, to recognise a row by; undefined where it does not have all of them. */
  textOf(columns: readonly string[]): Sql<string> | undefined
  /** A column's value where it is a whole number, else NULL; undefined where the column is not there, or holds none. */
  numberOf(column: string): Sql<bigint | null> | undefined
  /** Whether its rows are those of its partitions. */
  readonly hasPartitions: boolean
  /** Itself, the tables that it is a partition of, and its own partitions: a hold on one of them is a hold on its rows. */
  readonly relatives: readonly TableName[]
  /** True for those of its rows that are in a relative too; undefined where all are. */
  rowsIn(relative: TableName): Sql<boolean> | undefined
  /** A column as something to order and compare rows by; undefined where there is none of that name. */
  orderBy(column: string): OrderPart | undefined
  /** Rows that must stay although they are past the cutoff, and why. */
  readonly kept: { readonly where: Sql<boolean>; readonly why: string } | undefined
}

/** Rows of a table. */
export interface RowSelection {
  readonly table: Table
  readonly where: Sql<boolean>
  readonly order: readonly OrderPart[]
}
