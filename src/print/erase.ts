/** What erase did, for people. */
import type { ErasedArchiveReport, EraseReport } from '../report.ts'
import { heldLine } from './hold.ts'
import { errorLines } from './policy.ts'
import { counted, indent, number, style, warnings } from './style.ts'

export function printErase(report: EraseReport): string {
  const { policy, table, dryRun, checked, archives, erased, held, live, removed, left } = report
  const isWhole = left.length === 0 && archives.every(({ error }) => error === undefined)
  const mark = !isWhole ? style('red', '✖') : dryRun ? style('cyan', '→') : style('green', '✔')
  const verb = dryRun ? 'would be erased' : 'erased'
  const touched = archives.filter((archive) => archive.erased > 0).length
  const lines = [
    `${mark} ${policy}: ${counted(erased, 'row')} ${verb} from ${counted(touched, 'archive')}, of ${number(checked)} looked at${held > 0 ? `; ${counted(held, 'row')} held` : ''}`,
    ...removed.map((location) => indent(`${location} ${dryRun ? 'would be' : 'was'} removed: an erasure was cut off`)),
    ...(live === null || live === 0
      ? []
      : [
          indent(
            `${style('yellow', '!')} ${counted(live, 'matching row')} in the table ${table} itself, which erase does not touch`,
          ),
        ]),
  ]
  const end =
    dryRun && (erased > 0 || removed.length > 0)
      ? `${style('dim', 'Nothing has been changed. --yes does it; what is erased cannot be restored.')}\n`
      : ''
  return `${lines.join('\n')}\n${left.map(errorLines).join('')}${archives.map((archive) => printArchive(archive, report)).join('')}${warnings(report.warnings)}${end}`
}

function printArchive(archive: ErasedArchiveReport, { dryRun }: EraseReport): string {
  const { name, after, erased, files, holds, error } = archive
  const next = after === null ? (erased > 0 && !dryRun ? ' → nothing is left of it' : '') : ` → ${after}`
  const lines = files
    .filter((file) => file.erased + file.held > 0)
    .map((file) => {
      const held = file.held > 0 ? `, ${number(file.held)} held` : ''
      const of = `${number(file.erased)} of ${counted(file.rows, file.references ? 'reference' : 'row')}${held}`
      return `    ${of}${files.length > 1 ? ` of ${file.table}` : ''}\n`
    })
  return `  ${name}${next}\n${lines.join('')}${heldLine(holds)}${error === undefined ? '' : errorLines(error)}`
}
