/** `schedule print`: a schedule's file for another scheduler. */
import { loadProject, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { RetentionError } from '../errors.ts'
import { crontab } from './crontab.ts'
import { groupsOf } from './times.ts'

/** What `schedule print` can be told. */
export interface SchedulePrintOptions extends ProjectOptions {
  /** Whose file it is. */
  kind: 'cron'
  /** The policies, by name. Default: all that have a schedule. */
  policies?: readonly string[]
}

/** A file for another scheduler. */
export interface SchedulePrintReport {
  readonly kind: 'cron'
  readonly text: string
}

/**
 * Writes what another scheduler needs to run policies at their times. Opens no database.
 * @throws RetentionError `CONFIG_INVALID`; `USAGE` where nothing has a schedule, or the scheduler cannot say one
 */
export async function schedulePrint(options: SchedulePrintOptions): Promise<SchedulePrintReport> {
  const { kind } = options
  if (kind !== 'cron') throw new RetentionError('USAGE', `"kind" is ${JSON.stringify(kind)}; allowed: "cron"`)
  const { policies } = await loadProject(options)
  const groups = groupsOf(selectPolicies(policies, options.policies ?? []))
  if (groups.length === 0) {
    throw new RetentionError('USAGE', 'No policy has a schedule', {
      hint: "Set schedule: '0 9 * * MON' in the config or in a policy.",
    })
  }
  return { kind, text: crontab(groups) }
}
