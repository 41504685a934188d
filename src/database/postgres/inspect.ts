/** Reads Postgres's catalog: what a policy's table is like, and whether the policy may work on it. */
import { sql } from 'kysely'

import { clockTime, type Cutoff } from '../../cutoff.ts'
import { messageOf } from '../../errors.ts'
import { formatTableName, type TableName } from '../../config/fields.ts'
import { didYouMean } from '../../config/validate.ts'
import type {
  Column,
  Db,
  Finding,
  Inspection,
  InspectRequest,
  OrderPart,
  Sql,
  SqlValue,
  Table,
  TimeColumn,
} from '../database.ts'
import { predicateTest, wherePredicate } from '../where.ts'
import { foreignKeyFindings } from './foreign-keys.ts'

/** What the catalog says of a table, beyond `Table`. */
export interface CatalogTable extends Table {
  readonly oid: string
  /** pg_class.relkind: `r` a table, `p` a partitioned one, and others. */
  readonly kind: string
  readonly catalogColumns: readonly CatalogColumn[]
}

interface CatalogColumn extends Column {
  /** The type without its modifiers, and without the domains around it. */
  readonly base: string
  /** `always`, `by default`, or empty. */
  readonly identity: string
}

/** How closely to look. */
export interface Care {
  /** Also ask whether foreign keys would block the delete, which reads rows. */
  readonly thorough: boolean
  /** Whether this very role is about to delete; one that may only read can plan for another. */
  readonly deletes: boolean
}

/** Looks at a policy's table. */
export async function inspect(db: Db, request: InspectRequest, care: Care): Promise<Inspection> {
  const table = await findTable(db, request.table)
  if (table === undefined) return refused(await noSuchTable(db, request.table))
  if (table.kind !== 'r' && table.kind !== 'p') {
    return refused({ level: 'refusal', text: `${formatTableName(table.name)} is ${kindName(table.kind)}, not a table` })
  }
  const column = table.catalogColumns.find(({ name }) => name === request.column)
  const time = column === undefined ? undefined : timeColumn(column, request.columnTimezone)
  if (column === undefined || time === undefined)
    return { table, time, order: [], findings: [noTimeColumn(table, request.column)] }

  const findings = [
    ...(await whereFindings(db, table, request.where)),
    ...(await tableFindings(db, table, request.column, care.deletes)),
    ...keyFindings(table),
  ]
  if (care.thorough && request.storage === undefined && !findings.some(({ level }) => level === 'refusal')) {
    const due = sql<boolean>`${time.due(request.cutoff)} and ${wherePredicate(request.where)}`
    findings.push(...(await foreignKeyFindings(db, table, due)))
  } else {
    findings.push(...(await foreignKeyFindings(db, table, undefined)))
  }
  return { table, time, order: [orderPart(column), ...keyParts(table)], findings }
}

/** Finds a table by name; without a schema, along the search path. */
export async function findTable(db: Db, name: TableName): Promise<CatalogTable | undefined> {
  const inSchema = name.schema === undefined ? sql`pg_table_is_visible(c.oid)` : sql`n.nspname = ${name.schema}`
  const found = await sql<{ oid: string; schema: string; name: string; kind: string }>`
    select c.oid::text, n.nspname as schema, c.relname as name, c.relkind::text as kind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = ${name.name} and ${inSchema} and c.relkind in ('r', 'p', 'v', 'm', 'f')
  `.execute(db)
  const [table] = found.rows
  if (table === undefined) return undefined
  const columns = await readColumns(db, table.oid)
  const key = await readKey(db, table.oid)
  return {
    oid: table.oid,
    kind: table.kind,
    name: { schema: table.schema, name: table.name },
    sql: sql.id(table.schema, table.name),
    columns,
    catalogColumns: columns,
    key,
    keyText:
      key.length === 0
        ? undefined
        : sql<string>`jsonb_build_array(${sql.join(key.map((part) => sql`${sql.id(part)}::text`))})::text`,
    kept: undefined,
  }
}

