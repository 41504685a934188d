/** The transaction of one step: rows on their way into an archive. */
import type { Inspection } from './inspection.ts'
import type { Partition } from './partition.ts'
import type { Column, Db, RowSelection, Sql } from './table.ts'
import type { GatheredStep, Gathering } from './tree.ts'

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
   * Makes sure that exactly these rows are gone, or redacted; to be called once the CSV is stored.
   * @param held which rows of the table are held, if any; asked where a hold may have come since the rows were read
   * @throws RetentionError `ROWS_CHANGED` when they have changed since they were read, are held
   *   now, or cannot be dropped as a whole; `REFUSED` when they do not hold what they were overwritten with
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
 * Where rows are redacted, UPDATE stands for DELETE.
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
