/** The queue of runs to come: pg-boss, in a schema of its own on Postgres. It is loaded when it is first needed. */
import type { PgBoss } from 'pg-boss'

import { loadConfig, loadDatabases, type ProjectOptions } from '../config/project.ts'
import type { QueueCounts, QueuedRun } from '../report.ts'
import { codeOf, messageOf, RetentionError, withoutSecrets } from '../errors.ts'

/** Its schema, its queue, and where runs go that have failed too often. */
const schema = 'retention_queue'
export const queueName = 'apply'
const deadName = 'apply_dead'

/** A worker that is silent for so long is taken for dead, and its run is given to another; seconds. */
const heartbeat = 60
/** No run takes longer; seconds. */
export const longestRun = 24 * 60 * 60 - 60

/** What a run is known by: no second one of it is queued or at work. */
export function keyOf({ database = '', policies }: QueuedRun): string {
  return JSON.stringify([database, policies ?? null])
}

/**
 * Opens the queue, and makes what is missing of it.
 * @param role `worker`: keeps schedules and looks after what dead workers have left; `other`: does neither
 * @param onError is told of what goes wrong later on
 * @throws RetentionError `PACKAGE_MISSING`, `CONFIG_INVALID`, `DATABASE_UNREACHABLE`
 */
export async function openQueue(
  options: ProjectOptions,
  role: 'worker' | 'other',
  onError: (message: string) => void,
): Promise<PgBoss> {
  const [address, { PgBoss: Boss }] = [await addressOf(options), await loadPackage()]
  const isWorker = role === 'worker'
  const boss = new Boss({
    connectionString: address,
    schema,
    schedule: isWorker,
    supervise: isWorker,
    application_name: 'retention worker',
    max: 4,
  })
  boss.on('error', (error) => onError(withoutSecrets(messageOf(error))))
  try {
    await boss.start()
    await boss.createQueue(deadName)
    await boss.createQueue(queueName, {
      policy: 'exclusive',
      deadLetter: deadName,
      retryLimit: 3,
      retryDelay: 60,
      retryBackoff: true,
      expireInSeconds: 24 * 60 * 60 - 1,
      heartbeatSeconds: heartbeat,
    })
    return boss
  } catch (error) {
    await boss.stop({ graceful: false }).catch(() => {})
    throw new RetentionError(
      'DATABASE_UNREACHABLE',
      `The queue cannot be opened: ${withoutSecrets(messageOf(error))}`,
      {
        hint: 'Check "queue" in the config, and whether its role may create a schema.',
        cause: error,
      },
    )
  }
}

/** Counts what is in the queue now. */
export async function countsOf(boss: PgBoss): Promise<QueueCounts> {
  const jobs = await boss.findJobs(queueName)
  const dead = await boss.findJobs(deadName)
  const count = (...states: readonly string[]): number => jobs.filter(({ state }) => states.includes(state)).length
  return {
    waiting: count('created', 'retry'),
    active: count('active'),
    dead: dead.filter(({ state }) => state === 'created').length,
  }
}

async function addressOf({ database, ...options }: ProjectOptions): Promise<string> {
  const databases = await loadDatabases(options)
  const name = database ?? databases?.names[0]
  const config = await loadConfig(name === undefined ? options : { ...options, database: name })
  const address = config.queue ?? (databases === undefined ? config.database : '')
  if (/^postgres/i.test(address)) return address
  throw new RetentionError('CONFIG_INVALID', 'The config does not say where the queue is', {
    hint: 'Set "queue" to the address of a Postgres database.',
  })
}

async function loadPackage(): Promise<typeof import('pg-boss')> {
  try {
    return await import('pg-boss')
  } catch (error) {
    if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new RetentionError('PACKAGE_MISSING', 'The queue needs the package pg-boss', {
      hint: 'npm install pg-boss',
      cause: error,
    })
  }
}
