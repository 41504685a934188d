/** One restore on Postgres: the table locked and looked at, and the two ways into it. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import type {
  ArchivedRows,
  ArchiveForm,
  Db,
  IncomingRows,
  LostPartitions,
  MadePartitions,
  OldValues,
  OnConflict,
  PlacedRows,
  Redacted,
  RestoreTable,
  RestoreTransaction,
  StagedRows,
} from '../database.ts'
import type { Link } from '../tree.ts'
import { Transaction, type Connections } from './connection.ts'
import { lockForm, lockRestores } from './locks.ts'
import { makePartitions } from './partition-restore.ts'
import { partitionTree } from './partition-tree.ts'
import { load } from './restore-direct.ts'
import { relink } from './relink.ts'
import { stageOld } from './restore-redacted.ts'
import { stage } from './restore-staged.ts'
import { insertTogether, type TogetherRows } from './restore-together.ts'
import { stageArchive } from './staged-archive.ts'
import { findTable, type CatalogTable } from './table.ts'

/**
 * Begins a restore: locks the table against changes of its form, and looks at it; undefined where there is none.
 * @param lost partitions that are made again where the rows need them
 * @param set the columns that are to be set in rows that are there; undefined where rows are put in
 */
export async function beginRestore(
  connections: Connections,
  name: TableName,
  lost: LostPartitions,
  set: readonly string[] | undefined,
): Promise<RestoreTransaction | undefined> {
  const transaction = await Transaction.begin(connections, 'read write')
  try {
    const restore = await openTable(transaction, name, lost, set)
    if (restore !== undefined) return restore
  } catch (error) {
    await transaction.rollback()
    throw error
  }
  await transaction.rollback()
  return undefined
}

async function openTable(
  transaction: Transaction,
  name: TableName,
  lost: LostPartitions,
  set?: readonly string[],
): Promise<PostgresRestore | undefined> {
  const { db } = transaction
  const before = await findTable(db, name)
  if (before?.kind !== 'r' && before?.kind !== 'p') return undefined
  const there = set?.filter((column) => before.columns.some(({ name: other }) => other === column))
  await lockForm(db, before, there)
  await lockRestores(db, before, 'exclusive')
  // Again, now that it cannot change any more.
  const found = (await findTable(db, name)) ?? before
  const made = await makePartitions(db, found, lost)
  const table = made.tables.length === 0 ? found : ((await findTable(db, name)) ?? found)
  return new PostgresRestore(transaction, table, made, await tableFacts(db, table, there))
}

class PostgresRestore implements RestoreTransaction {
  readonly table: RestoreTable
  readonly made: MadePartitions
  readonly #transaction: Transaction
  readonly #table: CatalogTable
  readonly #facts: TableFacts

  constructor(transaction: Transaction, table: CatalogTable, made: MadePartitions, facts: TableFacts) {
    this.made = made
    this.#transaction = transaction
    this.#table = table
    this.#facts = facts
    this.table = { ...table, findings: facts.findings, triggers: facts.triggers }
  }

  get db(): Db {
    return this.#transaction.db
  }

