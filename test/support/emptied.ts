/** Postgres databases that tests have left, emptied for the next ones of their process: a new one costs ten times as much. */
import { Client } from 'pg'

const emptied: string[] = []

/** The address of a database that is as good as new, if there is one. */
export function takeEmptied(): string | undefined {
  return emptied.pop()
}

/** All that are left: to be dropped in the end. */
export function takeAllEmptied(): string[] {
  return emptied.splice(0)
}

/**
 * Empties a database and keeps it for `takeEmptied`, ending whatever is connected to it.
 * @param address as its superuser
 * @returns false where anything is left in it: then it is to be dropped
 */
export async function keepEmptied(address: string): Promise<boolean> {
  const client = new Client({ connectionString: address })
  client.on('error', () => {})
  try {
    await client.connect()
    // What a prepared transaction has locked is not waited for.
    await client.query(`set client_min_messages = warning; set lock_timeout = '20s'`)
    await client.query(endOthers)
    await client.query(dropAll)
    const { rows } = await client.query<{ left: string | null }>(whatIsLeft)
    if (rows[0]?.left !== null) return false
    emptied.push(address)
    return true
  } catch {
    return false
  } finally {
    await client.end()
  }
}

const endOthers = `
  select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`

/** What tests make most. */
const dropAll = `
  do $$
  declare statement text;
  begin
    for statement in
      select format('drop publication %I', pubname) from pg_publication
      union all
      select format('drop extension %I cascade', extname) from pg_extension where oid >= 16384
      union all
      select format('drop schema %I cascade', nspname) from pg_namespace where oid >= 16384 and nspname !~ '^pg_'
    loop execute statement; end loop;
    -- What one drops may take another along.
    loop
      select format('drop %s %s cascade',
        case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end,
        oid::regclass)
        into statement
        from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        order by relkind = 'S' limit 1;
      exit when not found;
      execute statement;
    end loop;
    loop
      select format('drop routine %s cascade', oid::regprocedure) into statement
        from pg_proc where pronamespace = 'public'::regnamespace limit 1;
      exit when not found;
      execute statement;
    end loop;
    loop
      select format('drop type %s cascade', oid::regtype) into statement
        from pg_type where typnamespace = 'public'::regnamespace and typelem = 0 and typtype <> 'm' limit 1;
      exit when not found;
      execute statement;
    end loop;
  end $$`

/** Whatever a new database has none of; numbers below 16384 are what every database begins with. */
const whatIsLeft = `
  select string_agg(what, ', ') as left from (
    ${[
      'class',
      'type',
      'proc',
      'extension',
      'publication',
      'operator',
      'collation',
      'cast',
      'conversion',
      'event_trigger',
      'foreign_data_wrapper',
      'foreign_server',
      'language',
      'largeobject_metadata',
      'opclass',
      'opfamily',
      'statistic_ext',
      'ts_config',
      'ts_dict',
      'ts_parser',
      'ts_template',
      'am',
      'transform',
      'default_acl',
    ]
      .map((kind) => `select '${kind}' as what from pg_${kind} where oid >= 16384`)
      .join('\n    union all ')}
    union all select 'schema' from pg_namespace n
      left join pg_init_privs i on i.objoid = n.oid and i.classoid = 'pg_namespace'::regclass
      where n.oid >= 16384 and nspname !~ '^pg_(toast_)?temp_' or nspname = 'public' and nspacl is distinct from initprivs
    union all select 'owner or grant' from pg_shdepend where dbid = (select oid from pg_database where datname = current_database())
    union all select 'setting' from pg_db_role_setting join pg_database d on d.oid = setdatabase where datname = current_database()
    union all select 'grant' from pg_database where datname = current_database() and (datacl is not null or datconnlimit <> -1)
    union all select 'slot' from pg_replication_slots where database = current_database()
    union all select 'prepared transaction' from pg_prepared_xacts where database = current_database()
    union all select 'subscription' from pg_subscription join pg_database d on d.oid = subdbid where datname = current_database()
  ) residue`