async function readColumns(db: Db, oid: string): Promise<CatalogColumn[]> {
  const { rows } = await sql<CatalogColumn>`
    select
      a.attname as name,
      format_type(a.atttypid, a.atttypmod) as type,
      not a.attnotnull as nullable,
      a.attgenerated <> '' as generated,
      case a.attidentity when 'a' then 'always' when 'd' then 'by default' else '' end as identity,
      (
        with recursive base(oid) as (
          select a.atttypid
          union all
          select t.typbasetype from base join pg_type t on t.oid = base.oid where t.typtype = 'd'
        )
        select format_type(t.oid, null) from base join pg_type t on t.oid = base.oid where t.typtype <> 'd'
      ) as base
    from pg_attribute a
    where a.attrelid = ${oid}::oid and a.attnum > 0 and not a.attisdropped
    order by a.attnum
  `.execute(db)
  return rows
}

/** The primary key, or else the narrowest unique index over columns that are never null; generated ones do not serve. */
async function readKey(db: Db, oid: string): Promise<string[]> {
  const { rows } = await sql<{ columns: string[] }>`
    select k.columns
    from pg_index i
    cross join lateral (
      select
        array_agg(a.attname::text order by part.n) as columns,
        bool_and(a.attnotnull and a.attgenerated = '') as usable
      from unnest(i.indkey::int2[]) with ordinality as part(attnum, n)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
      where part.n <= i.indnkeyatts
    ) k
    where i.indrelid = ${oid}::oid and i.indisunique and i.indisvalid and i.indimmediate
      and i.indpred is null and i.indexprs is null and k.usable
    order by i.indisprimary desc, i.indnkeyatts, i.indexrelid
    limit 1
  `.execute(db)
  return rows[0]?.columns ?? []
}

/** How a table's column stores time; undefined where it does not. */
export function timeOf(table: CatalogTable, name: string): TimeColumn | undefined {
  const column = table.catalogColumns.find((candidate) => candidate.name === name)
  return column === undefined ? undefined : timeColumn(column, 'UTC')
}

function timeColumn(column: CatalogColumn, columnTimezone: string): TimeColumn | undefined {
  const ref = sql.id(column.name)
  const before = bound(column.base, columnTimezone)
  if (before === undefined) return undefined
  return {
    storage: column.type,
    due: (cutoff) => sql<boolean>`(${ref} < ${before(cutoff)} and ${ref} > '-infinity')`,
    undated: sql<boolean>`(${ref} is null or ${ref} = 'infinity' or ${ref} = '-infinity')`,
    format: formatTime,
  }
}

/** The cutoff in the column's own type: never compared across types, which the session's time zone would decide. */
function bound(type: string, columnTimezone: string): ((cutoff: Cutoff) => Sql) | undefined {
  switch (type) {
    case 'timestamp with time zone':
      return (cutoff) => sql`cast(${cutoff.instant} as timestamptz)`
    case 'timestamp without time zone':
      return (cutoff) => sql`cast(${clockTime(cutoff, columnTimezone)} as timestamp)`
    case 'date':
      return (cutoff) => sql`cast(${cutoff.day} as date)`
    default:
      return undefined
  }
}

/** `2026-10-23 00:00:00.5+00` as `2026-10-23T00:00:00.5Z`; years before Christ stay as Postgres writes them. */
function formatTime(value: SqlValue): string {
  const text = String(value)
  return /^[\d-]+ [\d:.]+(\+00)?$/.test(text) ? text.replace(' ', 'T').replace('+00', 'Z') : text
}

function orderPart(column: CatalogColumn): OrderPart {
  const ref = sql.id(column.name)
  return {
    value: ref,
    read: sql<SqlValue>`${ref}::text`,
    // The catalog's own, quoted, name of the type.
    bind: (value) => sql`cast(${value} as ${sql.raw(column.type)})`,
  }
}

