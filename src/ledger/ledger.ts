/** The ledger: what has been archived, and what was put back. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../config/fields.ts'
import type { Encoding } from '../archive/encoding.ts'
import type { Database, Db, Partition, Redacted } from '../database/database.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { Erasures } from './erasures.ts'
import { Holds } from './holds.ts'
import { Moves } from './moves.ts'
import { columnNames, instant, LedgerNames } from './names.ts'
import { Runs } from './runs.ts'
import { isLedgerTable, migrateLedger, readVersion, type LedgerTable } from './schema.ts'

/** What has become of an archive. */
export type ArchiveState = 'archived' | 'restored' | 'pruned'

/** A further file of an archive: rows of another table that went along, or references that were set to something else. */
export interface LedgerFile {
  /** Its name in the target. */
  readonly path: string
  /** The table as `schema.table`. */
  readonly table: string
  readonly columns: readonly string[]
  readonly rows: number
  /** As stored. */
  readonly bytes: number
  /** Of the CSV. */
  readonly sha256: string
  /** Of the bytes as stored. */
  readonly storedSha256: string
  /** As in the entry. */
  readonly encoding: Encoding | null
  /** Of a file of references, how they are set again; as the manifest has it. */
  readonly link?: LedgerLink
}

/** See `link` in the manifest. */
export interface LedgerLink {
  readonly key: readonly string[]
  readonly columns: readonly string[]
  readonly sets: readonly string[]
  readonly to: 'null' | 'default'
}

/** One archive, as the ledger knows it. */
export interface LedgerEntry {
  readonly name: string
  readonly policy: string
  /** The table as `schema.table`. */
  readonly table: string
  readonly state: ArchiveState
  /** Its full address when it was stored. */
  readonly location: string
  /** The target, as the config wrote it. */
  readonly target: string
  /** The file's name in the target: the archive's, with an ending where it is compressed or sealed. */
  readonly path: string
  /** Of the policy's own table; as are the figures below. */
  readonly rows: number
  /** As stored. */
  readonly bytes: number
  /** Of the CSV. */
  readonly sha256: string
  /** Of the bytes as stored. */
  readonly storedSha256: string
  /** How the CSV is stored; null where it is as it is. */
  readonly encoding: Encoding | null
  readonly manifestSha256: string
  /** ISO 8601, as are the instants below. */
  readonly cutoff: string
  readonly from: string
  readonly to: string
  /** The CSV's columns. */
  readonly columns: readonly string[]
  /** What went along with its rows, in the order in which it is put back; empty where nothing did. */
  readonly files: readonly LedgerFile[]
  /** The partition that was dropped with the rows; null where they were deleted. */
  readonly partition: Partition | null
  /** What columns of its rows were overwritten with, while the rows stayed; null where they went. */
  readonly redacted: Redacted | null
  /** Of the policy that archived it; changes when the policy does. */
  readonly fingerprint: string
  readonly run: string
  readonly host: string
  readonly toolVersion: string
  readonly archivedAt: string
  readonly restoredAt: string | null
  /** When it was pruned, having outlived its retention, and by whom; null where it was not. Of an erased one, see the erasure. */
  readonly prunedAt: string | null
  readonly prunedBy: string | null
  /** When the files of a pruned one were removed; null as long as they may be there. */
  readonly removedAt: string | null
}

/** A policy's history in a few numbers. */
export interface LedgerSummary {
  readonly archives: number
  readonly rows: number
  readonly bytes: number
  readonly lastAppliedAt: string | null
  /** Of the policy as it was at its last step. */
  readonly lastFingerprint: string | null
}

/** Reads and writes one ledger. A ledger that does not exist yet reads as an empty one. */
export class Ledger {
  /** What is held, and so left alone by apply. */
  readonly holds: Holds
  /** What has been erased from archives. */
  readonly erasures: Erasures
  /** What has been moved from one target to another. */
  readonly moves: Moves
  /** How policies fared in runs of apply. */
  readonly runs: Runs
  readonly #database: Database
  readonly #name: TableName
  readonly #tables: LedgerNames
  readonly #exists: boolean

