/** What a notice says: a run's report as a subject and a text. */
import type { ApplyReport, PolicyReport } from '../report.ts'

export interface Message {
  readonly subject: string
  readonly text: string
}

/** How a policy ends that did all it was to do. */
export const good: ReadonlySet<string> = new Set(['applied', 'nothing-due'])

const most = 20

export function compose({ run, policies }: ApplyReport): Message {
  const rows = policies.reduce((sum, { archived }) => sum + archived, 0)
  const failed = policies.filter(({ status }) => !good.has(status)).length
  const subject =
    failed > 0
      ? `Retention: ${failed} of ${policies.length} policies did not finish`
      : `Retention: ${number(rows)} rows archived`
  const lines = policies.slice(0, most).map(line)
  if (policies.length > most) lines.push(`and ${policies.length - most} more`)
  return { subject, text: [`Run ${run}`, ...lines].join('\n') }
}

function line({ policy, status, archived, remaining, error }: PolicyReport): string {
  const left = remaining > 0 ? `, ${number(remaining)} due rows left` : ''
  const why = error === undefined ? '' : `\n  ${error.message}${error.hint === undefined ? '' : `\n  ${error.hint}`}`
  return `${policy}: ${status}, ${number(archived)} rows archived${left}${why}`
}

function number(value: number): string {
  return value.toLocaleString('en')
}
