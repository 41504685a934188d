/**
 * What stands against dropping a partition whole. Everything of it that would go is in its definition
 * (partition-ddl.ts), or stands here: the catalog knows all that depends on a table.
 */
import { sql } from 'kysely'

import { formatTableName } from '../../config/fields.ts'
import type { Db } from '../database.ts'
import type { Leaf } from './partitions.ts'

/** What stands against it, and what can be done about it. */
export interface Obstacle {
  readonly text: string
  readonly hint?: string
}

interface Facts {
  owner: string | null
  user: string
  /** Null where its owner's rights are not for giving. */
  grant: string | null
  hidden: boolean
  published: string | null
  method: string
  trigger: string | null
  dependent: string | null
}

/**
 * The first thing that stands against dropping a partition; undefined where nothing does.
 * @param drops whether this very role is about to drop it; else it is asked for its rights if it may delete
 */
export async function obstacleTo(
  db: Db,
  { oid, table }: Pick<Leaf, 'oid' | 'table'>,
  drops: boolean,
): Promise<Obstacle | undefined> {
  const { rows } = await sql<Facts>`
    select
      (
        select pg_get_userbyid(o.relowner) from pg_class o
        where o.oid in (c.oid, i.inhparent) and not pg_has_role(o.relowner, 'USAGE')
          -- One that may only read plans for another.
          and (${drops} or has_table_privilege(pg_partition_root(c.oid), 'DELETE'))
        limit 1
      ) as owner,
      current_user::text as user,
      (
        select format('GRANT %I TO %I;', r.rolname, current_user) from pg_roles r where r.oid = p.relowner and not r.rolsuper
      ) as grant,
      row_security_active(c.oid) as hidden,
      case when exists (select from pg_publication where pubdelete) then (
        select string_agg(distinct pub.pubname, ', ')
        from pg_publication pub
        join pg_publication_tables pt on pt.pubname = pub.pubname
        join pg_namespace n on n.nspname = pt.schemaname
        join pg_class r on r.relnamespace = n.oid and r.relname = pt.tablename
        where pub.pubdelete and r.oid in (select relid from pg_partition_ancestors(c.oid))
      ) end as published,
      am.amname::text as method,
      (
        select t.tgname::text from pg_trigger t left join pg_trigger whole on whole.oid = t.tgparentid
        where t.tgrelid in (select relid from pg_partition_ancestors(c.oid)) and not t.tgisinternal
          and (
            t.tgtype & 8 = 8 and t.tgenabled in ('O', 'A')
            -- Its own, or switched otherwise than the whole table's.
            or t.tgrelid = c.oid and t.tgenabled is distinct from whole.tgenabled
          )
        limit 1
      ) as trigger,
      coalesce(
        (
          select pg_describe_object(d.classid, d.objid, d.objsubid)
          from pg_depend d
          join pg_type row on row.oid = c.reltype
          where (
              d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
              or d.refclassid = 'pg_type'::regclass and d.refobjid in (row.oid, row.typarray)
            )
            and not (
              d.classid = 'pg_class'::regclass and d.objid in (
                select c.oid union select c.reltoastrelid union select indexrelid from pg_index where indrelid = c.oid
              )
              or d.classid = 'pg_type'::regclass and d.objid in (row.oid, row.typarray)
              or d.classid = 'pg_attrdef'::regclass and d.objid in (select oid from pg_attrdef where adrelid = c.oid)
              or d.classid = 'pg_constraint'::regclass
                and d.objid in (select oid from pg_constraint where conrelid = c.oid)
              or d.classid = 'pg_trigger'::regclass
                and d.objid in (select oid from pg_trigger where tgrelid = c.oid and (tgisinternal or tgparentid <> 0))
            )
          limit 1
        ),
        (select 'a security label' from pg_seclabel where classoid = 'pg_class'::regclass and objoid = c.oid limit 1)
      ) as dependent
    from pg_class c
    join pg_inherits i on i.inhrelid = c.oid
    join pg_class p on p.oid = i.inhparent
    join pg_am am on am.oid = c.relam
    where c.oid = ${oid}::oid
  `.execute(db)
  const [facts] = rows
  const name = formatTableName(table)
  if (facts === undefined) return { text: `${name} is no partition any more` }
  if (facts.owner !== null) {
    const way = facts.grant ?? 'let a role that is no superuser own the table, and be a member of it.'
    const hint = `Dropping a partition takes the owner's rights: ${way} Or "partitions: 'rows'" in the policy.`
    return { text: `role "${facts.user}" has not the rights of its owner "${facts.owner}"`, hint }
  }
  if (facts.hidden) return { text: `row-level security applies to role "${facts.user}"` }
  if (facts.published !== null) return { text: `deletes are published by ${facts.published}` }
  if (facts.method !== 'heap') return { text: `it is kept by access method "${facts.method}"` }
  if (facts.trigger !== null) return { text: `it has trigger "${facts.trigger}"` }
  if (facts.dependent !== null) return { text: `it would take with it ${facts.dependent}` }
  return undefined
}