function keyParts(table: CatalogTable): OrderPart[] {
  if (table.key.length > 0) {
    return table.key.flatMap((name) => table.catalogColumns.filter((column) => column.name === name).map(orderPart))
  }
  // Without a key, the row's place tells rows apart; in partitions it is unique only together with the partition.
  return [systemPart('tableoid', 'oid'), systemPart('ctid', 'tid')]
}

function systemPart(name: string, type: string): OrderPart {
  return {
    value: sql.id(name),
    read: sql<SqlValue>`${sql.id(name)}::text`,
    bind: (value) => sql`cast(${value} as ${sql.raw(type)})`,
  }
}

function refused(finding: Finding): Inspection {
  return { table: undefined, time: undefined, order: [], findings: [finding] }
}

async function noSuchTable(db: Db, name: TableName): Promise<Finding> {
  const { rows } = await sql<{ schema: string; name: string; visible: boolean }>`
    select n.nspname as schema, c.relname as name, pg_table_is_visible(c.oid) as visible
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
  `.execute(db)
  const written = formatTableName(name)
  const elsewhere = rows.find((row) => row.name === name.name)
  const names = rows.map((row) =>
    formatTableName({ schema: row.visible && name.schema === undefined ? undefined : row.schema, name: row.name }),
  )
  const near = elsewhere === undefined ? didYouMean(written, names) : ` (did you mean "${formatTableName(elsewhere)}"?)`
  return {
    level: 'refusal',
    text: `There is no table "${written}"${near}`,
    hint: 'Mend "table" in the policy. Letter case counts.',
  }
}

function noTimeColumn(table: CatalogTable, name: string): Finding {
  const column = table.columns.find((candidate) => candidate.name === name)
  const usable = table.catalogColumns
    .filter((candidate) => bound(candidate.base, 'UTC') !== undefined)
    .map((candidate) => candidate.name)
  const hint =
    usable.length === 0
      ? `${formatTableName(table.name)} has no timestamp or date column.`
      : `Columns of ${formatTableName(table.name)} that can age rows: ${usable.join(', ')}.`
  const text =
    column === undefined
      ? `${formatTableName(table.name)} has no column "${name}"${didYouMean(
          name,
          table.columns.map((candidate) => candidate.name),
        )}`
      : `Column "${name}" of ${formatTableName(table.name)} is of type ${column.type}, which does not say how old a row is`
  return { level: 'refusal', text, hint }
}

function keyFindings(table: CatalogTable): Finding[] {
  if (table.key.length > 0) return []
  return [
    {
      level: 'warning',
      text: `${formatTableName(table.name)} has no primary key and no unique index over columns that are NOT NULL`,
      hint: 'Rows are told apart by their place, and a restore is held by time range instead of row by row.',
    },
  ]
}

async function whereFindings(db: Db, table: CatalogTable, where: string | undefined): Promise<Finding[]> {
  if (where === undefined) return []
  await sql`savepoint retention_where`.execute(db)
  try {
    await predicateTest(where, table.sql).execute(db)
    return []
  } catch (error) {
    return [
      { level: 'refusal', text: `"where" is not a predicate on ${formatTableName(table.name)}: ${messageOf(error)}` },
    ]
  } finally {
    await sql`rollback to savepoint retention_where`.execute(db)
  }
}

