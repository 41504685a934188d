/** What apply would do, for people. */
import type { ApplyReport, PolicyReport } from '../report.ts'
import { alongText } from './children.ts'
import { folderOf, printPolicy } from './policy.ts'
import { counted, size, style } from './style.ts'

export function printPlan(report: ApplyReport): string {
  const steps = report.policies.reduce((sum, { archives }) => sum + archives.length, 0)
  const end = steps === 0 ? '' : `\n${style('dim', 'Nothing has been changed. "retention apply" does it.')}\n`
  const unplanned = (report.unplanned ?? []).map(
    ({ policy, reason }) => `\n${style('bold', policy)}  ${style('yellow', reason)}\n`,
  )
  return `${report.policies.map((policy) => printPolicy(policy, result(policy))).join('\n')}${unplanned.join('')}${end}`
}

function result(policy: PolicyReport): string {
  const { status, due, archives, held, undated } = policy
  if (status === 'refused' || status === 'failed')
    return `${style('red', '✖')} ${status}${due === 0 ? '' : `; ${counted(due, 'row')} due`}`
  const rows = archives.reduce((sum, archive) => sum + archive.rows, 0)
  const bytes = archives.reduce((sum, archive) => sum + archive.bytes, 0)
  const aside = [
    held > 0 ? `${counted(held, 'row')} held` : '',
    undated > 0 ? `${counted(undated, 'row')} undated` : '',
  ].filter((text) => text !== '')
  const tail = aside.length === 0 ? '' : style('dim', ` (${aside.join(', ')})`)
  if (due === 0) return `${style('green', '✔')} nothing due${tail}`
  const part = rows === due ? '' : `; this run would take ${counted(rows, 'row')}`
  return `${style('cyan', '→')} ${counted(due, 'row')} due${policy.action === 'redact' ? ' to be redacted' : ''}${part}${alongText(policy)}, ${counted(archives.length, 'archive')}, about ${size(bytes)}${folderOf(archives)}${tail}`
}
