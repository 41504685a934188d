/** `schedule`: when policies have run, and when they run next. Only reads. */
import { nowOption, loadProject, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { openDatabase } from '../database/open.ts'
import { Ledger } from '../ledger/ledger.ts'
import type { ScheduledPolicy, ScheduleReport } from '../report.ts'
import { nextTimes } from './times.ts'

/** What `schedule` can be told. */
export interface ScheduleOptions extends ProjectOptions {
  /** The policies, by name. Default: all. */
  policies?: readonly string[]
  /** The time after which runs are told. Default: the clock. */
  now?: Date
}

/**
 * Reports when policies have run, and when they are to run next.
 * @throws RetentionError when it cannot begin: a mistake in config or policies, no database, a newer ledger
 */
export async function schedule(options: ScheduleOptions = {}): Promise<ScheduleReport> {
  const now = nowOption(options.now)
  const { config, policies } = await loadProject(options)
  const selected = selectPolicies(policies, options.policies ?? [])
  const database = await openDatabase(config, 'read')
  try {
    const { runs } = await Ledger.forReading(database, config.ledger)
    return await database.read(async (db) => {
      const told: ScheduledPolicy[] = []
      for (const { name, schedule: times, timezone } of selected) {
        const { last } = await runs.summary(db, name)
        const next = times === undefined ? [] : nextTimes(times, now, 3).map((time) => time.toISOString())
        told.push({
          policy: name,
          cron: times?.cron ?? null,
          timezone,
          jitter: times?.jitter ?? 0,
          lastRun: last,
          next,
        })
      }
      return { policies: told }
    })
  } finally {
    await database.close()
  }
}
