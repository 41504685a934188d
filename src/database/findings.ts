/** What follows from findings about a table. */
import { RetentionError } from '../errors.ts'
import type { Finding } from './database.ts'

/** The refusals among some findings as one error, `REFUSED`; undefined where there is none. */
export function refusalOf(findings: readonly Finding[]): RetentionError | undefined {
  const refusals = findings.filter(({ level }) => level === 'refusal')
  if (refusals.length === 0) return undefined
  const hint = refusals.flatMap((refusal) => (refusal.hint === undefined ? [] : [refusal.hint])).join('\n')
  return new RetentionError('REFUSED', refusals.map(({ text }) => text).join('\n'), hint === '' ? {} : { hint })
}

/** The warnings among some findings. */
export function warningsOf(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level === 'warning')
}
