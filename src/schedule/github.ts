/** A workflow of GitHub Actions for people who schedule there: a job for each schedule. */
import { applyArguments, jitterNote, named, quoted } from './command-line.ts'
import type { ScheduleGroup } from './times.ts'
import { utcSchedule } from './utc.ts'

/**
 * The workflow, for a file in `.github/workflows`, and what is to be known of its times.
 * @throws RetentionError `USAGE` where GitHub cannot say a schedule
 */
export function githubWorkflow(groups: readonly ScheduleGroup[], now: Date): { text: string; warnings: string[] } {
  const jobs = groups.map((group, index) => ({ group, name: named(groups, index), ...utcSchedule(group, now) }))
  const warnings = [...new Set(jobs.flatMap(({ warning }) => warning ?? []))]
  const text = `# Save it as .github/workflows/retention.yml on the default branch, and set the secret DATABASE_URL.
# GitHub may start it late, and leaves out a schedule of a public repository in which nothing happens for 60 days.
# The runner's disk is gone after the run: archives go to S3 or Google Drive.
${[...jitterNote(groups, 'GitHub'), ...warnings.map((warning) => `# ${warning}.`)].map((line) => `${line}\n`).join('')}name: retention
on:
  schedule:
${[...new Set(jobs.flatMap(({ lines }) => lines))].map((line) => `    - cron: "${line}"`).join('\n')}
  workflow_dispatch:
permissions:
  contents: read
jobs:
${jobs.map(({ group, name, lines }) => job(name, group, lines)).join('')}`
  return { text, warnings }
}

function job(name: string, { policies }: ScheduleGroup, lines: readonly string[]): string {
  const times = lines.map((line) => `github.event.schedule == '${line}'`).join(' || ')
  return `  ${name}:
    if: github.event_name == 'workflow_dispatch' || ${times}
    runs-on: ubuntu-latest
    concurrency:
      group: ${name}
      cancel-in-progress: false
    steps:
      - uses: actions/checkout@v4
        with:
          persist-credentials: false
      - uses: actions/setup-node@v4
        with:
          node-version: 24
      - run: npm ci
      - run: npx retention ${applyArguments(policies).map(quoted).join(' ')}
        env:
          DATABASE_URL: \${{ secrets.DATABASE_URL }}
`
}
