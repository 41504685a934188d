/** The loop that starts policies at their times. */
import { delayOf, groupsOf, isMissed, nextTimes, type ScheduleGroup } from './times.ts'
import type { Policy } from '../config/policy.ts'

/** What the loop goes by. */
export interface SchedulerOptions {
  readonly policies: readonly Pick<Policy, 'name' | 'schedule'>[]
  /** Runs policies; the next ones start when it has ended. */
  readonly start: (policies: readonly string[]) => Promise<void>
  /** When a policy last began a run; null: never. Read once, for times that were missed while nothing ran here. */
  readonly lastRunOf: (policy: string) => Date | null
  /** Is told why a start failed; the loop goes on. */
  readonly onError: (error: unknown) => void
  /** Is told which policies come next, and when, each time that this has changed. */
  readonly onNext?: (time: Date, policies: readonly string[]) => void
  /** What tells this machine from others of the fleet, for the jitter. */
  readonly machine: string
  readonly clock?: SchedulerClock
}

/** The time, and a way to be woken. */
export interface SchedulerClock {
  readonly now: () => Date
  /** Calls back after so many milliseconds; returns what cancels it. */
  readonly wake: (callback: () => void, milliseconds: number) => () => void
}

/** The loop, running. */
export interface Scheduler {
  /** Starts nothing any more; resolves when a run that goes on has ended. */
  readonly stop: () => Promise<void>
}

interface Waiting extends ScheduleGroup {
  /** Times up to this one have been seen to. */
  after: Date
  /** Policies that a time has come for. */
  due: readonly string[]
}

/** A clock may jump and a machine may sleep: never trust a longer wait. */
const longestWait = 60_000
/** A clock that is set back by less repeats no time; by more, the earlier reading was wrong. */
const setBack = 60 * 60 * 1000

/** Starts policies at their times, one run after another, until it is stopped. */
export function startScheduler(options: SchedulerOptions): Scheduler {
  const { start, onError, machine, clock = systemClock } = options
  const begin = clock.now()
  const groups: Waiting[] = groupsOf(options.policies).map((group) => ({
    ...group,
    after: begin,
    due: group.policies.filter((policy) => isMissed(group.schedule, options.lastRunOf(policy), begin)),
  }))
  let stopped = false
  let running: Promise<void> | undefined
  let told: number | undefined
  let cancel = (): void => {}

  function tick(): void {
    if (stopped) return
    const now = clock.now()
    for (const group of groups) see(group, now, machine)
    running ??= startDue()
    const next = tellNext()
    cancel = clock.wake(tick, Math.max(1, Math.min(longestWait, next - now.getTime())))
  }

  /** The next time, in milliseconds. */
  function tellNext(): number {
    const coming = groups.map((group) => ({ group, time: comingOf(group, machine)?.getTime() ?? Infinity }))
    const next = Math.min(...coming.map(({ time }) => time))
    if (next !== told && next !== Infinity) {
      const policies = coming.filter(({ time }) => time === next).flatMap(({ group }) => group.policies)
      options.onNext?.(new Date(next), policies)
    }
    told = next
    return next
  }

  function startDue(): Promise<void> | undefined {
    const due = [...new Set(groups.flatMap((group) => group.due))]
    if (due.length === 0 || stopped) return undefined
    for (const group of groups) group.due = []
    return Promise.resolve()
      .then(() => start(due))
      .catch(onError)
      .then(() => {
        // What came meanwhile runs once, now.
        running = startDue()
        return running
      })
  }

  if (groups.length > 0) tick()
  return {
    stop: async () => {
      stopped = true
      cancel()
      await running
    },
  }
}

/** Marks a group as due when its time has come: several that went by are one. */
function see(group: Waiting, now: Date, machine: string): void {
  if (now.getTime() < group.after.getTime() - setBack) group.after = now
  const coming = comingOf(group, machine)
  if (coming === undefined || coming > now) return
  group.due = group.policies
  group.after = now
}

function comingOf({ schedule, after }: Waiting, machine: string): Date | undefined {
  const delay = delayOf(schedule, machine)
  // A time may have come whose delay has not passed.
  const [time] = nextTimes(schedule, new Date(after.getTime() - delay), 1)
  return time === undefined ? undefined : new Date(time.getTime() + delay)
}

/** The machine's clock. */
export const systemClock: SchedulerClock = {
  now: () => new Date(),
  wake: (callback, milliseconds) => {
    const timer = setTimeout(callback, milliseconds)
    return () => clearTimeout(timer)
  },
}
