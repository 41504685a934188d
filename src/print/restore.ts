/** What restore did, for people. */
import type { RestoreReport } from '../report.ts'
import type { ColumnChange } from '../reshape.ts'
import { counted, moment, number, style, warnings } from './style.ts'

export function printRestore(report: RestoreReport): string {
  const { archive, table, rows, selected, restored, conflicts, partitions, dryRun, heldUntil, redacted } = report
  const verb = dryRun ? 'would be restored' : 'restored'
  const skipped = selected - restored
  const changes = report.columns.flatMap((column) => changeText(column))
  const isExact = report.columns.every(({ change }) => ['kept', 'default', 'generated'].includes(change))
  const part = selected < rows ? ` of ${number(rows)}` : ''
  const aside = [
    skipped > 0 && redacted === undefined
      ? `${counted(skipped, 'row')} skipped, whose key is in the table already`
      : '',
    conflicts > 0 && skipped === 0 ? `${counted(conflicts, 'row')} of the table overwritten` : '',
  ].filter((text) => text !== '')
  const into = redacted === undefined ? `into ${table}` : `in ${table}: ${redacted.join(', ')}`
  const lines = [
    `${style(dryRun ? 'cyan' : 'green', dryRun ? '→' : '✔')} ${archive}: ${counted(restored, 'row')}${part} ${verb} ${into}${isExact ? ', byte for byte' : ''}`,
    ...partitions.map((name) => `  partition ${name} ${dryRun ? 'would be made' : 'made'} again`),
    ...changes.map((text) => `  ${text}`),
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

/** How a column differs, at a glance; nothing where it does not. */
function changeText({ archive, table, change, from, to }: ColumnChange): string[] {
  switch (change) {
    case 'kept':
      return archive === table ? [] : [`${style('yellow', '~')} ${archive} → ${table}`]
    case 'converted':
      return [
        `${style('yellow', '~')} ${archive === table ? archive : `${archive} → ${table}`}: ${from || 'no type'} → ${to || 'no type'}`,
      ]
    case 'dropped':
      return [`${style('red', '-')} ${archive}: stays in the archive`]
    case 'default':
      return [`${style('green', '+')} ${table}: its default`]
    case 'set':
      return [`${style('green', '+')} ${table}: as set`]
    case 'generated':
      return []
  }
}
