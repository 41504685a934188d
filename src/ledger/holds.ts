/** Holds: rows that apply leaves alone, as those that have been restored, and rows and archives under a legal hold. */
import { randomUUID } from 'node:crypto'

import { sql } from 'kysely'

import { formatTableName, parseTableName, type TableName } from '../config/fields.ts'
import type { Database, Db, KnownRows, Sql, SqlValue, Table } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import { encode, legalRows, restoredRows } from './held-rows.ts'
import { holdOf, ownName, shortId, type Hold, type HoldRow } from './hold.ts'
import type { LedgerEntry } from './ledger.ts'
import type { LedgerNames } from './names.ts'

/** What a hold of a restore is placed on: single rows, or all rows whose time is in a range. */
export type HeldRows = KnownRows | { readonly column: string; readonly first: SqlValue; readonly last: SqlValue }

/** A hold, and the rows of one table that it is on. */
export interface HoldOnRows {
  readonly hold: Hold
  readonly where: Sql<boolean>
}

/**
 * The legal hold that is on a partition by its name. While there is one, the partition has to stay, even where no row of it
 * is held: a hold whose table is gone refuses all.
 */
export function holdByName(holds: readonly HoldOnRows[], { schema = 'public', name }: TableName): Hold | undefined {
  const partition = formatTableName({ schema, name })
  return holds.map(({ hold }) => hold).find(({ kind, table }) => kind === 'legal' && table === partition)
}

/** A clock may be ahead for once: the keys of a hold are kept for 30 days after its end. In milliseconds. */
const keptFor = 30 * 24 * 60 * 60 * 1000

/** A hold of a restore about to be placed. */
export interface NewHold {
  /** The table, as `formatTableName` writes it. */
  readonly table: string
  readonly policy: string
  readonly archive: string
  readonly reason: string
  /** Null: for ever. */
  readonly until: Date | null
  readonly now: Date
}

/** A legal hold about to be placed. */
export interface NewLegalHold extends Pick<Hold, 'table' | 'policy' | 'archive' | 'where' | 'reason'> {
  /** Null: until it is released. */
  readonly until: Date | null
  /** Who places it. Default: the user of this process, at this host. */
  readonly by: string | undefined
  readonly now: Date
}

/** The holds of one ledger. */
export class Holds {
  readonly #tables: LedgerNames
  readonly #database: Database
  readonly #exist: boolean

  /** @param exist whether the ledger's tables are there */
  constructor(database: Database, tables: LedgerNames, exist: boolean) {
    this.#database = database
    this.#tables = tables
    this.#exist = exist
  }

