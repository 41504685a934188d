/** What move did, for people. */
import type { MovedArchiveReport, MoveReport } from '../report.ts'
import { errorLines } from './policy.ts'
import { counted, indent, size, style, warnings } from './style.ts'

export function printMove(report: MoveReport): string {
  const { policy, to, dryRun, moved, bytes, there, archives, removed, left } = report
  const failed = archives.filter(({ error }) => error !== undefined)
  const mark =
    left.length > 0 || failed.length > 0 ? style('red', '✖') : dryRun ? style('cyan', '→') : style('green', '✔')
  const from = folders(archives.filter((archive) => archive.moved))
  const what =
    moved === 0
      ? `nothing ${dryRun ? 'to move' : 'was moved'} to ${to}`
      : `${counted(moved, 'archive')}, ${size(bytes)}, ${dryRun ? 'would be moved' : 'moved'} from ${from.join(' and ')} to ${to}`
  const beside = there > 0 ? `; ${counted(there, 'archive')} ${there === 1 ? 'is' : 'are'} there already` : ''
  const lines = [
    `${mark} ${policy}: ${what}${beside}`,
    ...removed.map((location) =>
      indent(`${location} ${dryRun ? 'would be' : 'was'} removed: left by what was cut off`),
    ),
  ]
  const end =
    dryRun && (moved > 0 || removed.length > 0) ? `${style('dim', 'Nothing has been changed. --yes does it.')}\n` : ''
  return `${lines.join('\n')}\n${left.map(errorLines).join('')}${failed.map(printFailed).join('')}${warnings(report.warnings)}${end}`
}

function printFailed({ name, moved, error }: MovedArchiveReport): string {
  return `  ${name}${moved ? ', moved' : ''}\n${error === undefined ? '' : errorLines(error)}`
}

/** Where archives are from, without their names. */
function folders(archives: readonly MovedArchiveReport[]): string[] {
  return [...new Set(archives.map(({ from }) => from.replace(/[/\\][^/\\]*$/, '')))]
}
