/** How policies stand, for people. */
import type { LedgerEntry } from '../ledger/ledger.ts'
import type { PolicyStanding, StatusReport } from '../report.ts'
import { holdLine } from './hold.ts'
import { errorLines } from './policy.ts'
import { counted, day, indent, moment, number, size, style, table, warnings } from './style.ts'

export function printStatus({ policies, archives }: StatusReport, withArchives: boolean): string {
  const overview = table(
    ['policy', 'cutoff', 'due', 'undated', 'oldest', 'archived', 'last applied'],
    policies.map((policy) => [
      style('bold', policy.policy),
      day(policy.cutoff),
      dueText(policy),
      number(policy.undated),
      policy.oldest === null ? '–' : moment(policy.oldest),
      policy.archives === 0 ? '–' : `${counted(policy.archived, 'row')}, ${size(policy.archivedBytes)}`,
      policy.lastAppliedAt === null ? 'never' : moment(policy.lastAppliedAt),
    ]),
    ['due', 'undated'],
  )
  const details = policies.map(printDetails).join('')
  return `${overview}\n${details}${strangersLine(policies, archives)}${withArchives ? `\n${printArchives(archives)}` : ''}`
}

/** A policy that was removed is in no line of the table; its archives are there all the same. */
function strangersLine(policies: readonly PolicyStanding[], archives: readonly LedgerEntry[]): string {
  const known = new Set(policies.map(({ policy }) => policy))
  const strangers = archives.filter(({ policy, state }) => state !== 'pruned' && !known.has(policy))
  if (strangers.length === 0) return ''
  const names = [...new Set(strangers.map(({ policy }) => policy))].join(', ')
  return `${style('dim', `${counted(strangers.length, 'archive')} of policies that are no more: ${names}`)}\n`
}

function dueText({ due, overdue, error }: PolicyStanding): string {
  if (error !== undefined) return style('red', '✖')
  if (overdue) return style('red', `${number(due)} overdue`)
  return due > 0 ? style('yellow', number(due)) : style('green', '0')
}

function printDetails(policy: PolicyStanding): string {
  const notes = [
    ...(policy.changed
      ? [{ level: 'warning' as const, text: `Policy "${policy.policy}" has changed since it last archived something` }]
      : []),
    ...policy.warnings,
    ...policy.holds.map((hold) => ({
      level: 'warning' as const,
      text: holdLine(hold),
    })),
  ]
  const text = `${nextRunLine(policy)}${expiryLine(policy)}${policy.error === undefined ? '' : errorLines(policy.error)}${warnings(notes)}`
  return text === '' ? '' : `\n${style('bold', policy.policy)}\n${text}`
}

function nextRunLine({ nextRunAt }: PolicyStanding): string {
  return nextRunAt === null ? '' : `${indent(style('dim', `scheduled next for ${moment(nextRunAt)} UTC`))}\n`
}

/** How old archives become, and which are older; nothing where they are kept for ever. */
function expiryLine({ expireAfter, expired, nextExpiry }: PolicyStanding): string {
  if (expireAfter === null) return ''
  const next = nextExpiry === null ? '' : `; the next expires ${day(nextExpiry)}`
  const line =
    expired === 0
      ? style('dim', `archives are kept for ${expireAfter}${next}`)
      : `${style('yellow', '!')} ${counted(expired, 'archive')} older than ${expireAfter}, for "retention prune"${next}`
  return `${indent(line)}\n`
}

function printArchives(archives: readonly LedgerEntry[]): string {
  if (archives.length === 0) return 'The ledger has no archives yet.\n'
  return `${table(
    ['archive', 'state', 'rows', 'size', 'from', 'to', 'archived at'],
    archives.map((archive) => [
      archive.name,
      archive.state === 'archived' ? archive.state : style('dim', archive.state),
      number(archive.rows),
      size(archive.bytes),
      moment(archive.from),
      moment(archive.to),
      moment(archive.archivedAt),
    ]),
    ['rows', 'size'],
  )}\n`
}
