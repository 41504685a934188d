/** What Postgres's catalogue says of a table and its partitions, as text: to compare two of them by. */
import type { TestDatabase } from './database.ts'

/** One line for each thing: tables, columns, constraints, indexes, triggers, comments; sorted, without any number of theirs. */
export async function describe(db: TestDatabase, table: string): Promise<string[]> {
  const acl = (of: string): string =>
    `(select string_agg(grant_text, ',' order by grant_text) from (
      select concat_ws('/', a.grantee::regrole, a.grantor::regrole, a.privilege_type, a.is_grantable) as grant_text from aclexplode(${of}) a
    ) granted)`
  const rows = await db.rows(`
    with tree as (
      select c.*, c.oid as self from pg_class c where c.oid in (select relid from pg_partition_tree('${table}'))
    )
    select concat_ws(' | ', 'table', relname, relkind, relpersistence, pg_get_expr(relpartbound, oid), reloptions::text,
      (select reloptions::text from pg_class t where t.oid = tree.reltoastrelid), pg_get_userbyid(relowner), relreplident,
      relrowsecurity, relforcerowsecurity, reltablespace, (select inhparent::regclass::text from pg_inherits where inhrelid = tree.oid),
      ${acl("coalesce(relacl, acldefault('r', relowner))")})
    from tree
    union all
    select concat_ws(' | ', 'column', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attcompression,
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
