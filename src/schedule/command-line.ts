/** What other schedulers run, and what it is called there. */
import type { ScheduleGroup } from './times.ts'

/** The command that applies policies, from the project's folder. */
export function command(policies: readonly string[]): string {
  return ['node_modules/.bin/retention', ...applyArguments(policies).map(quoted)].join(' ')
}

/** The arguments of the command that applies policies. */
export function applyArguments(policies: readonly string[]): string[] {
  return ['apply', '--quiet', ...policies]
}

/** A word of a shell, or of systemd. A policy's name has letters, digits, "_", "-" and ".", and does not start with "-". */
export function quoted(word: string): string {
  return /^[\w.-]+$/.test(word) ? word : `'${word}'`
}

/** The name of one of several jobs. */
export function named(all: readonly unknown[], index: number): string {
  return all.length === 1 ? 'retention' : `retention-${index + 1}`
}

/** A comment where a schedule has jitter that the scheduler does not know; else nothing. */
export function jitterNote(groups: readonly ScheduleGroup[], scheduler: string): string[] {
  return groups.some(({ schedule }) => schedule.jitter > 0) ? [`# ${scheduler} knows no jitter: it is left out.`] : []
}
