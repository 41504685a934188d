/** What the rest of the house knows of a database; everything else about it stays behind this interface. */
import type { Kysely, RawBuilder } from 'kysely'

import type { Cutoff } from '../cutoff.ts'
import type { TableName } from '../config/fields.ts'
import type { Throttle } from '../config/throttle.ts'
import type { Children, Gathered, Gathering, GatheredStep, Link, Tree } from './tree.ts'

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

/** A policy's table and time column, as far as they could be made out, and what was found about them. */
export interface Inspection {
  readonly table: Table | undefined
  /** The time column's own name; SQLite does not mind how a policy writes it. */
  readonly column: string
  readonly time: TimeColumn | undefined
  /** The time column, then what tells rows with equal times apart. */
  readonly order: readonly OrderPart[]
  readonly findings: readonly Finding[]
  /** Whether steps may be under way side by side: not where deleting a row changes others, which they could both wait for. */
  readonly sideBySide: boolean
  /** Rows without a usable time, where looking for how time is stored has counted them. */
  readonly undated?: number
  /** What hangs on the table; where it was asked for, and the table could be looked at so far. */
  readonly tree?: Tree
}

/** What is asked of a table. */
export interface InspectRequest {
  readonly table: TableName
  readonly column: string
  readonly where: string | undefined
  readonly columnTimezone: string
  readonly cutoff: Cutoff
  /** Which tables' rows may go along with its own; undefined: none. */
  readonly children: Children | undefined
  /**
   * `TimeColumn.storage` as found before: the table has been looked at in this run, and what asks for reading its rows
   * is not asked again.
   */
  readonly storage?: string | undefined
  /** Whether the policy has worked before: then a column without any usable time is one whose dated rows have gone. */
  readonly hasWorked?: boolean
}

/** A lock on a policy, held until released or until the process ends, however it ends. */
export interface Lock {
  release(): Promise<void>
}

/** A partition, so that it can be made again. */
export interface Partition {
  readonly table: TableName
  /** The table that it is directly a partition of. */
  readonly of: TableName
  /** `FOR VALUES …`, as ATTACH PARTITION takes them. */
  readonly bounds: string
  /** Its rows have times from one up to the other, as `OrderPart.bind` takes them; null where there is no such end. */
  readonly from: string | null
  readonly to: string | null
  /** The statements that make it as a table of its own. */
  readonly ddl: readonly string[]
  /** Those that give it its owner and its grants. */
  readonly rights: readonly string[]
}

/** A partition that lies wholly before a cutoff. */
export interface WholePartition {
  readonly table: TableName
  /** True for its rows among those of the whole table. */
  readonly isIn: Sql<boolean>
  /** True for all others. */
  readonly isElsewhere: Sql<boolean>
  /** Why it cannot be dropped, in a few words; undefined where nothing is known against it. */
  readonly obstacle: string | undefined
}

/** What a database with partitioned tables can do with one of them. */
export interface Partitioning {
  /** The partitions of a table that lie wholly before the cutoff, the oldest first; none where it is not partitioned by time. */
  whole(db: Db, inspection: Inspection, request: InspectRequest): Promise<{ whole: WholePartition[]; hint?: string }>
  /** Begins a step that archives a partition and drops it. */
  step(request: InspectRequest, partition: TableName): Promise<StepTransaction>
}

/** Partitions that have been dropped, and that rows on their way back may need. */
export interface LostPartitions {
  readonly partitions: readonly Partition[]
  /** The column that aged the rows, and two times that no row lies outside of; undefined where they are not known. */
  readonly time: IncomingRows['time']
}

/** What became of lost partitions. */
export interface MadePartitions {
  readonly tables: readonly TableName[]
  readonly warnings: readonly Finding[]
}

/** Rows of a step on their way into an archive. */
export interface ExportedRows {
  /** The partition that all of them are; undefined where they are single rows. */
  readonly partition?: Partition
  /** The CSV's columns. */
  readonly columns: readonly Column[]
  /** CSV bytes, header first. To be read once, to the end. */
  readonly csv: AsyncIterable<Buffer>
  /** Rows in the CSV, as the database counts them; to be asked once it has been read. */
  count(): Promise<number>
  /** Rows as they came, where each comes by itself; to be asked once the CSV has been read. Undefined: to be counted in it. */
  readonly records?: () => number
  /**
   * Makes sure that exactly these rows are gone; to be called once the CSV is stored.
   * @param held which rows of the table are held, if any; asked where a hold may have come since the rows were read
   * @throws RetentionError `ROWS_CHANGED` when they have changed since they were read, are held
   *   now, or cannot be dropped as a whole
   */
  remove(held: () => Promise<Sql<boolean> | undefined>): Promise<void>
}

