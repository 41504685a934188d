/** What the rest of the house knows of a database; everything else about it stays behind this interface. */
import type { TableName } from '../config/fields.ts'
import type { Throttle } from '../config/throttle.ts'
import type { InspectRequest, Inspection } from './inspection.ts'
import type { LostPartitions, Partitioning } from './partition.ts'
import type { RestoreTransaction } from './restore-transaction.ts'
import type { StepTransaction } from './step-transaction.ts'
import type { Db, Finding, RowSelection, Table } from './table.ts'
import type { Gathered, Gathering } from './tree.ts'

export type * from './table.ts'
export type * from './inspection.ts'
export type { Redacted } from './redaction.ts'
export type * from './partition.ts'
export type * from './step-transaction.ts'
export type * from './restore-transaction.ts'

/** A lock on a policy, held until released or until the process ends, however it ends. */
export interface Lock {
  release(): Promise<void>
}

/** A table with a time column, as `init` shows it. */
export interface Candidate {
  readonly table: TableName
  readonly column: string
  /** Rows; an estimate where counting would take long. */
  readonly rows: number
  readonly bytes: number
  readonly oldest: string | undefined
  readonly newest: string | undefined
  /** Rows that a policy of so many days would find due. */
  readonly due: readonly { readonly days: number; readonly rows: number }[]
  /** Whether the counts are the planner's estimates. */
  readonly estimated: boolean
}

/** What deleted rows have left behind: room that new rows fill, and what of it the file system could have back. */
export interface Space {
  /** Postgres: the files of the table's rows, with TOAST and partitions, without indexes. SQLite: the database's file. */
  readonly bytes: number
  /**
   * Bytes in them that hold nothing any more. SQLite: free pages, exactly. Postgres: what dead rows take up, estimated
   * from the table's statistics; a VACUUM makes room of it.
   */
  readonly unused: number
  /** Postgres: deleted and outdated rows that no VACUUM has removed yet, by the table's statistics. */
  readonly deadRows?: number
  /** SQLite: what becomes of free pages. https://www.sqlite.org/pragma.html#pragma_auto_vacuum */
  readonly autoVacuum?: 'none' | 'full' | 'incremental'
  /** Bytes that `command` would give back to the file system, at least. */
  readonly returnable: number
  /** The statement (Postgres) or command line (SQLite) that cleans up; null where there is nothing for it to do. */
  readonly command: string | null
}

/** Something that production feels, and that steps would add to. */
export interface Pressure {
  /** The field of `throttle` that it goes by. */
  readonly signal: Exclude<keyof Throttle, 'maxWait'>
  /** Who feels it, how much, and the limit. */
  readonly text: string
  /** Whether the server has begun it by itself, as it does when many rows have been deleted. */
  readonly isTheServers?: boolean
}

/** What production feels. */
export interface Felt {
  /** The strongest first. */
  readonly pressures: readonly Pressure[]
  /** What this role may not see. */
  readonly hidden: Finding | undefined
}

/** One database. */
export interface Database {
  readonly kind: 'postgres' | 'sqlite'
  /** Its address, without secrets. */
  readonly location: string
  /** The server's or library's version. */
  readonly version: string
  /** Runs queries that only read, in one transaction. */
  read<T>(work: (db: Db) => Promise<T>): Promise<T>
  /** Runs queries that read, and that may lay rows aside for it: all of it is undone. */
  scratch<T>(work: (db: Db) => Promise<T>): Promise<T>
  /** Gathers rows and all that hangs on them, in `scratch`; what it gives can be asked in there alone. */
  gather(db: Db, request: Gathering): Promise<Gathered>
  /**
   * Runs queries in one short transaction of their own.
   * @param isForStep durable no earlier than the step that comes after it: see `StepTransaction.commit`. Default false
   */
  write<T>(work: (db: Db) => Promise<T>, isForStep?: boolean): Promise<T>
  /** Looks at a policy's table, thoroughly. */
  inspect(db: Db, request: InspectRequest): Promise<Inspection>
  /** The average size of a selected row as CSV, from a sample, in bytes. */
  averageRowBytes(db: Db, rows: RowSelection): Promise<number>
  /** The statements that make a table as it is now, for the manifest. */
  ddl(db: Db, table: TableName): Promise<string[]>
  /** Runs queries as `write` does, while no step of that table is under way: each has ended, or sees what was written. */
  apart<T>(table: TableName, work: (db: Db) => Promise<T>): Promise<T>
  /** Finds a table that has rows of its own, or partitions that have; undefined where there is none of that name. */
  findTable(db: Db, name: TableName): Promise<Table | undefined>
  /** What keeps a text from being one whole predicate on a table; undefined where it is one. Nothing is run. */
  predicateError(db: Db, where: string, table: Table): Promise<string | undefined>
  /** Whether a table is there. */
  tableExists(db: Db, table: TableName): Promise<boolean>
  /** Tables with a column that could age their rows. */
  candidates(db: Db, days: readonly number[], now: Date): Promise<Candidate[]>
  /** Takes a lock of that name at once, or returns undefined: somebody else has it. */
  lock(name: string): Promise<Lock | undefined>
  /** Whether somebody has a lock of that name; takes and changes nothing. */
  isLocked(name: string): Promise<boolean>
  /** What production feels now, as far as this role may see; cheap enough to be asked every second. */
  pressure(table: TableName, limits: Throttle): Promise<Felt>
  /**
   * Watches others that write, from now on. What it returns tells how many of their transactions have ended since, anywhere
   * on the server; undefined where that cannot be told for certain.
   */
  watchWriters(): Promise<() => Promise<number | undefined>>
  /** Whether it has one writer at a time, whom all others wait for. */
  readonly hasOneWriter: boolean
  /** Begins one step, and looks at the table once more. */
  step(request: InspectRequest): Promise<StepTransaction>
  /** Returns when all steps that have been committed are durable. */
  settle(): Promise<void>
  /** Tables in partitions; undefined where the database has none. */
  readonly partitioning?: Partitioning
  /**
   * Begins one restore; undefined where there is no such table.
   * @param lost partitions that are made again where the rows need them
   * @param set the columns that are to be set in rows that are there; undefined where rows are put in
   */
  restore(table: TableName, lost?: LostPartitions, set?: readonly string[]): Promise<RestoreTransaction | undefined>
  /**
   * What deleted rows have left behind in a table (Postgres) or in the file (SQLite). Scans no table.
   * @param deleted rows that were deleted just now, for statistics that do not know yet
   */
  space(table: TableName, deleted: number): Promise<Space>
  /**
   * Cleans up behind deleted rows without standing in anybody's way, and gives back what can be: plain VACUUM on
   * Postgres, `PRAGMA incremental_vacuum` on SQLite.
   * @param signal aborted, it makes an end of it at once
   * @returns what kept it from being done, or from being done to the end
   */
  reclaim(table: TableName, signal: AbortSignal): Promise<Finding[]>
  /** The column type that the ledger keeps instants in. */
  readonly instantType: 'timestamptz' | 'text'
  close(): Promise<void>
}
