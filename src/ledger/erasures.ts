/** Erasures: which files were taken out of use because rows were erased from them, and what took their place. */
import type { Db } from '../database/database.ts'
import { instant, type LedgerNames } from './names.ts'
import type { LedgerTables } from './schema.ts'

/** An erasure, as the ledger knows it. Of the rows themselves it keeps nothing. */
export interface Erasure {
  readonly id: string
  readonly policy: string
  /** The table whose rows were asked for. */
  readonly table: string
  readonly reason: string
  readonly by: string
  /** ISO 8601, as are the instants below. */
  readonly at: string
  readonly toolVersion: string
}

/** A file that rows were erased from, or that belonged to an archive of which they were. */
export interface ErasedFile {
  /** The archive's name before, and the name of the one that has the rest of its rows; null where nothing was left. */
  readonly archive: string
  readonly archiveAfter: string | null
  readonly file: string
  readonly fileAfter: string | null
  /** Rows that it had, and that were erased; null for a manifest. */
  readonly rows: number | null
  readonly rowsErased: number | null
  /** Of the CSV, before and after; null for a manifest. */
  readonly sha256: string | null
  readonly sha256After: string | null
  /** Of the bytes as stored. */
  readonly storedSha256: string
  readonly storedSha256After: string | null
  /** The machine that had archived it. */
  readonly host: string
  /** The target, as the config wrote it. */
  readonly target: string
  /** Its full address. */
  readonly location: string
  /** When it was removed; null as long as it may be there. */
  readonly removedAt: string | null
}

/** The erasures of one ledger. */
export class Erasures {
  readonly #tables: LedgerNames
  readonly #exist: boolean

  /** @param exist whether the ledger's tables are there */
  constructor(tables: LedgerNames, exist: boolean) {
    this.#tables = tables
    this.#exist = exist
  }

  /** Records what an erasure has done to an archive, in the transaction that takes its old files out of use. */
  async record(db: Db, erasure: Erasure, files: readonly ErasedFile[]): Promise<void> {
    const { table, by, at, toolVersion, ...same } = erasure
    await this.#tables
      .in(db)
      .insertInto(this.#tables.name('erasures'))
      .values({ ...same, table_name: table, erased_by: by, erased_at: at, tool_version: toolVersion })
      // With the first of its archives it was recorded.
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute()
    await this.#tables
      .in(db)
      .insertInto(this.#tables.name('erased_files'))
      .values(files.map((file) => ({ erasure: erasure.id, ...rowOf(file) })))
      .execute()
  }

  /** Notes that the files of an archive are gone. */
  async markRemoved(db: Db, archive: string, now: Date): Promise<void> {
    await this.#tables
      .in(db)
      .updateTable(this.#tables.name('erased_files'))
      .set({ removed_at: now.toISOString() })
      .where('archive', '=', archive)
      .where('removed_at', 'is', null)
      .execute()
  }

  /** All erasures there have been, or those of some policies, the oldest first. */
  async all(db: Db, policies?: readonly string[]): Promise<(Erasure & { readonly files: readonly ErasedFile[] })[]> {
    if (!this.#exist || policies?.length === 0) return []
    const erasures = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('erasures'))
      .selectAll()
      .$if(policies !== undefined, (query) => query.where('policy', 'in', policies ?? []))
      .orderBy('erased_at')
      .orderBy('id')
      .execute()
    if (erasures.length === 0) return []
    const files = Map.groupBy(
      await this.#tables.in(db).selectFrom(this.#tables.name('erased_files')).selectAll().orderBy('file').execute(),
      ({ erasure }) => erasure,
    )
    return erasures.map((row) => ({
      id: row.id,
      policy: row.policy,
      table: row.table_name,
      reason: row.reason,
      by: row.erased_by,
      at: instant(row.erased_at),
      toolVersion: row.tool_version,
      files: (files.get(row.id) ?? []).map(fileOf),
    }))
  }

  /** The archive that has what is left of one that rows were erased from, be it several times; null where nothing is. */
  async restOf(db: Db, archive: string): Promise<string | null> {
    const [file] = await this.files(db, archive)
    if (file === undefined) return archive
    return file.archiveAfter === null ? null : this.restOf(db, file.archiveAfter)
  }

  /** The files of archives that rows were erased from: all, or those of one archive. */
  async files(db: Db, archive?: string): Promise<ErasedFile[]> {
    if (!this.#exist) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('erased_files'))
      .selectAll()
      .$if(archive !== undefined, (query) => query.where('archive', '=', archive ?? ''))
      .orderBy('file')
      .execute()
    return rows.map(fileOf)
  }
}

type FileRow = LedgerTables['erased_files']

function rowOf(file: ErasedFile): Omit<FileRow, 'erasure'> {
  const { archive, archiveAfter, fileAfter, rowsErased, sha256After, storedSha256, storedSha256After, removedAt } = file
  return {
    archive,
    archive_after: archiveAfter,
    file: file.file,
    file_after: fileAfter,
    rows: file.rows,
    rows_erased: rowsErased,
    sha256: file.sha256,
    sha256_after: sha256After,
    stored_sha256: storedSha256,
    stored_sha256_after: storedSha256After,
    host: file.host,
    target: file.target,
    location: file.location,
    removed_at: removedAt,
  }
}

function fileOf(row: FileRow): ErasedFile {
  return {
    archive: row.archive,
    archiveAfter: row.archive_after,
    file: row.file,
    fileAfter: row.file_after,
    rows: row.rows === null ? null : Number(row.rows),
    rowsErased: row.rows_erased === null ? null : Number(row.rows_erased),
    sha256: row.sha256,
    sha256After: row.sha256_after,
    storedSha256: row.stored_sha256,
    storedSha256After: row.stored_sha256_after,
    host: row.host,
    target: row.target,
    location: row.location,
    removedAt: row.removed_at === null ? null : instant(row.removed_at),
  }
}
