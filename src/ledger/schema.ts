/** The ledger's own tables, and how they are brought from one version to the next. */
import { sql, type ColumnDefinitionBuilder, type Kysely } from 'kysely'

import type { Database, Db } from '../database/database.ts'
import { messageOf, RetentionError } from '../errors.ts'
import { formatTableName, type TableName } from '../config/fields.ts'

/** One archive, as the ledger keeps it. */
export type LedgerTable = {
  name: string
  policy: string
  table_name: string
  state: string
  location: string
  target: string
  path: string
  rows: number | string | bigint
  bytes: number | string | bigint
  sha256: string
  stored_sha256: string
  /** How the files are compressed and sealed; null where they are CSV as they are. */
  encoding: string | null
  manifest_sha256: string
  cutoff: string | Date
  first_timestamp: string
  last_timestamp: string
  columns: string
  /** Further files of the archive, as JSON. */
  files: string
  /** The partition that was dropped with the rows, as JSON; null where they were deleted. */
  partition: string | null
  /** What columns of its rows were overwritten with, as JSON; null where the rows went. */
  redacted: string | null
  fingerprint: string
  run: string
  host: string
  tool_version: string
  archived_at: string | Date
  restored_at: string | Date | null
  pruned_at: string | Date | null
  pruned_by: string | null
  removed_at: string | Date | null
}

/** The tables of a ledger. Their real names begin with the ledger's, which the config chooses. */
export type LedgerTables = {
  ledger: LedgerTable
  /** One row: the version of this schema. */
  version: { version: number | string | bigint }
  /** The last number claimed for archives of one base name. */
  names: { base: string; last: number | string | bigint }
  /** Rows that apply leaves alone for a while, and archives that stay. */
  holds: {
    id: string
    kind: string
    table_name: string
    policy: string | null
    archive: string | null
    reason: string
    /** Of a legal hold, the SQL predicate of the rows that it is on; null for all rows, and for every other hold. */
    predicate: string | null
    /** The column whose whole numbers `held_runs` knows the rows by; null for every other hold. */
    run_column: string | null
    /** A list, as JSON, of the columns that `held_rows` knows the rows by; null for every other hold. */
    key_columns: string | null
    /** The column whose values lie between the two below; null for every other hold. */
    range_column: string | null
    first_value: string | null
    last_value: string | null
    created_at: string | Date
    created_by: string
    until: string | Date | null
    released_at: string | Date | null
    released_by: string | null
    release_reason: string | null
  }
  /**
   * The keys of held rows: runs of consecutive numbers, of which no two of a hold have one in common, or texts. Named so
   * that no column of a user's table is mistaken for theirs in a query over both.
   */
  held_runs: { retention_hold: string; retention_first: bigint; retention_last: bigint }
  held_rows: { retention_hold: string; retention_key: string }
  /** That rows were erased from archives, why and by whom. Which they were is nowhere: that would be the person's data. */
  erasures: {
    id: string
    policy: string
    table_name: string
    reason: string
    erased_by: string
    erased_at: string | Date
    tool_version: string
  }
  /** The files that an erasure took out of use, manifests among them; and what has taken their place. */
  erased_files: {
    erasure: string
    /** The archive that it was a file of, and the one that has the rest of its rows; null where nothing was left. */
    archive: string
    archive_after: string | null
    file: string
    file_after: string | null
    /** Of a manifest, null; as are the checksums of its CSV. */
    rows: number | string | bigint | null
    rows_erased: number | string | bigint | null
    sha256: string | null
    sha256_after: string | null
    stored_sha256: string
    stored_sha256_after: string | null
    /** The machine that had archived it. */
    host: string
    target: string
    location: string
    /** When it was removed; null as long as it may be there. */
    removed_at: string | Date | null
  }
  /** Files of archives that have moved, or were about to: those that are of no use, at the one place or at the other. */
  moved_files: {
    move: string
    policy: string
    archive: string
    file: string
    stored_sha256: string
    from_target: string
    to_target: string
    /** Where it is of no use, and which place that is: the old one once the archive has moved, the new one until then. */
    location: string
    place: string
    moved_by: string
    begun_at: string | Date
    /** When the ledger went over to the new place; null as long as it has not. */
    moved_at: string | Date | null
    removed_at: string | Date | null
    tool_version: string
  }
  /** How each policy fared in each run of apply. */
  runs: {
    run: string
    policy: string
    started_at: string | Date
    finished_at: string | Date
    status: string
    rows: number | string | bigint
    bytes: number | string | bigint
    /** Null where nothing went wrong. */
    error_code: string | null
    error_message: string | null
    host: string
  }
}

/** The table names of a ledger. */
export function ledgerTableNames(ledger: TableName): Record<keyof LedgerTables, TableName> {
  const named = (suffix: string): TableName => ({ schema: ledger.schema, name: `${ledger.name}${suffix}` })
  return {
    ledger,
    version: named('_version'),
    names: named('_names'),
    holds: named('_holds'),
    held_runs: named('_held_runs'),
    held_rows: named('_held_rows'),
    erasures: named('_erasures'),
    erased_files: named('_erased_files'),
    moved_files: named('_moved_files'),
    runs: named('_runs'),
  }
}

