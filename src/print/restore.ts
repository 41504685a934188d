/** What restore did, for people. */
import type { RestoreReport } from '../report.ts'
import { counted, moment, style, warnings } from './style.ts'

export function printRestore(report: RestoreReport): string {
  const { archive, table, rows, restored, conflicts, dryRun, heldUntil } = report
  const verb = dryRun ? 'would be restored' : 'restored'
  const skipped = rows - restored
  const aside = [
    skipped > 0 ? `${counted(skipped, 'row')} skipped, whose key is in the table already` : '',
    conflicts > 0 && skipped === 0 ? `${counted(conflicts, 'row')} of the table overwritten` : '',
  ].filter((text) => text !== '')
  const lines = [
    `${style(dryRun ? 'cyan' : 'green', dryRun ? '→' : '✔')} ${archive}: ${counted(restored, 'row')} ${verb} into ${table}, byte for byte`,
    ...aside.map((text) => `  ${text}`),
    ...(report.children ?? []).map(({ table: child, restored: came, references }) =>
      references ? `  ${counted(came, 'reference')} of ${child} set again` : `  ${counted(came, 'row')} into ${child}`,
    ),
    ...(heldUntil === null
      ? []
      : [
          `  ${style('dim', `apply leaves them alone ${heldUntil === 'forever' ? 'for ever' : `until ${moment(heldUntil)}`}`)}`,
        ]),
  ]
  return `${lines.join('\n')}\n${warnings(report.warnings)}`
}
