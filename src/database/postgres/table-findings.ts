/** Privileges, rules, triggers and the like: what the catalog has for or against deleting or overwriting a table's rows. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import type { Db, Finding } from '../database.ts'
import { partitionTree } from './partition-tree.ts'
import type { CatalogTable } from './table.ts'

/** Deleting rows, or overwriting some of their columns: how the catalog calls it, and how people do. */
interface Change {
  readonly verb: string
  readonly done: string
  /** A bit of pg_trigger.tgtype. */
  readonly trigger: number
  /** pg_rewrite.ev_type */
  readonly rule: string
  /** A column of pg_publication. */
  readonly published: string
  readonly subscribers: string
}

const deleting: Change = {
  verb: 'delete',
  done: 'deleted',
  trigger: 8,
  rule: '4',
  published: 'pubdelete',
  subscribers: 'Subscribers lose the rows as well.',
}
const updating: Change = {
  verb: 'update',
  done: 'updated',
  trigger: 16,
  rule: '2',
  published: 'pubupdate',
  subscribers: 'What subscribers have is overwritten as well.',
}

/**
 * What the catalog says for or against deleting a table's rows, or overwriting them, and which triggers run then.
 * @param column the one that ages its rows; undefined where they go along with others
 * @param changes whether this very role is about to do so; one that may only read can plan for another
 * @param set the columns that are overwritten; undefined where rows are deleted
 */
export async function tableFindings(
  db: Db,
  table: CatalogTable,
  column: string | undefined,
  changes: boolean,
  set?: readonly string[],
): Promise<{ findings: Finding[]; triggers: readonly string[] }> {
  const change = set === undefined ? deleting : updating
  const { rows } = await sql<TableFacts>`
    with overwritten as (
      select attnum, attname from pg_attribute
      where attrelid = ${table.oid}::oid and attnum > 0 and attname = any(${set ?? []}::text[])
    )
    select
      row_security_active(c.oid) as "rowSecurity",
      has_table_privilege(c.oid, 'SELECT') as "maySelect",
      case when ${set === undefined}::boolean then has_table_privilege(c.oid, 'DELETE')
        else not exists (select from overwritten where not has_column_privilege(c.oid, attnum, 'UPDATE')) end as "mayChange",
      current_user::text as "user",
      c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid) as "hasChildren",
      array(
        select p.relid::regclass::text from ${partitionTree(sql`c.oid`)} p join pg_class pc on pc.oid = p.relid
        where pc.relkind = 'f'
      ) as "foreignPartitions",
      exists (
        select from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam
        join pg_attribute a on a.attrelid = c.oid and a.attname = ${column ?? ''}
        where i.indrelid = c.oid and i.indkey[0] = a.attnum and i.indisvalid and i.indpred is null
          and am.amname in ('btree', 'brin')
      ) as "hasIndex",
      format('CREATE INDEX %sON %I.%I (%I);', case when c.relkind = 'r' then 'CONCURRENTLY ' end, n.nspname, c.relname, ${column ?? ''}::text)
        as "createIndex",
      format(
        'GRANT SELECT, %s ON %I.%I TO %I;',
        coalesce((select format('UPDATE (%s)', string_agg(quote_ident(attname), ', ' order by attnum)) from overwritten having count(*) > 0), 'DELETE'),
        n.nspname, c.relname, current_user
      ) as "grant",
      array(
        select distinct t.tgname::text from pg_trigger t
        where t.tgrelid in (select relid from ${partitionTree(sql`c.oid`)} part)
          and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & ${sql.lit(change.trigger)} <> 0
          -- UPDATE OF other columns; a partition may have them in another order, and so is taken to be meant.
          and (
            cardinality(t.tgattr::int2[]) = 0 or ${set === undefined}::boolean or t.tgrelid <> c.oid
            or exists (select from overwritten where attnum = any(t.tgattr::int2[]))
          )
      ) as "triggers",
      array(
        select r.rulename::text from pg_rewrite r
        where r.ev_class = c.oid and r.ev_type = ${sql.lit(change.rule)} and r.ev_enabled <> 'D'
      ) as "rules",
      exists (select from pg_publication p where p.${sql.id(change.published)}) as "mayBePublished",
      current_setting('session_replication_role') = 'replica' as "isReplica"
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = ${table.oid}::oid
  `.execute(db)
  const [facts] = rows
  if (facts === undefined) return { findings: [], triggers: [] }
  const published = facts.mayBePublished ? await publicationsOf(db, table, change) : unpublished
  const findings = describeFacts(formatTableName(table.name), column, changes, change, { ...facts, ...published })
  return { findings, triggers: facts.triggers }
}

