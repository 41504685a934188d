/** `status` and `plan` on a large log, against the bare count of its due rows in the index. */
import { has, psql, sqlite3, type Program } from './contenders.ts'
import { due } from './data.ts'
import type { Copy, Database, Kind } from './databases.ts'
import { measure, say, type Command, type Measured } from './measure.ts'
import { retention, writeProject } from './project.ts'

export interface Overview {
  readonly kind: Kind
  readonly rows: number
  /** Of the count there are none where the database's shell is not on this machine. */
  readonly runs: Readonly<Record<'count' | 'status' | 'plan', readonly Measured[]>>
  /** The shell that counts. */
  readonly shell: Program
  /** What Postgres says it has read of the table; SQLite keeps no such count. */
  readonly reads: { readonly pages: number; readonly status: Reads; readonly plan: Reads } | undefined
}

/** What a command read of the table itself. */
interface Reads {
  /** Pages, those of the visibility map included, which an index-only scan looks into. */
  readonly pages: number
  readonly scans: number
}

/** Measures both in turn with the count, after one count that nobody measures, so that nobody finds the index cold. */
export async function overview(database: Database, log: Copy, rows: number, runs: number): Promise<Overview> {
  writeProject(log)
  const counting = `select count(*) from conversation_log where ${due};`
  const shell = database.kind === 'postgres' ? 'psql' : 'sqlite3'
  const commands: [keyof Overview['runs'], Command][] = [
    ['count', shell === 'psql' ? psql(log.address, counting) : sqlite3(log.address, counting)],
    ['status', retention(['status'], log)],
    ['plan', retention(['plan'], log)],
  ]
  const measured: Record<keyof Overview['runs'], Measured[]> = { count: [], status: [], plan: [] }
  await database.ask(log, counting)
  for (let run = 1; run <= runs; run += 1) {
    for (const [name, command] of commands) {
      if (name === 'count' && !has(shell)) continue
      const result = await measure(command)
      measured[name].push(result)
      say(`  ${run}/${runs} ${name}: ${result.seconds.toFixed(2)} s`)
    }
  }
  return { kind: database.kind, rows, shell, runs: measured, reads: await readsOf(database, log) }
}

async function readsOf(database: Database, log: Copy): Promise<Overview['reads']> {
  if (database.kind === 'sqlite') return undefined
  const size = `select pg_relation_size('conversation_log') / current_setting('block_size')::integer`
  const [pages = 0] = await database.ask(log, size)
  return { pages, status: await readsDuring(database, log, 'status'), plan: await readsDuring(database, log, 'plan') }
}

async function readsDuring(database: Database, log: Copy, command: string): Promise<Reads> {
  const before = await statistics(database, log)
  await measure(retention([command], log))
  const after = await statistics(database, log)
  return { pages: after.pages - before.pages, scans: after.scans - before.scans }
}

/** A backend's counts are told when it ends, before it leaves the list of them: so all others must have left it. */
async function statistics(database: Database, log: Copy): Promise<Reads> {
  const others = `select count(*) from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
  while ((await database.ask(log, others))[0] !== 0) continue
  const [pages = 0, scans = 0] = await database.ask(
    log,
    `select heap_blks_read + heap_blks_hit, seq_scan
     from pg_statio_user_tables join pg_stat_user_tables using (relid) where relid = 'conversation_log'::regclass`,
  )
  return { pages, scans }
}
