/** What apply did, for people. */
import type { ApplyReport, PolicyReport } from '../report.ts'
import { alongText } from './children.ts'
import { folderOf, printPolicy } from './policy.ts'
import { counted, seconds, size, style } from './style.ts'

export function printApply(report: ApplyReport): string {
  const unsent = (report.notices ?? []).filter(({ sent }) => !sent)
  return [
    ...report.policies.map((policy) => printPolicy(policy, result(policy))),
    ...unsent.map(({ to, error }) => `${style('yellow', '!')} notice to ${to} not sent: ${error}`),
  ].join('\n')
}

function result(policy: PolicyReport): string {
  const { archived, archives, remaining, skipped, held, waits } = policy
  const waited = waits.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
  const bytes = archives.reduce((sum, archive) => sum + archive.bytes, 0)
  const done =
    archived === 0
      ? 'nothing archived'
      : `${counted(archived, 'row')} ${policy.action === 'redact' ? 'redacted' : 'archived and deleted'}${alongText(policy)}, ${counted(archives.length, 'archive')}, ${size(bytes)}${folderOf(archives)}`
  const left = [
    remaining > 0 ? `${counted(remaining, 'due row')} left` : '',
    skipped > 0 ? `${counted(skipped, 'row')} skipped: another transaction holds them` : '',
    held > 0 ? `${counted(held, 'row')} held` : '',
    waited > 0 ? `waited ${seconds(waited)} for production` : '',
  ].filter((text) => text !== '')
  const tail = left.length === 0 ? '' : style('dim', ` (${left.join(', ')})`)
  switch (policy.status) {
    case 'applied':
      return `${style('green', '✔')} ${done}${tail}`
    case 'nothing-due':
      return `${style('green', '✔')} nothing due${tail}`
    case 'partial':
      return `${style('yellow', '◐')} stopped early: ${done}${tail}`
    case 'interrupted':
      return `${style('yellow', '◐')} interrupted: ${done}${tail}`
    case 'locked':
      return `${style('yellow', '◌')} not begun`
    case 'refused':
      return `${style('red', '✖')} refused${archived === 0 ? '' : `: ${done}`}${tail}`
    case 'failed':
      return `${style('red', '✖')} failed: ${done}${tail}`
  }
}
