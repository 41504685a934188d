/** What a database's catalogue says of its tables, as text: to compare two of them by. */
import type { TestDatabase } from './database.ts'

/**
 * Of a Postgres table and its partitions, one line for each thing: tables, columns, constraints, indexes, triggers,
 * comments; sorted, without any number of theirs.
 */
export async function describe(db: TestDatabase, table: string): Promise<string[]> {
  return describeTables(db, `select relid from pg_partition_tree('${table}')`)
}

/** Of all that a database has, but for the ledger; with what its sequences have come to. */
export async function describeAll(db: TestDatabase): Promise<string[]> {
  if (db.kind === 'sqlite') {
    const rows = await db.rows(`
      select concat_ws(' | ', type, name, tbl_name, sql) as line from sqlite_schema where tbl_name not like 'retention_ledger%'
      union all
      select concat_ws(' | ', 'sequence', name, seq) from sqlite_sequence where name not like 'retention_ledger%' order by line`)
    return rows.map(([line]) => String(line))
  }
  const own = `nspname !~ '^pg_' and nspname <> 'information_schema'`
  const tables = await describeTables(
    db,
    `select c.oid from pg_class c join pg_namespace n on n.oid = relnamespace
     where relkind in ('r', 'p', 'v') and ${own} and relname not like 'retention_ledger%'`,
  )
  const rows = await db.rows(`
    select concat_ws(' | ', 'schema', nspname, nspowner::regrole, nspacl::text) from pg_namespace where ${own}
    union all
    select concat_ws(' | ', 'value', s.*, (select relacl::text from pg_class where oid = format('%I.%I', schemaname, sequencename)::regclass))
    from pg_sequences s
    union all
    select concat_ws(' | ', 'type', nspname, typname, typtype, format_type(typbasetype, typtypmod), typdefault,
      (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid),
      (select string_agg(pg_get_constraintdef(k.oid), ',' order by conname) from pg_constraint k where contypid = t.oid))
    from pg_type t join pg_namespace n on n.oid = typnamespace where ${own} and typtype in ('e', 'd', 'c') and typrelid not in (
      select oid from pg_class where relkind <> 'c')
    union all
    select concat_ws(' | ', 'function', proname, md5(pg_get_functiondef(p.oid))) from pg_proc p join pg_namespace n on n.oid = pronamespace where ${own}
    union all
    select concat_ws(' | ', 'view', viewname, definition) from pg_views where schemaname !~ '^pg_' and schemaname <> 'information_schema'
    union all
    select concat_ws(' | ', 'policy', p.*) from pg_policies p
    union all
    select concat_ws(' | ', 'statistics', pg_get_statisticsobjdef(oid)) from pg_statistic_ext`)
  return [...tables, ...rows.map(([line]) => String(line)).toSorted()]
}

/** @param tables a query for the tables' numbers */
async function describeTables(db: TestDatabase, tables: string): Promise<string[]> {
  const acl = (of: string): string =>
    `(select string_agg(grant_text, ',' order by grant_text) from (
      select concat_ws('/', a.grantee::regrole, a.grantor::regrole, a.privilege_type, a.is_grantable) as grant_text from aclexplode(${of}) a
    ) granted)`
  const rows = await db.rows(`
    with tree as (
      select c.*, c.oid as self from pg_class c where c.oid in (${tables})
    )
    select concat_ws(' | ', 'table', relname, relkind, relpersistence, pg_get_expr(relpartbound, oid), reloptions::text,
      (select reloptions::text from pg_class t where t.oid = tree.reltoastrelid), pg_get_userbyid(relowner), relreplident,
      relrowsecurity, relforcerowsecurity, reltablespace, (select inhparent::regclass::text from pg_inherits where inhrelid = tree.oid),
      ${acl("coalesce(relacl, acldefault('r', relowner))")})
    from tree
    union all
    select concat_ws(' | ', 'column', relname,
      -- One that is made again has no gaps where columns were dropped.
      row_number() over (partition by attrelid order by attnum), attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attcompression,
      attstattarget, attoptions::text, attidentity, attgenerated, pg_get_expr(adbin, adrelid), attislocal, attinhcount, ${acl('attacl')})
    from tree join pg_attribute on attrelid = tree.oid and attnum > 0 and not attisdropped
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    union all
    select concat_ws(' | ', 'constraint', relname, conname, contype, pg_get_constraintdef(k.oid), conislocal, coninhcount,
      -- Of keys, Postgres says otherwise where a partition was attached than where it was made as one.
      contype = 'c' and connoinherit, convalidated)
    from tree join pg_constraint k on conrelid = tree.oid
    union all
    select concat_ws(' | ', 'index', tree.relname, pg_get_indexdef(x.indexrelid), indisvalid, indisclustered, indisreplident, i.reloptions::text,
      (select inhparent::regclass::text from pg_inherits where inhrelid = x.indexrelid))
    from tree join pg_index x on indrelid = tree.oid join pg_class i on i.oid = x.indexrelid
    union all
    select concat_ws(' | ', 'trigger', relname, tgname, tgenabled, tgparentid <> 0)
    from tree join pg_trigger on tgrelid = tree.oid where not tgisinternal
    union all
    select concat_ws(' | ', 'comment', pg_describe_object(classoid, objoid, objsubid), description)
    from pg_description
    where classoid = 'pg_class'::regclass
      and objoid in (select oid from tree union select indexrelid from pg_index join tree on indrelid = tree.oid)
      or classoid = 'pg_constraint'::regclass and objoid in (select k.oid from pg_constraint k join tree on conrelid = tree.oid)
    union all
    select concat_ws(' | ', 'sequence', s.relname, pg_describe_object(refclassid, refobjid, refobjsubid))
    from tree join pg_depend on refclassid = 'pg_class'::regclass and refobjid = tree.oid join pg_class s on s.oid = objid and s.relkind = 'S'`)
  return rows.map(([line]) => String(line)).toSorted()
}