  /** Places a hold on restored rows, in the transaction that puts them back. */
  async place(db: Db, rows: HeldRows, hold: NewHold): Promise<void> {
    const range = 'first' in rows ? rows : { column: null, first: null, last: null }
    const { id } = await this.#insert(db, {
      kind: 'restored',
      table_name: hold.table,
      policy: hold.policy,
      archive: hold.archive,
      reason: hold.reason,
      run_column: 'runs' in rows ? rows.column : null,
      key_columns: 'keys' in rows ? JSON.stringify(rows.columns) : null,
      range_column: range.column,
      first_value: range.first === null ? null : encode(range.first),
      last_value: range.last === null ? null : encode(range.last),
      created_at: hold.now.toISOString(),
      created_by: ownName(),
      until: hold.until?.toISOString() ?? null,
    })
    if ('runs' in rows) {
      await sql`
        insert into ${this.#tables.sql('held_runs')} (retention_hold, retention_first, retention_last)
        select cast(${id} as text), first, last from (${rows.runs}) as held
      `.execute(db)
    }
    if ('keys' in rows) {
      await sql`
        insert into ${this.#tables.sql('held_rows')} (retention_hold, retention_key)
        select cast(${id} as text), key from (${rows.keys}) as held
      `.execute(db)
    }
  }

  /** Places a legal hold, in a transaction of `Database.apart`: no step may be under way that has not seen it. */
  async placeLegal(db: Db, hold: NewLegalHold): Promise<Hold> {
    const row = await this.#insert(db, {
      kind: 'legal',
      table_name: hold.table,
      policy: hold.policy,
      archive: hold.archive,
      reason: hold.reason,
      predicate: hold.where,
      created_at: hold.now.toISOString(),
      created_by: hold.by ?? ownName(),
      until: hold.until?.toISOString() ?? null,
    })
    return holdOf(row)
  }

  async #insert(
    db: Db,
    hold: Pick<
      HoldRow,
      'kind' | 'table_name' | 'policy' | 'archive' | 'reason' | 'created_at' | 'created_by' | 'until'
    > &
      Partial<HoldRow>,
  ): Promise<HoldRow> {
    return this.#tables
      .in(db)
      .insertInto(this.#tables.name('holds'))
      .values({ id: randomUUID(), ...hold })
      .returningAll()
      .executeTakeFirstOrThrow()
  }

  /** All holds there have been, the oldest first. */
  async all(db: Db): Promise<Hold[]> {
    if (!this.#exist) return []
    const query = this.#tables.in(db).selectFrom(this.#tables.name('holds')).selectAll()
    return (await query.orderBy('created_at').orderBy('id').execute()).map(holdOf)
  }

  /** The archives of which a restore has put rows back and held them, whether they still are or not. */
  async ofRestores(db: Db): Promise<Set<string>> {
    return new Set((await this.all(db)).flatMap(({ kind, archive }) => (kind === 'restored' ? (archive ?? []) : [])))
  }

  /**
   * Ends a hold; it stays on record.
   * @param by who does. Default: the user of this process, at this host
   * @returns undefined where there is none of that id that has not been released
   */
  async release(
    db: Db,
    id: string,
    { by, reason, now }: { by: string | undefined; reason: string | undefined; now: Date },
  ): Promise<Hold | undefined> {
    const row = await this.#tables
      .in(db)
      .updateTable(this.#tables.name('holds'))
      .set({ released_at: now.toISOString(), released_by: by ?? ownName(), release_reason: reason ?? null })
      .where('id', '=', id)
      .where('released_at', 'is', null)
      .returningAll()
      .executeTakeFirst()
    return row === undefined ? undefined : holdOf(row)
  }

  /** The holds on a policy's table and its archives that have not ended. */
  async on(db: Db, table: HeldTable, now: Date): Promise<Hold[]> {
    const { own } = await this.#of(db, table, now)
    return own.map(holdOf)
  }

  /**
   * The holds on a table's rows, each with the rows that it is on.
   * @param policy who asks: holds of restores go by it where their table has been renamed
   * @throws RetentionError `REFUSED` when it cannot be told which rows are held
   */
  async onRows(db: Db, table: Table, policy: string, now: Date): Promise<HoldOnRows[]> {
    const { own, astray } = await this.#of(db, { policy, names: table.relatives }, now)
    if (astray !== undefined) throw noTable(astray)
    const held: HoldOnRows[] = []
    for (const row of own) {
      const hold = holdOf(row)
      if (hold.kind === 'restored') held.push({ hold, where: restoredRows(row, table, this.#tables) })
      else if (hold.archive === null) held.push({ hold, where: await legalRows(row, table, db, this.#database) })
    }
    return held
  }

  /**
   * True for a table's held rows; undefined where none is.
   * @param partition is about to be dropped; undefined where none is
   * @throws as `onRows`; RetentionError `ROWS_CHANGED` where a hold is on the partition by its name
   */
  async where(
    db: Db,
    table: Table,
    policy: string,
    now: Date,
    partition?: TableName,
  ): Promise<Sql<boolean> | undefined> {
    const holds = await this.onRows(db, table, policy, now)
    const byName = partition === undefined ? undefined : holdByName(holds, partition)
    if (partition !== undefined && byName !== undefined) {
      const text = `Partition ${formatTableName(partition)} cannot be dropped whole: legal hold ${shortId(byName)} is on it`
      throw new RetentionError('ROWS_CHANGED', text)
    }
    const conditions = holds.map(({ where }) => where)
    return conditions.length === 0 ? undefined : sql<boolean>`(${sql.join(conditions, sql` or `)})`
  }

  /**
   * The legal holds on archives: those on the archives themselves, and those on rows of their tables. Whether rows of an
   * archive match a hold's `where`, only its bytes can say: until they have been asked, such a hold is on all of them.
   * To be asked in a transaction of `Database.apart` with the archive's table, by whoever is about to change an archive.
   * @returns by the archives' names; those without a hold are left out
   */
  async onArchives(
    db: Db,
    archives: readonly Pick<LedgerEntry, 'name' | 'policy' | 'table' | 'files'>[],
    now: Date,
    today?: string,
  ): Promise<Map<string, Hold[]>> {
    const holds = (await this.#inForce(db, now)).map(holdOf).filter(({ kind }) => kind === 'legal')
    const names = new Map<string, Set<string>>()
    const held = new Map<string, Hold[]>()
    for (const { name, policy, table, files } of archives) {
      const tables = [table, ...files.map((file) => file.table), ...(today === undefined ? [] : [today])]
      for (const one of tables) if (!names.has(one)) names.set(one, await this.#namesOf(db, one))
      const own = holds.filter((hold) =>
        hold.archive === null
          ? hold.policy === policy || tables.some((one) => names.get(one)?.has(this.#plain(hold.table)))
          : hold.archive === name,
      )
      if (own.length > 0) held.set(name, own)
    }
    return held
  }

  /** Lets the holds on an archive, and those on rows that it brought back, go by the name of the one in its place. */
  async moveTo(db: Db, archive: string, other: string): Promise<void> {
    await this.#tables
      .in(db)
      .updateTable(this.#tables.name('holds'))
      .set({ archive: other })
      .where('archive', '=', archive)
      .execute()
  }

  /** Forgets the keys of holds that ended long ago, by whatever clock; the holds themselves stay on record. */
  async forgetEnded(db: Db, now: Date): Promise<void> {
    const longAgo = new Date(now.getTime() - keptFor).toISOString()
    for (const table of ['held_runs', 'held_rows'] as const) {
      await this.#tables
        .in(db)
        .deleteFrom(this.#tables.name(table))
        .where('retention_hold', 'in', (query) =>
          query
            .selectFrom(this.#tables.name('holds'))
            .select('id')
            .where((where) => where.or([where('until', '<=', longAgo), where('released_at', '<=', longAgo)])),
        )
        .execute()
    }
  }

  async #inForce(db: Db, now: Date): Promise<HoldRow[]> {
    if (!this.#exist) return []
    return this.#tables
      .in(db)
      .selectFrom(this.#tables.name('holds'))
      .selectAll()
      .where('released_at', 'is', null)
      .where((where) => where.or([where('until', 'is', null), where('until', '>', now.toISOString())]))
      .orderBy('created_at')
      .orderBy('id')
      .execute()
  }

  /**
   * Holds go by the table. Where that is not there any more, it may have been renamed: a hold of a restore then goes by
   * the policy. Where a legal one should go, nobody knows.
   */
  async #of(db: Db, { policy, names }: HeldTable, now: Date): Promise<{ own: HoldRow[]; astray: HoldRow | undefined }> {
    const tables = new Set(names.map(formatTableName).map((name) => this.#plain(name)))
    const own: HoldRow[] = []
    let astray: HoldRow | undefined
    const isThere = new Map<string, boolean>()
    for (const hold of await this.#inForce(db, now)) {
      const { table_name: table, kind, archive } = hold
      if (tables.has(this.#plain(table))) own.push(hold)
      else if (kind === 'restored' ? hold.policy === policy : archive === null) {
        const name = parseTableName(table)
        if (!isThere.has(table)) isThere.set(table, name !== undefined && (await this.#database.tableExists(db, name)))
        if (isThere.get(table) === true) continue
        if (kind === 'restored') own.push(hold)
        else astray ??= hold
      }
    }
    return { own, astray }
  }

  /** A table's name and those of its relatives, as far as it is there. */
  async #namesOf(db: Db, table: string): Promise<Set<string>> {
    const name = parseTableName(table)
    const found = name === undefined ? undefined : await this.#database.findTable(db, name)
    return new Set([table, ...(found?.relatives ?? []).map(formatTableName)].map((one) => this.#plain(one)))
  }

  /** A table's name to compare with others: letter case is no difference on SQLite. */
  #plain(table: string): string {
    return this.#database.kind === 'sqlite' ? table.toLowerCase() : table
  }
}

/** Whose holds are asked for. */
interface HeldTable {
  readonly policy: string
  /** The policy's table, and those that it is a part of or that are parts of it. */
  readonly names: readonly TableName[]
}

function noTable(hold: HoldRow): RetentionError {
  return new RetentionError(
    'REFUSED',
    `Legal hold ${shortId(hold)} is on ${hold.table_name}, and there is no such table any more`,
    {
      hint: `Nothing is archived until it is known where its rows are. If the table was renamed, add the hold anew under its name now; then: retention hold release ${shortId(hold)}`,
    },
  )
}
