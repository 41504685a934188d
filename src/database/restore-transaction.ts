/** The transaction of one restore: an archive's rows on their way into a table. */
import type { TableName } from '../config/fields.ts'
import type { MadePartitions } from './partition.ts'
import type { Redacted } from './redaction.ts'
import type { Column, Db, Finding, Sql, SqlValue, Table } from './table.ts'
import type { Link } from './tree.ts'

/** How restore treats rows whose key is in the table already. */
export type OnConflict = 'error' | 'skip' | 'overwrite'

/** Rows of an archive that are in the table already. */
export interface Conflicts {
  readonly count: number
  /** Of them, those that are there as they are in the archive. */
  readonly same: number
  /** The first keys. */
  readonly keys: readonly string[]
}

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

/** A table that rows are to be restored into. */
export interface RestoreTable extends Table {
  readonly findings: readonly Finding[]
  /** Triggers that run when rows are inserted; or updated, where columns are to be set. */
  readonly triggers: readonly string[]
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
  /** Loads what columns held before they were overwritten, beside the table that they are to be put back into. */
  stageOld(redacted: Redacted, columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<OldValues>
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
  /** The CSV's columns, in its order; their types and collations where they are known. */
  readonly columns: readonly ArchiveColumn[]
  /** The columns that tell its rows apart; empty where none are known to. */
  readonly key: readonly string[]
}

/** What is recorded of a column; of one that nothing is recorded of, only the name is known. */
export interface ArchiveColumn extends Pick<Column, 'name' | 'collation' | 'isRowid'> {
  readonly type: string | undefined
}

/** Which rows of an archive are wanted; without either, all. */
export interface Selection {
  /** A predicate over the archive's columns, under their names and with their types and collations of then. */
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

/** Rows of an archive that the table has in another way: how many, and the first keys. */
export interface Unlike {
  readonly count: number
  readonly keys: readonly string[]
}

/** What columns of rows held before they were overwritten. */
export interface OldValues {
  readonly rows: number
  /**
   * Looks at the table's rows; to be called before the others.
   * @param lock whether they cannot change any more then: only where something is to be made of it
   * @returns those that are not there any more; those that hold neither what they were overwritten with nor what the archive
   *   has; and how many hold what the archive has
   */
  compare(lock: boolean): Promise<{ readonly gone: Unlike; readonly changed: Unlike; readonly same: number }>
  /** Puts the old values back where they are not held already. @param onConflict what to do with rows that have changed */
  put(onConflict: OnConflict): Promise<PlacedRows>
  /** The old values as they now are in the table, as the archive's CSV. Of rows that were left, they come as staged. */
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
