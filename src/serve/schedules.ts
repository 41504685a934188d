/** Policies that run at their times in a service, as its own runs: one at a time with those that are asked for. */
import { hostname } from 'node:os'

import type { Policy } from '../config/policy.ts'
import type { ProjectOptions } from '../config/project.ts'
import { messageOf, RetentionError } from '../errors.ts'
import { startScheduler, systemClock, type Scheduler, type SchedulerClock } from '../schedule/scheduler.ts'
import { status } from '../status.ts'
import type { Runs } from './runs.ts'

/** What runs by itself, and where. */
export interface SchedulesOptions {
  readonly project: ProjectOptions
  /** With their schedules: those of the moment when the service starts. */
  readonly policies: readonly Policy[]
  readonly runs: Runs
  /** Is told what happens, a line each. */
  readonly say: (text: string) => void
  /** Default: the machine's. */
  readonly clock?: SchedulerClock
}

/** How long a database that cannot be read is left alone. */
const retryAfter = 60_000

/**
 * Starts the schedules; times that were missed since a policy's last run are made up for once.
 * Until the ledger can be read nothing runs, and what comes meanwhile counts as missed.
 */
export function startSchedules({ project, policies, runs, say, clock = systemClock }: SchedulesOptions): Scheduler {
  const scheduled = policies.filter(({ schedule }) => schedule !== undefined)
  const began = clock.now()
  const names = scheduled.map(({ name }) => name)
  let stopped = false
  let scheduler: Scheduler | undefined
  let cancel = (): void => {}

  async function begin(): Promise<void> {
    const lastRuns = await lastRunsOf(project, names).catch((error: unknown) => {
      say(`The schedule waits for the ledger, and tries again in a minute: ${told(error)}`)
    })
    if (stopped) return
    if (lastRuns === undefined) {
      cancel = clock.wake(() => void (beginning = begin()), retryAfter)
      return
    }
    scheduler = startScheduler({
      policies: scheduled,
      start: async (due) => run(due, runs, say),
      lastRunOf: (name) => lastRuns.get(name) ?? began,
      onError: (error) => say(`A scheduled run could not begin: ${told(error)}`),
      onNext: (time, next) => say(`Next scheduled run: ${time.toISOString()}, of ${next.join(', ')}`),
      machine: hostname(),
      clock,
    })
  }

  let beginning = scheduled.length === 0 ? Promise.resolve() : begin()
  return {
    stop: async () => {
      stopped = true
      cancel()
      await beginning
      await scheduler?.stop()
    },
  }
}

/** When policies last began a run, by anyone. */
async function lastRunsOf(project: ProjectOptions, policies: readonly string[]): Promise<ReadonlyMap<string, Date>> {
  const { policies: standings } = await status({ ...project, policies })
  return new Map(
    standings.flatMap(({ policy, lastRun }) => (lastRun === null ? [] : [[policy, new Date(lastRun.startedAt)]])),
  )
}

/** Runs policies, after the run that goes on, and waits for the end. */
async function run(policies: readonly string[], runs: Runs, say: (text: string) => void): Promise<void> {
  for (;;) {
    const started = await runs.start(policies)
    if ('stopping' in started) return
    if ('run' in started) {
      say(`Scheduled run ${started.run} begins: ${policies.join(', ')}`)
      await runs.ended()
      const view = runs.view(started.run)
      say(`Scheduled run ${started.run} has ${view?.state ?? 'ended'}${view?.error ? `: ${view.error.message}` : ''}`)
      return
    }
    await runs.ended()
  }
}

function told(error: unknown): string {
  const hint = error instanceof RetentionError && error.hint !== undefined ? ` ${error.hint}` : ''
  return `${messageOf(error)}${hint}`
}