/** Whether a table is one of a ledger's own. Letter case is no difference, as on SQLite it is none. */
export function isLedgerTable(ledger: TableName, table: TableName): boolean {
  return Object.values(ledgerTableNames(ledger)).some(
    (own) => own.name.toLowerCase() === table.name.toLowerCase() && [undefined, table.schema].includes(own.schema),
  )
}

type Migration = (
  db: Db,
  names: Record<keyof LedgerTables, TableName>,
  database: Pick<Database, 'kind' | 'instantType'>,
) => Promise<void>

/** Migration n brings the schema from version n to n + 1. Those of a release are never changed. */
const migrations: readonly Migration[] = [
  async (db, names, { kind, instantType: instant }) => {
    const create = (table: keyof LedgerTables): ReturnType<Kysely<unknown>['schema']['createTable']> =>
      (names[table].schema === undefined ? db : db.withSchema(names[table].schema)).schema.createTable(
        names[table].name,
      )
    const needed = (column: ColumnDefinitionBuilder): ColumnDefinitionBuilder => column.notNull()
    const key = (column: ColumnDefinitionBuilder): ColumnDefinitionBuilder => column.notNull().primaryKey()
    await create('version').addColumn('version', 'integer', needed).execute()
    await create('ledger')
      .addColumn('name', 'text', key)
      .addColumn('policy', 'text', needed)
      .addColumn('table_name', 'text', needed)
      .addColumn('state', 'text', (column) => needed(column).check(sql`state in ('archived', 'restored', 'pruned')`))
      .addColumn('location', 'text', needed)
      .addColumn('target', 'text', needed)
      .addColumn('path', 'text', needed)
      .addColumn('rows', 'bigint', needed)
      .addColumn('bytes', 'bigint', needed)
      .addColumn('sha256', 'text', needed)
      .addColumn('stored_sha256', 'text', needed)
      .addColumn('encoding', 'text')
      .addColumn('manifest_sha256', 'text', needed)
      .addColumn('cutoff', instant, needed)
      .addColumn('first_timestamp', 'text', needed)
      .addColumn('last_timestamp', 'text', needed)
      .addColumn('columns', 'text', needed)
      .addColumn('files', 'text', needed)
      .addColumn('partition', 'text')
      .addColumn('redacted', 'text')
      .addColumn('fingerprint', 'text', needed)
      .addColumn('run', 'text', needed)
      .addColumn('host', 'text', needed)
      .addColumn('tool_version', 'text', needed)
      .addColumn('archived_at', instant, needed)
      .addColumn('restored_at', instant)
      .addColumn('pruned_at', instant)
      .addColumn('pruned_by', 'text')
      .addColumn('removed_at', instant)
      .execute()
    await create('names').addColumn('base', 'text', key).addColumn('last', 'integer', needed).execute()
    await create('holds')
      .addColumn('id', 'text', key)
      .addColumn('kind', 'text', (column) => needed(column).check(sql`kind in ('restored', 'legal')`))
      .addColumn('table_name', 'text', needed)
      .addColumn('policy', 'text')
      .addColumn('archive', 'text')
      .addColumn('reason', 'text', needed)
      .addColumn('predicate', 'text')
      .addColumn('run_column', 'text')
      .addColumn('key_columns', 'text')
      .addColumn('range_column', 'text')
      .addColumn('first_value', 'text')
      .addColumn('last_value', 'text')
      .addColumn('created_at', instant, needed)
      .addColumn('created_by', 'text', needed)
      .addColumn('until', instant)
      .addColumn('released_at', instant)
      .addColumn('released_by', 'text')
      .addColumn('release_reason', 'text')
      .execute()
    // A row number would stand before a user's column called rowid or oid.
    const end = kind === 'sqlite' ? sql`without rowid` : sql``
    await create('held_runs')
      .addColumn('retention_hold', 'text', needed)
      .addColumn('retention_first', 'bigint', needed)
      .addColumn('retention_last', 'bigint', needed)
      .addPrimaryKeyConstraint(`${names.held_runs.name}_pkey`, ['retention_hold', 'retention_first'])
      .modifyEnd(end)
      .execute()
    await create('held_rows')
      .addColumn('retention_hold', 'text', needed)
      .addColumn('retention_key', 'text', needed)
      .addPrimaryKeyConstraint(`${names.held_rows.name}_pkey`, ['retention_hold', 'retention_key'])
      .modifyEnd(end)
      .execute()
    await create('erasures')
      .addColumn('id', 'text', key)
      .addColumn('policy', 'text', needed)
      .addColumn('table_name', 'text', needed)
      .addColumn('reason', 'text', needed)
      .addColumn('erased_by', 'text', needed)
      .addColumn('erased_at', instant, needed)
      .addColumn('tool_version', 'text', needed)
      .execute()
    await create('erased_files')
      .addColumn('erasure', 'text', needed)
      .addColumn('archive', 'text', needed)
      .addColumn('archive_after', 'text')
      .addColumn('file', 'text', needed)
      .addColumn('file_after', 'text')
      .addColumn('rows', 'bigint')
      .addColumn('rows_erased', 'bigint')
      .addColumn('sha256', 'text')
      .addColumn('sha256_after', 'text')
      .addColumn('stored_sha256', 'text', needed)
      .addColumn('stored_sha256_after', 'text')
      .addColumn('host', 'text', needed)
      .addColumn('target', 'text', needed)
      .addColumn('location', 'text', needed)
      .addColumn('removed_at', instant)
      .addPrimaryKeyConstraint(`${names.erased_files.name}_pkey`, ['erasure', 'file'])
      .execute()
    await create('moved_files')
      .addColumn('move', 'text', needed)
      .addColumn('policy', 'text', needed)
      .addColumn('archive', 'text', needed)
      .addColumn('file', 'text', needed)
      .addColumn('stored_sha256', 'text', needed)
      .addColumn('from_target', 'text', needed)
      .addColumn('to_target', 'text', needed)
      .addColumn('location', 'text', needed)
      .addColumn('place', 'text', needed)
      .addColumn('moved_by', 'text', needed)
      .addColumn('begun_at', instant, needed)
      .addColumn('moved_at', instant)
      .addColumn('removed_at', instant)
      .addColumn('tool_version', 'text', needed)
      .addPrimaryKeyConstraint(`${names.moved_files.name}_pkey`, ['move', 'file'])
      .execute()
    await create('runs')
      .addColumn('run', 'text', needed)
      .addColumn('policy', 'text', needed)
      .addColumn('started_at', instant, needed)
      .addColumn('finished_at', instant, needed)
      .addColumn('status', 'text', needed)
      .addColumn('rows', 'bigint', needed)
      .addColumn('bytes', 'bigint', needed)
      .addColumn('error_code', 'text')
      .addColumn('error_message', 'text')
      .addColumn('host', 'text', needed)
      // In the order in which they are asked for.
      .addPrimaryKeyConstraint(`${names.runs.name}_pkey`, ['policy', 'started_at', 'run'])
      .execute()
  },
]