  canLoad({ columns, types }: IncomingRows): boolean {
    if (types === undefined || !this.#facts.isDirect) return false
    const typeOf = (name: string, among: readonly { name: string; type: string }[]): string | undefined =>
      among.find((column) => column.name === name)?.type
    return columns.every((name) => {
      const type = typeOf(name, this.#table.columns)
      return type !== undefined && type === typeOf(name, types) && this.#facts.faithful.includes(name)
    })
  }

  async load(rows: IncomingRows, csv: AsyncIterable<Buffer>): Promise<PlacedRows | undefined> {
    return load(this.#transaction, this.#table, rows, csv)
  }

  async stage(columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<StagedRows> {
    await this.#clear()
    return stage(this.#transaction, this.#table, columns, csv)
  }

  async also(name: TableName): Promise<RestoreTransaction | undefined> {
    return openTable(this.#transaction, name, { partitions: [], time: undefined })
  }

  async loadTogether(
    parts: Parameters<RestoreTransaction['loadTogether']>[0],
    onConflict: OnConflict,
  ): Promise<TogetherRows[]> {
    const together = parts.map(({ into, columns, csv }) => {
      if (!(into instanceof PostgresRestore)) throw new TypeError('a restore of another database')
      return { table: into.#table, columns, csv }
    })
    return insertTogether(this.#transaction, together, onConflict)
  }

  async relink(link: Link, columns: readonly string[], csv: AsyncIterable<Buffer>): ReturnType<typeof relink> {
    return relink(this.#transaction, this.#table, link, columns, csv)
  }

  /** Takes away what was staged for another table. */
  async #clear(): Promise<void> {
    await sql`drop table if exists pg_temp.retention_staged, pg_temp.retention_placed, pg_temp.retention_archived,
      pg_temp.retention_selected`.execute(this.db)
  }

  async stageOld(redacted: Redacted, columns: readonly string[], csv: AsyncIterable<Buffer>): Promise<OldValues> {
    return stageOld(this.#transaction, this.#table, redacted, columns, csv)
  }

  async stageArchive(archive: ArchiveForm, csv: AsyncIterable<Buffer>): Promise<ArchivedRows> {
    await this.#clear()
    return stageArchive(this.#transaction, this.#table, archive, csv)
  }

  async commit(): Promise<void> {
    await this.#transaction.commit()
  }

  async rollback(): Promise<void> {
    await this.#transaction.rollback()
  }
}

/** What may become of rows that are inserted, and who may do what. */
interface TableFacts extends Pick<RestoreTable, 'findings' | 'triggers'> {
  /** Whether rows are put into ordinary tables as they are: no trigger and no rule has a word in it. */
  readonly isDirect: boolean
  /** The columns whose types read what they have written, whatever has been done since to types of their names. */
  readonly faithful: readonly string[]
}

/** @param set as of `beginRestore` */
async function tableFacts(db: Db, table: CatalogTable, set: readonly string[] | undefined): Promise<TableFacts> {
  const { rows } = await sql<{
    rowSecurity: boolean
    may: boolean
    user: string
    grant: string
    triggers: string[]
    direct: boolean
    faithful: string[]
  }>`
    with given as (
      select attnum, attname from pg_attribute
      where attrelid = ${table.oid}::oid and attnum > 0 and attname = any(${set ?? []}::text[])
    )
    select
      row_security_active(c.oid) as "rowSecurity",
      has_table_privilege(c.oid, 'SELECT') and case when ${set === undefined}::boolean then has_table_privilege(c.oid, 'INSERT')
        else not exists (select from given where not has_column_privilege(c.oid, attnum, 'UPDATE')) end as "may",
      current_user::text as "user",
      format(
        'GRANT SELECT, %s ON %I.%I TO %I;',
        coalesce((select format('UPDATE (%s)', string_agg(quote_ident(attname), ', ' order by attnum)) from given having count(*) > 0), 'INSERT'),
        n.nspname, c.relname, current_user
      ) as "grant",
      array(
        select distinct t.tgname::text from pg_trigger t
        where t.tgrelid in (select relid from ${partitionTree(sql`c.oid`)} part)
          and not t.tgisinternal and t.tgenabled in ('O', 'A')
          and t.tgtype & ${sql.lit(set === undefined ? 4 : 16)} <> 0
      ) as triggers,
      -- COPY heeds no rules, and of triggers it is enough that there is one for any session.
      not exists (
        select from pg_class p left join pg_am am on am.oid = p.relam
        where p.oid in (select relid from ${partitionTree(sql`c.oid`)} part)
          and (
            p.relkind not in ('r', 'p') or p.relkind = 'r' and am.amname <> 'heap'
            or exists (select from pg_rewrite r where r.ev_class = p.oid and r.ev_type = '3')
            or exists (
              select from pg_trigger t
              where t.tgrelid = p.oid and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 4 = 4
            )
          )
      ) as direct,
      array(
        select a.attname::text
        from pg_attribute a
        join pg_type own on own.oid = a.atttypid
        join pg_type t on t.oid = case when own.typcategory = 'A' and own.typelem <> 0 then own.typelem else own.oid end
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and own.typtype <> 'd'
          -- A domain or a composite type may have been made anew under its name; what a label of an enum is called is
          -- all there is to it, and base types are written in C.
          and (t.typtype in ('b', 'e') or t.typtype in ('r', 'm') and t.typnamespace = 'pg_catalog'::regnamespace)
      ) as faithful
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = ${table.oid}::oid
  `.execute(db)
  const [facts] = rows
  const name = formatTableName(table.name)
  const findings: RestoreTable['findings'][number][] = []
  if (facts?.may === false) {
    findings.push({
      level: 'refusal',
      text: `Role "${facts.user}" may not read and ${set === undefined ? 'insert' : 'update'} rows of ${name}`,
      hint: facts.grant,
    })
  }
  if (facts?.rowSecurity === true) {
    findings.push({
      level: 'refusal',
      text: `Row-level security on ${name} applies to role "${facts.user}"`,
      hint: "Run as a role with BYPASSRLS, or as the table's owner.",
    })
  }
  return {
    findings,
    triggers: facts?.triggers ?? [],
    isDirect: facts?.direct ?? false,
    faithful: facts?.faithful ?? [],
  }
}