/**
 * The transaction of one step. The order of events is the runner's; what each event means is the database's:
 *
 * | event    | Postgres                                     | SQLite; a whole partition on Postgres               |
 * |----------|----------------------------------------------|-----------------------------------------------------|
 * | `step`   | transaction; the table locked against DDL    | read snapshot                                       |
 * | `export` | the rows that DELETE returns                 | the rows of the snapshot; then the snapshot ends    |
 * | `remove` | nothing: reading has deleted them            | write lock; proof that nothing changed; DELETE, DROP |
 * | `commit` | commit                                       | commit                                              |
 *
 * After the last of several steps, `Database.settle`: until it returns, they may not be reported as done.
 */
export interface StepTransaction {
  /** For the ledger's row; after `remove` only. */
  readonly db: Db
  /** The table as it is now, and cannot change any more until the step ends or starts over. */
  readonly inspection: Inspection
  /**
   * @param skipLocked leaves out rows that another transaction holds, instead of waiting for them
   * @param signal aborted, it makes the reading of the CSV end with an error at once
   */
  export(rows: RowSelection, skipLocked: boolean, signal?: AbortSignal): ExportedRows
  /** The same for rows and all that hangs on them; a row stays if one hangs on it that another transaction holds. */
  gather(request: Gathering, skipLocked: boolean, signal?: AbortSignal): Promise<GatheredStep>
  /**
   * Returns when the step is committed: durably on Postgres; on SQLite with a write-ahead log, where others would wait for
   * the disk, at the latest when `settle` returns. Where it fails, whether it was committed is not known.
   */
  commit(): Promise<void>
  /**
   * For how long nobody else could write to the database, in milliseconds; to be asked after `commit`. Always 0 where a step
   * keeps nobody from writing elsewhere.
   */
  readonly held: number
  /** Undoes everything; never throws. */
  rollback(): Promise<void>
}

/** Rows of a table. */
export interface RowSelection {
  readonly table: Table
  readonly where: Sql<boolean>
  readonly order: readonly OrderPart[]
}

/** Rows of an archive that are in the table already. */
export interface Conflicts {
  readonly count: number
  /** Of them, those that are there as they are in the archive. */
  readonly same: number
  /** The first keys. */
  readonly keys: readonly string[]
}

/** How restore treats rows whose key is in the table already. */
export type OnConflict = 'error' | 'skip' | 'overwrite'

/**
 * Rows of a table, as queries: by the runs of consecutive numbers that their one key column holds, or where it is not
 * one of whole numbers alone, by their keys as `Table.textOf` writes them.
 */
export type KnownRows =
  | { readonly runs: Sql<{ first: bigint; last: bigint }>; readonly column: string }
  | { readonly keys: Sql<{ key: string }>; readonly columns: readonly string[] }

/** An archive on its way into a table. */
export interface IncomingRows {
  /** The CSV's columns, in its order. */
  readonly columns: readonly string[]
  /** What is recorded of their types; undefined where nothing is. */
  readonly types: readonly Pick<Column, 'name' | 'type'>[] | undefined
  /** The column that aged the rows, and two times that no row lies outside of; undefined where they are not known. */
  readonly time: { readonly column: string; readonly from: string; readonly to: string } | undefined
}