/** The version that this tool reads and writes. */
const ledgerVersion = migrations.length

/**
 * The version of a ledger; 0 where there is none.
 * @throws RetentionError `LEDGER_TOO_NEW`
 */
export async function readVersion(database: Database, db: Db, ledger: TableName): Promise<number> {
  const { version: table } = ledgerTableNames(ledger)
  if (!(await database.tableExists(db, table))) return 0
  const { rows } = await sql<{ version: unknown }>`select version from ${qualified(table)}`.execute(db)
  const version = Number(rows[0]?.version ?? 0)
  if (version > ledgerVersion) {
    throw new RetentionError(
      'LEDGER_TOO_NEW',
      `The ledger ${formatTableName(ledger)} has version ${version}; this version of retention knows versions up to ${ledgerVersion}`,
      { hint: 'Upgrade retention on this machine. Nothing has been changed.' },
    )
  }
  return version
}

/**
 * Brings the ledger to this tool's version, in one transaction.
 * @throws RetentionError `LEDGER_TOO_NEW`, `LEDGER_INVALID`
 */
export async function migrateLedger(database: Database, ledger: TableName): Promise<void> {
  const current = await database.read((db) => readVersion(database, db, ledger))
  if (current === ledgerVersion) return
  try {
    await database.write((db) => migrate(database, db, ledger))
  } catch (error) {
    // Two first runs at once: one of them makes the tables, and the other finds them made.
    if ((await database.read((db) => readVersion(database, db, ledger))) === ledgerVersion) return
    throw new RetentionError(
      'LEDGER_INVALID',
      `The ledger ${formatTableName(ledger)} cannot be set up: ${messageOf(error)}`,
      {
        hint: setUpHint(messageOf(error)),
        cause: error,
      },
    )
  }
}

function setUpHint(message: string): string {
  if (/permission denied/.test(message)) return 'The role needs CREATE on the schema for the first run.'
  if (/exist|column/.test(message))
    return 'A table of that name that is not ours is in the way: choose another "ledger".'
  return 'The ledger is made by the first command that writes; nothing has been archived.'
}

async function migrate(database: Database, db: Db, ledger: TableName): Promise<void> {
  const names = ledgerTableNames(ledger)
  const from = await readVersion(database, db, ledger)
  for (const migration of migrations.slice(from)) await migration(db, names, database)
  const version = qualified(names.version)
  await (
    from === 0
      ? sql`insert into ${version} (version) values (${ledgerVersion})`
      : sql`update ${version} set version = ${ledgerVersion}`
  ).execute(db)
}

/** A table's name for SQL. */
export function qualified(table: TableName): ReturnType<typeof sql.id> {
  return table.schema === undefined ? sql.id(table.name) : sql.id(table.schema, table.name)
}
