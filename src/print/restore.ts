/** What restore did, for people. */
import type { RestoreReport } from '../report.ts'
import { counted, moment, style, warnings } from './style.ts'

export function printRestore(report: RestoreReport): string {
  const { archive, table, rows, restored, conflicts, partitions, dryRun, heldUntil } = report
  const verb = dryRun ? 'would be restored' : 'restored'
  const skipped = rows - restored
  const aside = [
    skipped > 0 ? `${counted(skipped, 'row')} skipped, whose key is in the table already` : '',
    conflicts > 0 && skipped === 0 ? `${counted(conflicts, 'row')} of the table overwritten` : '',
  ].filter((text) => text !== '')
  const lines = [
    `${style(dryRun ? 'cyan' : 'green', dryRun ? '→' : '✔')} ${archive}: ${counted(restored, 'row')} ${verb} into ${table}, byte for byte`,
    ...partitions.map((name) => `  partition ${name} ${dryRun ? 'would be made' : 'made'} again`),
    ...aside.map((text) => `  ${text}`),
    ...(heldUntil === null
      ? []
      : [
          `  ${style('dim', `apply leaves them alone ${heldUntil === 'forever' ? 'for ever' : `until ${moment(heldUntil)}`}`)}`,
        ]),
  ]
  return `${lines.join('\n')}\n${warnings(report.warnings)}`
}