/** The publications that publish such a change of a table: asked only where there are any, as it takes as long as all else. */
async function publicationsOf(db: Db, table: CatalogTable, change: Change): Promise<Published> {
  const { rows } = await sql<Published>`
    with published as (
      -- Whichever way a table was put into it: by itself, by its schema, or with all tables.
      select p.pubname::text as name, r.oid
      from pg_publication p
      join pg_publication_tables pt on pt.pubname = p.pubname
      join pg_namespace n on n.nspname = pt.schemaname
      join pg_class r on r.relnamespace = n.oid and r.relname = pt.tablename
      where p.${sql.id(change.published)} and r.oid in (select relid from ${partitionTree(sql`${table.oid}::oid`)} part)
    )
    select
      array(select distinct name from published) as "publications",
      exists (
        select from published p join pg_class pc on pc.oid = p.oid
        where pc.relreplident = 'n' or pc.relreplident = 'd'
          and not exists (select from pg_index i where i.indrelid = pc.oid and i.indisprimary)
      ) as "noReplicaIdentity"
  `.execute(db)
  return rows[0] ?? unpublished
}

interface Published {
  publications: string[]
  noReplicaIdentity: boolean
}

const unpublished: Published = { publications: [], noReplicaIdentity: false }

interface TableFacts {
  rowSecurity: boolean
  maySelect: boolean
  mayChange: boolean
  user: string
  hasChildren: boolean
  foreignPartitions: string[]
  hasIndex: boolean
  createIndex: string
  grant: string
  triggers: string[]
  rules: string[]
  mayBePublished: boolean
  isReplica: boolean
}

function describeFacts(
  table: string,
  column: string | undefined,
  changes: boolean,
  { verb, done, subscribers }: Change,
  facts: TableFacts & Published,
): Finding[] {
  const findings: Finding[] = []
  const refuse = (text: string, hint: string): void => void findings.push({ level: 'refusal', text, hint })
  const warn = (text: string, hint: string): void => void findings.push({ level: 'warning', text, hint })

  if (!facts.maySelect || (changes && !facts.mayChange)) {
    refuse(`Role "${facts.user}" may not read and ${verb} rows of ${table}`, facts.grant)
  }
  if (facts.rowSecurity) {
    refuse(
      `Row-level security hides rows of ${table} from role "${facts.user}": due rows could be missed for ever`,
      "Run as a role with BYPASSRLS, or as the table's owner.",
    )
  }
  if (facts.isReplica) {
    refuse(
      `session_replication_role is "replica" for role "${facts.user}": foreign keys and triggers would not be heeded`,
      `ALTER ROLE "${facts.user}" RESET session_replication_role;`,
    )
  }
  if (facts.hasChildren) {
    refuse(
      verb === 'delete'
        ? `Other tables inherit from ${table}: deleting from it would delete their rows and lose their own columns`
        : `Other tables inherit from ${table}: its key does not tell their rows apart`,
      'Write a policy for each child table, and none for the parent.',
    )
  }
  if (facts.foreignPartitions.length > 0) {
    refuse(
      `Partitions of ${table} are foreign tables: ${facts.foreignPartitions.join(', ')}`,
      'Write a policy for each local partition.',
    )
  }
  if (facts.rules.length > 0) {
    refuse(
      `Rules rewrite ${verb.toUpperCase()} on ${table}: ${facts.rules.join(', ')}`,
      'Drop or disable them; a trigger can do their work.',
    )
  }
  if (facts.publications.length > 0 && facts.noReplicaIdentity) {
    refuse(
      `${table} has no replica identity, and publication ${facts.publications.join(', ')} publishes ${verb}s: Postgres refuses them`,
      'Give the table a primary key or a REPLICA IDENTITY.',
    )
  } else if (facts.publications.length > 0) {
    const verbs = verb === 'delete' ? 'Deletes' : 'Updates'
    warn(`${verbs} on ${table} are published by ${facts.publications.join(', ')}`, subscribers)
  }
  if (facts.triggers.length > 0) {
    warn(
      `Triggers run when rows of ${table} are ${done}: ${facts.triggers.join(', ')}`,
      'What they change is not archived.',
    )
  }
  if (column !== undefined && !facts.hasIndex) {
    warn(`Column "${column}" of ${table} has no index: every step reads the whole table`, facts.createIndex)
  }
  return findings
}
