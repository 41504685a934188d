/** A crontab for people who schedule elsewhere. */
import { applyArguments, jitterNote, quoted } from './command-line.ts'
import { cronLine, fieldsOf } from './fields.ts'
import type { ScheduleGroup } from './times.ts'

/**
 * Lines for `crontab -e`: one for each schedule, with its policies.
 * @throws RetentionError `USAGE` where cron cannot say a schedule
 */
export function crontab(groups: readonly ScheduleGroup[]): string {
  const zones = new Set(groups.map(({ schedule }) => schedule.timezone))
  const lines = [
    '# CRON_TZ is known to cronie (Fedora, Red Hat, Arch, SUSE). The cron of Debian and Ubuntu goes by the clock of the',
    `# machine, whatever is written here: there, see that its time zone is ${[...zones].join(' and ')}.`,
    '# Cron has no environment of yours: set DATABASE_URL in a file that only you can read, and load it in the command.',
    ...jitterNote(groups, 'Cron'),
  ]
  for (const group of groups) {
    const words = applyArguments(group.policies).map(quoted).join(' ')
    lines.push(`CRON_TZ=${group.schedule.timezone}`)
    lines.push(`${cronLine(fieldsOf(group))} cd /path/to/project && npx retention ${words}`)
  }
  return `${lines.join('\n')}\n`
}
