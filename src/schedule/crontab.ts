/** A crontab for people who schedule elsewhere. */
import { RetentionError } from '../errors.ts'
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
  ]
  for (const { schedule, policies } of groups) {
    refuse(schedule.cron, policies)
    if (schedule.jitter > 0) lines.push('# Cron knows no jitter: it is left out of the next line.')
    lines.push(`CRON_TZ=${schedule.timezone}`)
    lines.push(`${schedule.cron} cd /path/to/project && npx retention apply --quiet ${policies.map(quoted).join(' ')}`)
  }
  return `${lines.join('\n')}\n`
}

/** In a shell a name of letters, digits, "_", "-" and "." is a word, unless it starts with "-". */
function quoted(policy: string): string {
  return /^[\w.-]+$/.test(policy) ? policy : `'${policy}'`
}

function refuse(cron: string, policies: readonly string[]): void {
  const reason = unfit(cron)
  if (reason === undefined) return
  throw new RetentionError('USAGE', `crontab cannot say "${cron}" (${policies.join(', ')}): ${reason}`, {
    hint: 'Write another schedule, or run it in "retention serve".',
  })
}

const nicknames = new Set(['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly'])
const part = /^(\*|(\d+|[A-Z]{3})-(\d+|[A-Z]{3}))(\/\d+)?$|^(\d+|[A-Z]{3})$/i

function unfit(cron: string): string | undefined {
  if (cron.startsWith('@')) return nicknames.has(cron.toLowerCase()) ? undefined : 'it does not know that name'
  const fields = cron.split(/\s+/)
  const strange = fields.flatMap((field) => field.split(',')).find((text) => !part.test(text))
  if (strange !== undefined) return `it does not know "${strange}"`
  const [, , day = '*', , weekday = '*'] = fields
  // Where one of the two begins with a star, cron takes days that fit both, and croner days that fit either.
  const mixed = day !== '*' && weekday !== '*' && (day.startsWith('*') || weekday.startsWith('*'))
  return mixed ? 'with "*/n" in one of its day fields, it means other days' : undefined
}