async function tableFindings(db: Db, table: CatalogTable, column: string, deletes: boolean): Promise<Finding[]> {
  const { rows } = await sql<TableFacts>`
    select
      row_security_active(c.oid) as "rowSecurity",
      has_table_privilege(c.oid, 'SELECT') as "maySelect",
      has_table_privilege(c.oid, 'DELETE') as "mayDelete",
      current_user::text as "user",
      c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid) as "hasChildren",
      array(
        select p.relid::regclass::text from pg_partition_tree(c.oid) p join pg_class pc on pc.oid = p.relid
        where pc.relkind = 'f'
      ) as "foreignPartitions",
      exists (
        select from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam
        join pg_attribute a on a.attrelid = c.oid and a.attname = ${column}
        where i.indrelid = c.oid and i.indkey[0] = a.attnum and i.indisvalid and i.indpred is null
          and am.amname in ('btree', 'brin')
      ) as "hasIndex",
      format('CREATE INDEX %sON %I.%I (%I);', case when c.relkind = 'r' then 'CONCURRENTLY ' end, n.nspname, c.relname, ${column}::text)
        as "createIndex",
      format('GRANT SELECT, DELETE ON %I.%I TO %I;', n.nspname, c.relname, current_user) as "grant",
      array(
        select distinct t.tgname::text from pg_trigger t
        where t.tgrelid in (select c.oid union select relid from pg_partition_tree(c.oid))
          and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & 8 = 8
      ) as "deleteTriggers",
      array(
        select r.rulename::text from pg_rewrite r where r.ev_class = c.oid and r.ev_type = '4' and r.ev_enabled <> 'D'
      ) as "deleteRules",
      array(
        select p.pubname::text from pg_publication p
        where p.pubdelete and (
          p.puballtables or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid)
        )
      ) as "publications",
      c.relreplident = 'n' or c.relreplident = 'd'
        and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as "noReplicaIdentity"
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = ${table.oid}::oid
  `.execute(db)
  const [facts] = rows
  return facts === undefined ? [] : describeFacts(formatTableName(table.name), column, deletes, facts)
}

interface TableFacts {
  rowSecurity: boolean
  maySelect: boolean
  mayDelete: boolean
  user: string
  hasChildren: boolean
  foreignPartitions: string[]
  hasIndex: boolean
  createIndex: string
  grant: string
  deleteTriggers: string[]
  deleteRules: string[]
  publications: string[]
  noReplicaIdentity: boolean
}

function describeFacts(table: string, column: string, deletes: boolean, facts: TableFacts): Finding[] {
  const findings: Finding[] = []
  const refuse = (text: string, hint: string): void => void findings.push({ level: 'refusal', text, hint })
  const warn = (text: string, hint: string): void => void findings.push({ level: 'warning', text, hint })

  if (!facts.maySelect || (deletes && !facts.mayDelete)) {
    refuse(`Role "${facts.user}" may not read and delete rows of ${table}`, facts.grant)
  }
  if (facts.rowSecurity) {
    refuse(
      `Row-level security hides rows of ${table} from role "${facts.user}": due rows could be missed for ever`,
      "Run as a role with BYPASSRLS, or as the table's owner.",
    )
  }
  if (facts.hasChildren) {
    refuse(
      `Other tables inherit from ${table}: deleting from it would delete their rows and lose their own columns`,
      'Write a policy for each child table, and none for the parent.',
    )
  }
  if (facts.foreignPartitions.length > 0) {
    refuse(
      `Partitions of ${table} are foreign tables: ${facts.foreignPartitions.join(', ')}`,
      'Write a policy for each local partition.',
    )
  }
  if (facts.deleteRules.length > 0) {
    refuse(
      `Rules rewrite DELETE on ${table}: ${facts.deleteRules.join(', ')}`,
      'Drop or disable them; a trigger can do their work.',
    )
  }
  if (facts.publications.length > 0 && facts.noReplicaIdentity) {
    refuse(
      `${table} has no replica identity, and publication ${facts.publications.join(', ')} publishes deletes: Postgres refuses them`,
      'Give the table a primary key or a REPLICA IDENTITY.',
    )
  } else if (facts.publications.length > 0) {
    warn(`Deletes on ${table} are published by ${facts.publications.join(', ')}`, 'Subscribers lose the rows as well.')
  }
  if (facts.deleteTriggers.length > 0) {
    warn(
      `Triggers run when rows of ${table} are deleted: ${facts.deleteTriggers.join(', ')}`,
      'What they change is not archived.',
    )
  }
  if (!facts.hasIndex) {
    warn(`Column "${column}" of ${table} has no index: every step reads the whole table`, facts.createIndex)
  }
  return findings
}

function kindName(kind: string): string {
  return { v: 'a view', m: 'a materialized view', f: 'a foreign table' }[kind] ?? 'something else'
}
