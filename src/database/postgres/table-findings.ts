/** Privileges, rules, triggers and the like: what the catalog has for or against deleting a table's rows. */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import type { Db, Finding } from '../database.ts'
import { partitionTree } from './partition-tree.ts'
import type { CatalogTable } from './table.ts'

/**
 * What the catalog says for or against deleting a table's rows, and whether triggers run then.
 * @param column the one that ages its rows; undefined where they go along with others
 * @param deletes whether this very role is about to delete; one that may only read can plan for another
 */
export async function tableFindings(
  db: Db,
  table: CatalogTable,
  column: string | undefined,
  deletes: boolean,
): Promise<{ findings: Finding[]; hasTriggers: boolean }> {
  const { rows } = await sql<TableFacts>`
    select
      row_security_active(c.oid) as "rowSecurity",
      has_table_privilege(c.oid, 'SELECT') as "maySelect",
      has_table_privilege(c.oid, 'DELETE') as "mayDelete",
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
      format('GRANT SELECT, DELETE ON %I.%I TO %I;', n.nspname, c.relname, current_user) as "grant",
      array(
        select distinct t.tgname::text from pg_trigger t
        where t.tgrelid in (select relid from ${partitionTree(sql`c.oid`)} part)
          and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & 8 = 8
      ) as "deleteTriggers",
      array(
        select r.rulename::text from pg_rewrite r where r.ev_class = c.oid and r.ev_type = '4' and r.ev_enabled <> 'D'
      ) as "deleteRules",
      exists (select from pg_publication p where p.pubdelete) as "mayBePublished",
      current_setting('session_replication_role') = 'replica' as "isReplica"
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = ${table.oid}::oid
  `.execute(db)
  const [facts] = rows
  if (facts === undefined) return { findings: [], hasTriggers: false }
  const published = facts.mayBePublished ? await publicationsOf(db, table) : unpublished
  const findings = describeFacts(formatTableName(table.name), column, deletes, { ...facts, ...published })
  return { findings, hasTriggers: facts.deleteTriggers.length > 0 }
}

/** The publications that publish a table's deletes: asked only where there are any, as it takes as long as all else. */
async function publicationsOf(db: Db, table: CatalogTable): Promise<Published> {
  const { rows } = await sql<Published>`
    with published as (
      -- Whichever way a table was put into it: by itself, by its schema, or with all tables.
      select p.pubname::text as name, r.oid
      from pg_publication p
      join pg_publication_tables pt on pt.pubname = p.pubname
      join pg_namespace n on n.nspname = pt.schemaname
      join pg_class r on r.relnamespace = n.oid and r.relname = pt.tablename
      where p.pubdelete and r.oid in (select relid from ${partitionTree(sql`${table.oid}::oid`)} part)
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
  mayDelete: boolean
  user: string
  hasChildren: boolean
  foreignPartitions: string[]
  hasIndex: boolean
  createIndex: string
  grant: string
  deleteTriggers: string[]
  deleteRules: string[]
  mayBePublished: boolean
  isReplica: boolean
}

function describeFacts(
  table: string,
  column: string | undefined,
  deletes: boolean,
  facts: TableFacts & Published,
): Finding[] {
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
  if (facts.isReplica) {
    refuse(
      `session_replication_role is "replica" for role "${facts.user}": foreign keys and triggers would not be heeded`,
      `ALTER ROLE "${facts.user}" RESET session_replication_role;`,
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
  if (column !== undefined && !facts.hasIndex) {
    warn(`Column "${column}" of ${table} has no index: every step reads the whole table`, facts.createIndex)
  }
  return findings
}
