/** Writes down all of a partition that goes when it is dropped, so that it can be made again. */
import { sql } from 'kysely'

import type { Db, Partition } from '../database.ts'
import { tableStatements } from './ddl.ts'
import type { Leaf } from './partitions.ts'

/** A partition's definition as it is now; the same text as long as nothing of it is changed. */
export async function definePartition(db: Db, { oid, table, of, bounds, from, to }: Leaf): Promise<Partition> {
  const { rows } = await sql<{ path: string }>`select current_setting('search_path') as path`.execute(db)
  // Names are then written with their schemas.
  await sql`select set_config('search_path', 'pg_catalog', true)`.execute(db)
  const statements = await tableStatements(db, oid)
  const further = await furtherStatements(db, oid)
  await sql`select set_config('search_path', ${rows[0]?.path ?? ''}, true)`.execute(db)
  const own = statements === undefined ? [] : [statements.create, ...statements.after]
  return { table, of, bounds, from, to, ddl: [...own, ...further.storage], rights: further.rights }
}

/** What CREATE TABLE and CREATE INDEX do not say. */
async function furtherStatements(db: Db, oid: string): Promise<{ storage: string[]; rights: string[] }> {
  const { rows } = await sql<{ storage: string[]; rights: string[] }>`
    with
      self as (
        select c.*, format('%I.%I', n.nspname, c.relname) as name, n.nspname as schema
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = ${oid}::oid
      ),
      options as (
        select 'TABLE ' || self.name as what, option, '' as prefix from self, unnest(self.reloptions) as option
        union all
        select 'TABLE ' || self.name, option, 'toast.' from self join pg_class t on t.oid = self.reltoastrelid, unnest(t.reloptions) as option
        union all
        -- Other indexes have theirs in CREATE INDEX.
        select format('INDEX %I.%I', self.schema, i.relname), option, ''
        from self join pg_constraint k on k.conrelid = self.oid and k.contype in ('p', 'u', 'x')
        join pg_class i on i.oid = k.conindid, unnest(i.reloptions) as option
      ),
      indexes as (
        select i.oid, i.relname, i.reltablespace, x.indisclustered, x.indisreplident, format('%I.%I', self.schema, i.relname) as name
        from self join pg_index x on x.indrelid = self.oid join pg_class i on i.oid = x.indexrelid
      ),
      columns as (
        select a.*, quote_ident(a.attname) as name, t.typstorage
        from self join pg_attribute a on a.attrelid = self.oid and a.attnum > 0 and not a.attisdropped
        join pg_type t on t.oid = a.atttypid
      ),
      grants as (
        select format('%s ON %s', string_agg(acl.privilege_type, ', ' order by acl.privilege_type), self.name) as what,
          acl.grantee, acl.is_grantable, 0 as position
        from self, aclexplode(self.relacl) acl group by self.name, acl.grantee, acl.is_grantable
        union all
        select format('%s ON %s', string_agg(format('%s (%s)', acl.privilege_type, c.name), ', ' order by acl.privilege_type), self.name),
          acl.grantee, acl.is_grantable, c.attnum
        from self, columns c, aclexplode(c.attacl) acl group by self.name, c.attnum, acl.grantee, acl.is_grantable
      )
    select
      array(
        select format('ALTER TABLE %s ADD CONSTRAINT %I %s;', self.name, k.conname, pg_get_constraintdef(k.oid))
        from self join pg_constraint k on k.conrelid = self.oid and k.contype in ('c', 'f') and not k.convalidated
        union all
        select format('ALTER %s SET (%s%s = %L);', what, prefix, split_part(option, '=', 1), substr(option, strpos(option, '=') + 1))
        from options
        union all
        select format('ALTER TABLE %s SET TABLESPACE %I;', self.name, s.spcname)
        from self join pg_tablespace s on s.oid = self.reltablespace
        union all
        select format('ALTER INDEX %s SET TABLESPACE %I;', i.name, s.spcname)
        from indexes i join pg_tablespace s on s.oid = i.reltablespace
        union all
        select format('ALTER TABLE %s CLUSTER ON %I;', self.name, i.relname) from self, indexes i where i.indisclustered
        union all
        select format('ALTER TABLE %s REPLICA IDENTITY %s;', self.name,
          case self.relreplident when 'f' then 'FULL' when 'n' then 'NOTHING'
            else format('USING INDEX %I', (select relname from indexes where indisreplident)) end)
        from self where self.relreplident <> 'd'
        union all
        select format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', self.name) from self where self.relrowsecurity
        union all
        select format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', self.name) from self where self.relforcerowsecurity
        union all
        select format('ALTER TABLE %s ALTER COLUMN %s SET STORAGE %s;', self.name, c.name,
          case c.attstorage when 'p' then 'PLAIN' when 'e' then 'EXTERNAL' when 'm' then 'MAIN' else 'EXTENDED' end)
        from self, columns c where c.attstorage <> c.typstorage
        union all
        select format('ALTER TABLE %s ALTER COLUMN %s SET COMPRESSION %s;', self.name, c.name,
          case c.attcompression when 'p' then 'pglz' else 'lz4' end)
        from self, columns c where c.attcompression <> ''
        union all
        select format('ALTER TABLE %s ALTER COLUMN %s SET STATISTICS %s;', self.name, c.name, c.attstattarget)
        from self, columns c where c.attstattarget >= 0
        union all
        select format('ALTER TABLE %s ALTER COLUMN %s SET (%s = %L);', self.name, c.name, split_part(option, '=', 1), split_part(option, '=', 2))
        from self, columns c, unnest(c.attoptions) as option
        union all
        select format('COMMENT ON %s IS %L;',
          case
            when d.classoid = 'pg_constraint'::regclass
              then format('CONSTRAINT %I ON %s', (select conname from pg_constraint where oid = d.objoid), self.name)
            when d.objoid <> self.oid then 'INDEX ' || (select i.name from indexes i where i.oid = d.objoid)
            when d.objsubid > 0 then format('COLUMN %s.%s', self.name, (select c.name from columns c where c.attnum = d.objsubid))
            else 'TABLE ' || self.name
          end, d.description)
        from self, pg_description d
        where d.classoid = 'pg_class'::regclass and (d.objoid = self.oid or d.objoid in (select i.oid from indexes i))
          or d.classoid = 'pg_constraint'::regclass and d.objoid in (select oid from pg_constraint where conrelid = self.oid)
      ) as storage,
      array(
        select format('ALTER TABLE %s OWNER TO %I;', self.name, pg_get_userbyid(self.relowner)) from self
      ) || array(
        -- The owner's own rights are grants as well, which he may have cut short.
        select format('REVOKE ALL ON %s FROM %I;', self.name, pg_get_userbyid(self.relowner)) from self where self.relacl is not null
      ) || array(
        select format('GRANT %s TO %s%s;', g.what,
          case when g.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(g.grantee)) end,
          case when g.is_grantable and g.grantee <> self.relowner then ' WITH GRANT OPTION' else '' end)
        from self, grants g order by g.position, g.grantee
      ) as rights
  `.execute(db)
  return rows[0] ?? { storage: [], rights: [] }
}
