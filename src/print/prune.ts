/** What prune did, for people. */
import type { PrunedArchiveReport, PrunedPolicyReport, PruneReport } from '../report.ts'
import { keptBy } from './hold.ts'
import { errorLines } from './policy.ts'
import { counted, day, indent, size, style, warnings } from './style.ts'

export function printPrune({ dryRun, policies, warnings: findings }: PruneReport): string {
  const does = policies.some(({ pruned, removed }) => pruned > 0 || removed.length > 0)
  const end =
    dryRun && does
      ? `${style('dim', 'Nothing has been changed. --yes does it; what is pruned cannot be restored.')}\n`
      : ''
  return `${policies.map((policy) => printPolicy(policy, dryRun)).join('')}${warnings(findings)}${end}`
}

function printPolicy(report: PrunedPolicyReport, dryRun: boolean): string {
  const { policy, expireAfter, nextExpiry, archives, pruned, bytes, removed, left, error } = report
  if (error !== undefined) return `${style('red', '✖')} ${policy}\n${errorLines(error)}`
  const isWhole = left.length === 0 && archives.every((archive) => archive.error === undefined)
  const mark = !isWhole ? style('red', '✖') : dryRun ? style('cyan', '→') : style('green', '✔')
  const verb = dryRun ? 'would be pruned' : 'pruned'
  const kept = archives.length - pruned
  const what =
    archives.length === 0
      ? `no archive has outlived its ${expireAfter}`
      : `${counted(pruned, 'archive')}, ${size(bytes)}, ${verb} after ${expireAfter}${kept > 0 ? `; ${counted(kept, 'archive')} kept` : ''}`
  const next = nextExpiry === null ? '' : `; the next expires ${day(nextExpiry)}`
  const lines = [
    `${mark} ${policy}: ${expireAfter === null ? 'archives never expire' : `${what}${next}`}`,
    ...removed.map((location) =>
      indent(`${location} ${dryRun ? 'would be' : 'was'} removed: left by what was cut off`),
    ),
  ]
  return `${lines.join('\n')}\n${left.map(errorLines).join('')}${archives.map(printArchive).join('')}`
}

function printArchive({ name, archivedAt, gone, holds, error }: PrunedArchiveReport): string {
  const was = gone ? ', and was gone already' : ''
  return `  ${name}, of ${archivedAt.slice(0, 10)}${was}\n${keptBy(holds)}${error === undefined ? '' : errorLines(error)}`
}
