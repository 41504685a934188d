/** What verify found, for people. */
import type { Repair, Unopened, VerifyReport } from '../report.ts'
import { counted, indent, size, style } from './style.ts'

export function printVerify({ checked, rows, bytes, findings, unopened, inProgress, repairs }: VerifyReport): string {
  const good = findings.length === 0
  const sum = `${counted(checked, 'archive')} checked, ${counted(rows, 'row')}, ${size(bytes)}`
  const lines = [
    `${good ? style('green', '✔') : style('red', '✖')} ${sum}${good ? ': all is as the ledger says' : `: ${counted(findings.length, 'file')} not as the ledger says`}`,
    ...findings.map(({ kind, location, text }) =>
      indent(`${style('red', kind.padEnd(7))} ${location}\n        ${style('dim', text)}`),
    ),
    ...unopenedLines(unopened),
    ...repairs.map((repair) =>
      indent(`${repairWord(repair)} ${repair.location}\n        ${style('dim', repair.text)}`),
    ),
    ...(repairs.some(({ action, done, asks }) => action !== 'leave' && !done && !asks)
      ? [style('dim', 'Nothing has been changed. "retention verify --repair --yes" does what is safe.')]
      : []),
    ...inProgress.map((location) =>
      indent(`${style('dim', 'running')} ${location}\n        ${style('dim', 'a run is at work on it')}`),
    ),
  ]
  return `${lines.join('\n')}\n`
}

/** One line for all that have the same reason: a missing key is missing for every archive. */
function unopenedLines(unopened: readonly Unopened[]): string[] {
  return [...Map.groupBy(unopened, ({ text }) => text)].map(([text, files]) =>
    indent(
      `${style('yellow', 'sealed ')} ${counted(files.length, 'file')} not opened: the stored bytes are as the ledger says, and nobody has looked at the rows\n        ${style('dim', text)}`,
    ),
  )
}

function repairWord({ action, done, asks }: Repair): string {
  if (action === 'leave') return style('yellow', 'left   ')
  if (action === 'remove') return done ? style('green', 'removed') : style('cyan', 'remove ')
  if (action === 'forget') return done ? style('green', 'forgotten') : style('cyan', 'forget?')
  if (action === 'adopt') return done ? style('green', 'adopted') : style('cyan', asks ? 'adopt? ' : 'adopt  ')
  return done ? style('green', 'set aside') : style('cyan', 'set aside?')
}
