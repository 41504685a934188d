/** `worker`: takes runs from the queue, and puts them there at the times of their schedules. */
import { createHash } from 'node:crypto'

import type { PgBoss } from 'pg-boss'

import { apply } from '../apply/apply.ts'
import { loadDatabases, loadProject, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { messageOf, RetentionError, withoutSecrets } from '../errors.ts'
import type { RunEvent } from '../events.ts'
import type { ApplyReport, EnqueueReport, QueueCounts, QueuedRun } from '../report.ts'
import { groupsOf } from '../schedule/times.ts'
import { countsOf, keyOf, longestRun, openQueue, queueName } from './queue.ts'

/** How to work. */
export interface WorkerOptions extends ProjectOptions {
  /** How many runs at the same time. Default 2. */
  concurrency?: number
  /** Is told what happens in runs. */
  onEvent?: (event: RunEvent) => void
  /** Is told what goes wrong beside them: the queue is away, a run has failed. */
  onError?: (message: string) => void
}

/** A worker at work. */
export interface Worker {
  /** How many schedules it keeps. */
  readonly schedules: number
  /** Rolls running steps back at once. */
  rollBack: () => void
  /** Takes no more runs, lets running steps end within `grace` milliseconds and rolls them back then. */
  stop: (grace: number) => Promise<void>
}

/**
 * Begins to take runs. A run that fails is tried again three times, each after a longer wait, by whichever worker is free; then
 * it is among the dead. One whose worker has died is taken over.
 * @throws RetentionError as `openQueue` and `loadProject`
 */
export async function startWorker(options: WorkerOptions = {}): Promise<Worker> {
  const { concurrency = 2, onEvent, onError = () => {}, ...project } = options
  if (!(Number.isSafeInteger(concurrency) && concurrency >= 1 && concurrency <= 100))
    throw new RetentionError('USAGE', `--concurrency is ${concurrency}; allowed: a whole number from 1 to 100`)
  const boss = await openQueue(project, 'worker', onError)
  const [finish, rollBack] = [new AbortController(), new AbortController()]
  try {
    const schedules = await keepSchedules(boss, project)
    const signals = { signal: finish.signal, rollbackSignal: rollBack.signal }
    await boss.work(queueName, { localConcurrency: concurrency, pollingIntervalSeconds: 2 }, async ([job]) => {
      if (job === undefined) return undefined
      // Cancelled, or given to another: then this one must not go on.
      const lost = AbortSignal.any([rollBack.signal, job.signal])
      // It was checked when it was queued; what is not there any more, apply says.
      const asked = job.data as QueuedRun
      const told = onEvent === undefined ? {} : { onEvent }
      try {
        const report = await apply({
          ...project,
          ...asked,
          ...told,
          ...signals,
          rollbackSignal: lost,
          maxTime: longestRun * 1000,
        })
        return outcomeOf(report)
      } catch (error) {
        onError(withoutSecrets(`${asked.database ?? 'apply'}: ${messageOf(error)}`))
        throw error
      }
    })
    return {
      schedules,
      rollBack: () => rollBack.abort(),
      stop: async (grace) => {
        finish.abort()
        const timer = setTimeout(() => rollBack.abort(), grace)
        // A step that is rolled back ends as well: there is more time for that than it takes.
        await boss.stop({ graceful: true, timeout: grace + 10_000 }).finally(() => clearTimeout(timer))
      },
    }
  } catch (error) {
    await boss.stop({ graceful: false })
    throw error
  }
}

/** What is kept of a run in the queue. @throws RetentionError where it is to be tried again */
function outcomeOf({ run, policies }: ApplyReport): object {
  const failed = policies.filter(({ status }) => ['failed', 'refused', 'interrupted'].includes(status))
  if (failed.length === 0)
    return { run, policies: policies.map(({ policy, status, archived }) => ({ policy, status, archived })) }
  const text = failed.map(
    ({ policy, status, error }) => `${policy} ${status}: ${error?.code ?? ''} ${error?.message ?? ''}`,
  )
  throw new RetentionError('DATABASE_FAILED', text.join('; '))
}

/** Writes the schedules of all databases into the queue, which calls for their runs; those that are no more are taken out. */
async function keepSchedules(boss: PgBoss, project: ProjectOptions): Promise<number> {
  const wanted = new Set<string>()
  for (const database of await databaseNames(project)) {
    const { policies } = await loadProject({ ...project, ...database }, 'config')
    for (const { schedule, policies: names } of groupsOf(policies)) {
      const asked: QueuedRun = { ...database, policies: names }
      const key = createHash('sha256')
        .update(keyOf(asked) + schedule.cron + schedule.timezone)
        .digest('hex')
        .slice(0, 32)
      wanted.add(key)
      const options = { tz: schedule.timezone, key, missed: 'once', singletonKey: keyOf(asked) } as const
      await boss.schedule(queueName, schedule.cron, asked, options)
    }
  }
  for (const { key } of await boss.getSchedules(queueName)) if (!wanted.has(key)) await boss.unschedule(queueName, key)
  return wanted.size
}

/** Each database as an option; one without a name where there is one alone. */
async function databaseNames({ database, ...project }: ProjectOptions): Promise<Pick<QueuedRun, 'database'>[]> {
  if (database !== undefined) return [{ database }]
  const databases = await loadDatabases(project)
  return databases === undefined ? [{}] : databases.names.map((name) => ({ database: name }))
}

/**
 * Puts runs into the queue now, one for each database.
 * @throws RetentionError as `openQueue`; `POLICY_UNKNOWN`
 */
export async function enqueue(options: ProjectOptions & { policies?: readonly string[] } = {}): Promise<EnqueueReport> {
  const { policies = [], ...project } = options
  const [queued, already]: [QueuedRun[], QueuedRun[]] = [[], []]
  const names = await databaseNames(project)
  for (const database of names) selectPolicies((await loadProject({ ...project, ...database })).policies, policies)
  const boss = await openQueue(project, 'other', () => {})
  try {
    for (const database of names) {
      const asked: QueuedRun = { ...database, ...(policies.length === 0 ? {} : { policies }) }
      const id = await boss.send(queueName, asked, { singletonKey: keyOf(asked) })
      if (id === null) already.push(asked)
      else queued.push(asked)
    }
    return { queued, already }
  } finally {
    await boss.stop({ graceful: false })
  }
}

/** How many runs wait, are at work, and have failed too often. @throws RetentionError as `openQueue` */
export async function queueStatus(options: ProjectOptions = {}): Promise<QueueCounts> {
  const boss = await openQueue(options, 'other', () => {})
  try {
    return await countsOf(boss)
  } finally {
    await boss.stop({ graceful: false })
  }
}
