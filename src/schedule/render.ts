/** A blueprint of Render for people who schedule there: a cron job for each line of cron. */
import { applyArguments, jitterNote, named, quoted } from './command-line.ts'
import type { ScheduleGroup } from './times.ts'
import { utcSchedule } from './utc.ts'

/**
 * The blueprint, for `render.yaml`, and what is to be known of its times.
 * @throws RetentionError `USAGE` where Render cannot say a schedule
 */
export function renderBlueprint(groups: readonly ScheduleGroup[], now: Date): { text: string; warnings: string[] } {
  const schedules = groups.map((group) => ({ policies: group.policies, ...utcSchedule(group, now) }))
  const jobs = schedules.flatMap(({ policies, lines }) => lines.map((line) => ({ policies, line })))
  const warnings = [...new Set(schedules.flatMap(({ warning }) => warning ?? []))]
  const head = [
    '# Put it into render.yaml; Render asks for DATABASE_URL when the blueprint is made.',
    "# A cron job's disk is gone after the run: archives go to S3 or Google Drive.",
    ...jitterNote(groups, 'Render'),
    ...warnings.map((warning) => `# ${warning}.`),
  ]
  const services = jobs.map(({ policies, line }, index) => {
    const words = applyArguments(policies).map(quoted).join(' ')
    return `  - type: cron
    name: ${named(jobs, index)}
    runtime: node
    schedule: "${line}"
    buildCommand: npm ci
    startCommand: npx retention ${words}
    envVars:
      - key: DATABASE_URL
        sync: false
`
  })
  return { text: `${head.join('\n')}\nservices:\n${services.join('')}`, warnings }
}
