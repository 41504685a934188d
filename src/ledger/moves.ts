/** Moves: which files of archives are of no use at a place, as the archive has gone to another or was about to come. */
import type { Db } from '../database/database.ts'
import { instant, type LedgerNames } from './names.ts'
import type { LedgerTables } from './schema.ts'

/** Which archive goes where, and who wants it. */
export interface Move {
  readonly id: string
  readonly policy: string
  readonly archive: string
  /** The targets, as configs write them. */
  readonly from: string
  readonly to: string
  readonly by: string
  /** ISO 8601, as are the instants below. */
  readonly begunAt: string
  readonly toolVersion: string
}

/** A file of an archive, at the place where it is of no use: the old one once the archive has moved, the new one until then. */
export interface MovedFile extends Omit<Move, 'id'> {
  readonly move: string
  readonly file: string
  /** Of the bytes as stored. */
  readonly storedSha256: string
  /** The target in which it is of no use, as a config writes it. */
  readonly target: string
  /** Its full address there. */
  readonly location: string
  /** The target's identity, by which it is known again. */
  readonly place: string
  /** When the ledger went over to the new place; null as long as it has not. */
  readonly movedAt: string | null
  /** When it was removed; null as long as it may be there. */
  readonly removedAt: string | null
}

/** A file that is to be written down: its name, its checksum, and where it is of no use. */
export type FileOfMove = Pick<MovedFile, 'file' | 'storedSha256' | 'location' | 'place'>

/** The moves of one ledger. */
export class Moves {
  readonly #tables: LedgerNames
  readonly #exist: boolean

  /** @param exist whether the ledger's tables are there */
  constructor(tables: LedgerNames, exist: boolean) {
    this.#tables = tables
    this.#exist = exist
  }

  /** Notes which files will come to be at the new place, before the first of them does. */
  async begin(db: Db, move: Move, files: readonly FileOfMove[]): Promise<void> {
    await this.#insert(db, move, files, null)
  }

  /**
   * Notes that an archive has moved, and its files at the old place, in the transaction that takes them out of use.
   * @param place the new one's identity
   */
  async complete(db: Db, move: Move, files: readonly FileOfMove[], place: string, now: Date): Promise<void> {
    // What was noted of the new place is in use from now on, whichever move has brought it there.
    await this.#tables
      .in(db)
      .deleteFrom(this.#tables.name('moved_files'))
      .where('archive', '=', move.archive)
      .where('place', '=', place)
      .where('moved_at', 'is', null)
      .execute()
    await this.#insert(db, move, files, now.toISOString())
  }

  /** Forgets a move that has not come to be, and of which nothing is left at the new place. */
  async forget(db: Db, move: string): Promise<void> {
    await this.#tables
      .in(db)
      .deleteFrom(this.#tables.name('moved_files'))
      .where('move', '=', move)
      .where('moved_at', 'is', null)
      .execute()
  }

  /** Notes that the files of a move are gone from the old place. */
  async markRemoved(db: Db, move: string, now: Date): Promise<void> {
    await this.#tables
      .in(db)
      .updateTable(this.#tables.name('moved_files'))
      .set({ removed_at: now.toISOString() })
      .where('move', '=', move)
      .where('removed_at', 'is', null)
      .execute()
  }

  /** The files of all moves, or of those of some policies' archives, the oldest first. */
  async files(db: Db, policies?: readonly string[]): Promise<MovedFile[]> {
    if (!this.#exist || policies?.length === 0) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('moved_files'))
      .selectAll()
      .$if(policies !== undefined, (query) => query.where('policy', 'in', policies ?? []))
      .orderBy('begun_at')
      .orderBy('archive')
      .orderBy('file')
      .execute()
    return rows.map(fileOf)
  }

  async #insert(db: Db, move: Move, files: readonly FileOfMove[], movedAt: string | null): Promise<void> {
    if (files.length === 0) return
    const { id, policy, archive, from, to, by, begunAt, toolVersion } = move
    await this.#tables
      .in(db)
      .insertInto(this.#tables.name('moved_files'))
      .values(
        files.map(({ file, storedSha256, location, place }) => ({
          move: id,
          policy,
          archive,
          file,
          stored_sha256: storedSha256,
          from_target: from,
          to_target: to,
          location,
          place,
          moved_by: by,
          begun_at: begunAt,
          moved_at: movedAt,
          removed_at: null,
          tool_version: toolVersion,
        })),
      )
      .execute()
  }
}

function fileOf(row: LedgerTables['moved_files']): MovedFile {
  return {
    move: row.move,
    policy: row.policy,
    archive: row.archive,
    from: row.from_target,
    to: row.to_target,
    by: row.moved_by,
    begunAt: instant(row.begun_at),
    toolVersion: row.tool_version,
    file: row.file,
    storedSha256: row.stored_sha256,
    target: row.moved_at === null ? row.to_target : row.from_target,
    location: row.location,
    place: row.place,
    movedAt: row.moved_at === null ? null : instant(row.moved_at),
    removedAt: row.removed_at === null ? null : instant(row.removed_at),
  }
}
