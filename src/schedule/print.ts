/** `schedule print`: a schedule's file for another scheduler. */
import { loadDatabases, loadProject, nowOption, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { RetentionError } from '../errors.ts'
import { crontab } from './crontab.ts'
import { githubWorkflow } from './github.ts'
import { scheduleKinds, type ScheduleKind } from './kinds.ts'
import { kubernetesManifest } from './kubernetes.ts'
import { renderBlueprint } from './render.ts'
import { systemdUnits } from './systemd.ts'
import { groupsOf, type ScheduleGroup } from './times.ts'

/** What `schedule print` can be told. */
export interface SchedulePrintOptions extends ProjectOptions {
  /** Whose file it is. */
  kind: ScheduleKind
  /** The policies, by name. Default: all that have a schedule. */
  policies?: readonly string[]
  /** From when on the clocks of time zones are looked at, for schedulers that know UTC alone. Default: the clock. */
  now?: Date
}

/** A file for another scheduler. */
export interface SchedulePrintReport {
  readonly kind: ScheduleKind
  readonly text: string
  /** Where its times are not those of the schedule all year; they stand in the text as well. */
  readonly warnings: readonly string[]
}

/**
 * Writes what another scheduler needs to run policies at their times. Opens no database.
 * @throws RetentionError `CONFIG_INVALID`; `USAGE` where nothing has a schedule, or the scheduler cannot say one
 */
export async function schedulePrint(options: SchedulePrintOptions): Promise<SchedulePrintReport> {
  const { kind } = options
  const now = nowOption(options.now)
  if (!scheduleKinds.includes(kind)) {
    const allowed = scheduleKinds.map((name) => `"${name}"`).join(', ')
    throw new RetentionError('USAGE', `"kind" is ${JSON.stringify(kind)}; allowed: ${allowed}`)
  }
  if (options.database !== undefined) {
    throw new RetentionError('USAGE', 'What is written runs policies on all databases of the config', {
      hint: 'Leave the database out.',
    })
  }
  // Policies are the same for all of them.
  const [database] = (await loadDatabases(options))?.names ?? []
  const { policies } = await loadProject(database === undefined ? options : { ...options, database })
  const groups = groupsOf(selectPolicies(policies, options.policies ?? []))
  if (groups.length === 0) {
    throw new RetentionError('USAGE', 'No policy has a schedule', {
      hint: "Set schedule: '0 9 * * MON' in the config or in a policy.",
    })
  }
  return { kind, warnings: [], ...written(kind, groups, now) }
}

function written(
  kind: ScheduleKind,
  groups: readonly ScheduleGroup[],
  now: Date,
): { text: string; warnings?: readonly string[] } {
  switch (kind) {
    case 'cron':
      return { text: crontab(groups) }
    case 'systemd':
      return { text: systemdUnits(groups) }
    case 'kubernetes':
      return { text: kubernetesManifest(groups) }
    case 'github':
      return githubWorkflow(groups, now)
    case 'render':
      return renderBlueprint(groups, now)
  }
}
