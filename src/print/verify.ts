/** What verify found, for people. */
import type { VerifyReport } from '../report.ts'
import { counted, indent, size, style } from './style.ts'

export function printVerify({ checked, rows, bytes, findings, inProgress }: VerifyReport): string {
  const good = findings.length === 0
  const sum = `${counted(checked, 'archive')} checked, ${counted(rows, 'row')}, ${size(bytes)}`
  const lines = [
    `${good ? style('green', '✔') : style('red', '✖')} ${sum}${good ? ': all is as the ledger says' : `: ${counted(findings.length, 'file')} not as the ledger says`}`,
    ...findings.map(({ kind, location, text }) =>
      indent(`${style('red', kind.padEnd(7))} ${location}\n        ${style('dim', text)}`),
    ),
    ...inProgress.map((location) =>
      indent(`${style('dim', 'running')} ${location}\n        ${style('dim', 'a run is at work on it')}`),
    ),
  ]
  return `${lines.join('\n')}\n`
}
