/** Units of systemd for people who schedule elsewhere: a service and a timer for each schedule. */
import { command, named } from './command-line.ts'
import { fieldsOf, type CronFields } from './fields.ts'
import type { ScheduleGroup } from './times.ts'

const weekdayNames = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']

/**
 * The units, one after another, each under a comment with its file's name.
 * @throws RetentionError `USAGE` where systemd cannot say a schedule
 */
export function systemdUnits(groups: readonly ScheduleGroup[]): string {
  const head = `# Save each part as the file that it names, put the project's path in, and DATABASE_URL=… into /etc/retention.env
# (chmod 600). Then: systemctl daemon-reload && systemctl enable --now ${groups.map((_, index) => `${named(groups, index)}.timer`).join(' ')}
`
  return [head, ...groups.flatMap((group, index) => unitsOf(group, named(groups, index)))].join('\n')
}

/** What a schedule is as `OnCalendar`: all of them together are its times. */
export function calendars(fields: CronFields, timezone: string): string[] {
  const { minutes, hours, days, months, weekdays, isEither } = fields
  const time = `${list(hours, 24)}:${list(minutes, 60)}:00 ${timezone}`
  const date = `*-${list(months, 12)}-${list(days, 31)} ${time}`
  const onDays = `${weekdays.map((number) => weekdayNames[number]).join(',')} `
  if (isEither) return [date, `${onDays}*-${list(months, 12)}-* ${time}`]
  return [weekdays.length === 7 ? date : `${onDays}${date}`]
}

function list(numbers: readonly number[], all: number): string {
  return numbers.length === all ? '*' : numbers.map((number) => String(number).padStart(2, '0')).join(',')
}

function unitsOf(group: ScheduleGroup, name: string): string[] {
  const { schedule, policies } = group
  const delay =
    schedule.jitter === 0 ? '' : `RandomizedDelaySec=${Math.ceil(schedule.jitter / 1000)}s\nFixedRandomDelay=true\n`
  const service = `# /etc/systemd/system/${name}.service
[Unit]
Description=Archive what is past its retention (${policies.join(', ')})
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=retention
WorkingDirectory=/path/to/project
EnvironmentFile=/etc/retention.env
ExecStart=/path/to/project/${command(policies)}
# The running step may end.
TimeoutStopSec=2min
NoNewPrivileges=true
CapabilityBoundingSet=
ProtectSystem=strict
# Where archives and SQLite files are written.
ReadWritePaths=/path/to/project
PrivateTmp=true
PrivateDevices=true
ProtectControlGroups=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=true
RestrictSUIDSGID=true
LockPersonality=true
UMask=0077
`
  const timer = `# /etc/systemd/system/${name}.timer
[Unit]
Description=When ${name}.service runs

[Timer]
# A time that the clock leaves out, when it is put forward, is left out.
${calendars(fieldsOf(group), schedule.timezone)
  .map((calendar) => `OnCalendar=${calendar}`)
  .join('\n')}
# A time that was missed is made up for once.
Persistent=true
${delay}
[Install]
WantedBy=timers.target
`
  return [service, timer]
}