  private constructor(database: Database, name: TableName, exists: boolean) {
    this.#database = database
    this.#name = name
    this.#tables = new LedgerNames(name)
    this.#exists = exists
    this.holds = new Holds(database, this.#tables, exists)
    this.erasures = new Erasures(this.#tables, exists)
    this.moves = new Moves(this.#tables, exists)
    this.runs = new Runs(this.#tables, exists)
  }

  /** For commands that only read. @throws RetentionError `LEDGER_TOO_NEW` */
  static async forReading(database: Database, name: TableName): Promise<Ledger> {
    const version = await database.read((db) => readVersion(database, db, name))
    return new Ledger(database, name, version > 0)
  }

  /** For commands that write: makes or migrates the tables. @throws RetentionError `LEDGER_TOO_NEW`, `LEDGER_INVALID` */
  static async forWriting(database: Database, name: TableName): Promise<Ledger> {
    await migrateLedger(database, name)
    return Ledger.forReading(database, name)
  }

  /** What a policy's lock is called: one ledger's policies are no other's. */
  lockName(policy: string): string {
    return `${formatTableName(this.#name)} ${policy}`
  }

  /** Whether a table is one of its own. */
  owns(table: TableName): boolean {
    return isLedgerTable(this.#name, table)
  }

  /** Claims the next number for archives of a base name, for ever: in a short transaction of its own. */
  async claimNumber(base: string): Promise<number> {
    return this.#database.write(async (db) => {
      const { last } = await this.#tables
        .in(db)
        .insertInto(this.#tables.name('names'))
        .values({ base, last: 1 })
        .onConflict((conflict) =>
          conflict.column('base').doUpdateSet({ last: sql`${sql.id(this.#tables.name('names'), 'last')} + 1` }),
        )
        .returning('last')
        .executeTakeFirstOrThrow()
      return Number(last)
      // If the power takes it back, it takes the step back too; a file that is left in the way is passed by.
    }, true)
  }

  /** The number that was last claimed for a base name; 0 where none was. */
  async lastNumber(db: Db, base: string): Promise<number> {
    if (!this.#exists) return 0
    const row = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('names'))
      .select('last')
      .where('base', '=', base)
      .executeTakeFirst()
    return Number(row?.last ?? 0)
  }

  /** Records an archive, in the transaction that deletes its rows. */
  async record(db: Db, entry: LedgerEntry): Promise<void> {
    await this.#tables.in(db).insertInto(this.#tables.name('ledger')).values(rowOf(entry)).execute()
  }

  /**
   * Moves an entry, with the holds on its archive, to the archive that has taken its place; or to another place.
   * @throws RetentionError `ROWS_CHANGED` where it is not as it was any more
   */
  async move(db: Db, before: LedgerEntry, after: LedgerEntry): Promise<void> {
    await this.#change(db, before, rowOf(after))
    if (after.name !== before.name) await this.holds.moveTo(db, before.name, after.name)
  }

  /**
   * Marks an archive as one that is no more.
   * @param pruned who did that, as it had outlived its retention; undefined where nothing was left of it after an erasure
   * @throws as `move`
   */
  async prune(db: Db, entry: LedgerEntry, pruned?: { readonly by: string; readonly at: Date }): Promise<void> {
    const said = pruned === undefined ? {} : { pruned_at: pruned.at.toISOString(), pruned_by: pruned.by }
    await this.#change(db, entry, { state: 'pruned', ...said })
  }

  /** Notes that the files of a pruned archive are gone. */
  async markRemoved(db: Db, name: string, now: Date): Promise<void> {
    await this.#tables
      .in(db)
      .updateTable(this.#tables.name('ledger'))
      .set({ removed_at: now.toISOString() })
      .where('name', '=', name)
      .where('state', '=', 'pruned')
      .where('removed_at', 'is', null)
      .execute()
  }

  async #change(db: Db, before: LedgerEntry, after: Partial<LedgerTable>): Promise<void> {
    const { numUpdatedRows } = await this.#tables
      .in(db)
      .updateTable(this.#tables.name('ledger'))
      .set(after)
      .where('name', '=', before.name)
      .where('state', '=', before.state)
      .where('manifest_sha256', '=', before.manifestSha256)
      .where('target', '=', before.target)
      .executeTakeFirst()
    if (numUpdatedRows === 1n) return
    throw new RetentionError('ROWS_CHANGED', `${before.name} is not in the ledger any more as it was`)
  }

  /** Marks an archive as restored, in the transaction that puts its rows back. @throws `ALREADY_RESTORED` */
  async markRestored(db: Db, { name, state, restoredAt }: LedgerEntry, now: Date): Promise<void> {
    const { numUpdatedRows } = await this.#tables
      .in(db)
      .updateTable(this.#tables.name('ledger'))
      .set({ state: 'restored', restored_at: now.toISOString() })
      .where('name', '=', name)
      .where('state', '=', state)
      .where('restored_at', restoredAt === null ? 'is' : '=', restoredAt)
      .executeTakeFirst()
    if (numUpdatedRows === 1n) return
    throw new RetentionError('ALREADY_RESTORED', `${name} has been restored by somebody else`)
  }

  /** Marks a restored archive as the only place of some rows again, in the transaction that puts back others. */
  async markArchived(db: Db, entry: LedgerEntry): Promise<void> {
    await this.#change(db, entry, { state: 'archived', restored_at: null })
  }

  /** The entry of that name. */
  async find(db: Db, name: string): Promise<LedgerEntry | undefined> {
    if (!this.#exists) return undefined
    const row = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .selectAll()
      .where('name', '=', name)
      .executeTakeFirst()
    return row === undefined ? undefined : entryOf(row)
  }

  /**
   * Whether an archive is recorded, certainly: where its commit may still be on its way, this waits for the outcome.
   * Of two transactions that insert the same key, the later waits until the earlier has ended.
   */
  async isRecorded(entry: LedgerEntry): Promise<boolean> {
    return !(await this.#couldStill((db) => this.record(db, entry), entry.name, entry.state))
  }

  /** Whether an archive is marked as restored, certainly: as `isRecorded`. */
  async isRestored(entry: LedgerEntry, now: Date): Promise<boolean> {
    return !(await this.#couldStill((db) => this.markRestored(db, entry, now), entry.name, 'restored'))
  }

  /** Whether an entry has been moved, certainly: as `isRecorded`. */
  async isMoved(before: LedgerEntry, after: LedgerEntry): Promise<boolean> {
    const isThere = await this.#couldStill((db) => this.move(db, before, after), after.name, after.state)
    return !isThere && (await this.#database.read((db) => this.find(db, after.name)))?.location === after.location
  }

  /** Whether an archive is marked as one that is no more, certainly: as `isRecorded`. */
  async isPruned(entry: LedgerEntry): Promise<boolean> {
    return !(await this.#couldStill((db) => this.prune(db, entry), entry.name, 'pruned'))
  }

  /** Whether a change that can be made only once could still be made; it is tried and undone. */
  async #couldStill(change: (db: Db) => Promise<void>, name: string, done: ArchiveState): Promise<boolean> {
    const undo = new RetentionError('LEDGER_INVALID', 'only tried')
    try {
      return await this.#database.write(async (db) => {
        await change(db)
        throw undo
      })
    } catch (error) {
      if (error === undo) return true
      // Then nobody can say.
      if (hasCode(error, 'DATABASE_BUSY') || hasCode(error, 'DATABASE_UNREACHABLE')) throw error
      const found = await this.#database.read((db) => this.find(db, name))
      if (found?.state !== done) throw error
      return false
    }
  }

  /** Which of some names are recorded in a state. */
  async namesIn(db: Db, names: readonly string[], state: ArchiveState): Promise<string[]> {
    if (!this.#exists || names.length === 0) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .select('name')
      .where('name', 'in', names)
      .where('state', '=', state)
      .execute()
    return rows.map((row) => row.name)
  }

  /** All entries, or those of some policies, the oldest first. */
  async entries(db: Db, policies?: readonly string[]): Promise<LedgerEntry[]> {
    if (!this.#exists || policies?.length === 0) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .selectAll()
      .$if(policies !== undefined, (query) => query.where('policy', 'in', policies ?? []))
      .orderBy('archived_at')
      .orderBy('name')
      .execute()
    return rows.map(entryOf)
  }

  /** The partitions of a table that were dropped after an instant, the last first, whatever has become of them since. */
  async dropped(db: Db, table: string, after: string): Promise<Partition[]> {
    if (!this.#exists) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .selectAll()
      .where('table_name', '=', table)
      .where('partition', 'is not', null)
      .where('archived_at', '>', after)
      .orderBy('archived_at', 'desc')
      .execute()
    return rows.flatMap((row) => entryOf(row).partition ?? [])
  }

  /** A policy's history in a few numbers. Archives that were restored are not counted among its rows. */
  async summary(db: Db, policy: string): Promise<LedgerSummary> {
    if (!this.#exists) return { archives: 0, rows: 0, bytes: 0, lastAppliedAt: null, lastFingerprint: null }
    const counted = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .select([
        sql<unknown>`count(*)`.as('archives'),
        sql<unknown>`coalesce(sum(rows), 0)`.as('rows'),
        sql<unknown>`coalesce(sum(bytes), 0)`.as('bytes'),
      ])
      .where('policy', '=', policy)
      .where('state', '=', 'archived')
      .executeTakeFirst()
    const last = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('ledger'))
      .select(['archived_at', 'fingerprint'])
      .where('policy', '=', policy)
      .orderBy('archived_at', 'desc')
      .limit(1)
      .executeTakeFirst()
    return {
      archives: Number(counted?.archives ?? 0),
      rows: Number(counted?.rows ?? 0),
      bytes: Number(counted?.bytes ?? 0),
      lastAppliedAt: last === undefined ? null : instant(last.archived_at),
      lastFingerprint: last?.fingerprint || null,
    }
  }
}

function rowOf(entry: LedgerEntry): LedgerTable {
  const {
    table,
    from,
    to,
    columns,
    files,
    partition,
    redacted,
    storedSha256,
    manifestSha256,
    toolVersion,
    archivedAt,
    restoredAt,
    prunedAt,
    prunedBy,
    removedAt,
    ...same
  } = entry
  return {
    ...same,
    table_name: table,
    first_timestamp: from,
    last_timestamp: to,
    columns: JSON.stringify(columns),
    files: JSON.stringify(files),
    partition: partition === null ? null : JSON.stringify(partition),
    redacted: redacted === null ? null : JSON.stringify(redacted),
    stored_sha256: storedSha256,
    manifest_sha256: manifestSha256,
    tool_version: toolVersion,
    archived_at: archivedAt,
    restored_at: restoredAt,
    pruned_at: prunedAt,
    pruned_by: prunedBy,
    removed_at: removedAt,
  }
}

function entryOf(row: LedgerTable): LedgerEntry {
  return {
    name: row.name,
    policy: row.policy,
    table: row.table_name,
    // The column's CHECK allows no other.
    state: row.state as ArchiveState,
    location: row.location,
    target: row.target,
    path: row.path,
    rows: Number(row.rows),
    bytes: Number(row.bytes),
    sha256: row.sha256,
    storedSha256: row.stored_sha256,
    // Written by `record`; what a newer version may have written is refused where it is read.
    encoding: row.encoding as Encoding | null,
    manifestSha256: row.manifest_sha256,
    cutoff: instant(row.cutoff),
    from: row.first_timestamp,
    to: row.last_timestamp,
    columns: columnNames(row.columns),
    // Written by `record` alone.
    files: JSON.parse(row.files) as LedgerFile[],
    // Written by `record`.
    partition: row.partition === null ? null : (JSON.parse(row.partition) as Partition),
    // Written by `record`.
    redacted: row.redacted === null ? null : (JSON.parse(row.redacted) as Redacted),
    fingerprint: row.fingerprint,
    run: row.run,
    host: row.host,
    toolVersion: row.tool_version,
    archivedAt: instant(row.archived_at),
    restoredAt: row.restored_at === null ? null : instant(row.restored_at),
    prunedAt: row.pruned_at === null ? null : instant(row.pruned_at),
    prunedBy: row.pruned_by,
    removedAt: row.removed_at === null ? null : instant(row.removed_at),
  }
}