/** The transaction of one restore. */
export interface RestoreTransaction {
  readonly db: Db
  /** The table, which cannot change its form any more until the restore ends. */
  readonly table: RestoreTable
  /** Partitions that were made again for the rows; undefined where a database has none. */
  readonly made?: MadePartitions
  /** Whether `load` would do: nothing of the table could make other rows of those that go in. */
  canLoad(rows: IncomingRows): boolean
  /**
   * Puts an archive's rows straight into the table. That its bytes are those that were recorded, and its rows as many, is
   * for the caller to see to, before the commit.
   * @returns undefined where the rows have not all gone in as they are: then `stage`, in another transaction, tells why
   */
  load(rows: IncomingRows, csv: AsyncIterable<Buffer>): Promise<PlacedRows | undefined>
  /** Loads an archive's CSV into a place of its own beside the table. */
  stage(columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<StagedRows>
  /**
   * The same for another table, in the same transaction: it is committed and rolled back with this one. What has been placed
   * in one table must have been asked for before another is staged. Undefined where there is no such table.
   */
  also(table: TableName): Promise<RestoreTransaction | undefined>
  /**
   * Puts rows of several tables in at once, for those that refer to each other in a circle; of each, what has come of them.
   * Undefined where the database can put off what foreign keys check, and so takes one table after the other.
   */
  loadTogether(
    parts: readonly { into: RestoreTransaction; columns: readonly string[]; csv: AsyncIterable<Buffer> }[],
    onConflict: OnConflict,
  ): Promise<readonly { rows: PlacedRows; conflicts: Conflicts; readBack(): AsyncIterable<Buffer> }[] | undefined>
  /** Sets references again where they still are what a foreign key made of them; how many there were, and were set. */
  relink(
    link: Link,
    columns: readonly string[],
    csv: AsyncIterable<Buffer>,
  ): Promise<{ readonly rows: number; readonly set: number }>
  /** Loads an archive's CSV beside the table as it is, for rows that are to be chosen among, or to be reshaped. */
  stageArchive(archive: ArchiveForm, csv: AsyncIterable<Buffer>): Promise<ArchivedRows>
  /** Returns when the restore is durable. Where it fails, whether it was committed is not known. */
  commit(): Promise<void>
  /** Undoes everything; never throws. */
  rollback(): Promise<void>
}

/** What is recorded of an archive's form. */
export interface ArchiveForm {
  /** The table that it is from. */
  readonly table: TableName
  /** The CSV's columns, in its order; their types where they are known. */
  readonly columns: readonly { readonly name: string; readonly type: string | undefined }[]
  /** The columns that tell its rows apart; empty where none are known to. */
  readonly key: readonly string[]
}

/** Which rows of an archive are wanted; without either, all. */
export interface Selection {
  /** A predicate over the archive's columns, under their names and of their types then. */
  readonly where: string | undefined
  /** The values of the archive's key, as text. */
  readonly keys: readonly (readonly string[])[] | undefined
}

/** What a column of the table gets in restored rows: a column of the archive, or one value for all. */
export type ColumnSource =
  | { readonly column: string; readonly archive: string }
  | { readonly column: string; readonly value: string | null }

/** An archive's rows as they are in it, beside the table. */
export interface ArchivedRows {
  readonly rows: number
  /**
   * Leaves only some of them; to be called once.
   * @returns how many are left, and which of the keys no row has
   * @throws RetentionError `USAGE` where predicate or keys cannot be used
   */
  select(selection: Selection): Promise<{ rows: number; missing: readonly string[] }>
  /**
   * Makes rows of the table's form of them, and nothing else.
   * @returns the rows; of `rewritten` columns, text is written otherwise now than the archive has it, JSON or a time say
   * @throws RetentionError `ROWS_UNFIT` where a value cannot become one of its column's type, or would be another one;
   *   `USAGE` where a value for all of them cannot
   */
  reshape(sources: readonly ColumnSource[]): Promise<{ staged: StagedRows; rewritten: readonly string[] }>
}

/** An archive's rows beside the table that they are from. */
export interface StagedRows {
  readonly rows: number
  /**
   * The rows whose key is in the table already: how many, of how many the very same row is there, and the first keys.
   * @param byRow in a table without a key, whole rows are looked for, as by `matchRows`
   */
  conflicts(byRow: boolean): Promise<Conflicts>
  /** Marks the staged rows that are in the table, the very same and each as often as there; returns how many. */
  matchRows(): Promise<number>
  /** The staged rows that `matchRows` has not marked, as CSV. */
  unmatched(): AsyncIterable<Buffer>
  /** Puts the staged rows into the table. @throws RetentionError `ROWS_UNFIT` where its constraints do not allow some */
  insert(onConflict: OnConflict): Promise<PlacedRows>
  /** The staged rows as they now are in the table, as the archive's CSV. Rows that were skipped come as staged. */
  readBack(): AsyncIterable<Buffer>
}

/** The rows that have been put into the table. */
export interface PlacedRows {
  readonly rows: number
  /** Them, by the table's key. */
  known(): Promise<KnownRows>
  /** The least and greatest value that they have in a column, as `OrderPart.bind` takes them. */
  range(column: string): Promise<{ first: SqlValue; last: SqlValue }>
  /** Lets sequences go on behind their values; returns what should be known about it. */
  advanceSequences(): Promise<string[]>
}

/** A table that rows are to be restored into. */
export interface RestoreTable extends Table {
  readonly findings: readonly Finding[]
  /** Triggers that run when rows are inserted. */
  readonly insertTriggers: readonly string[]
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
   */
  restore(table: TableName, lost?: LostPartitions): Promise<RestoreTransaction | undefined>
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
