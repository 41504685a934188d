/** What plan and apply print alike. */
import path from 'node:path'

import type { ArchiveReport, PolicyReport, ReportedError } from '../report.ts'
import { childLines } from './children.ts'
import { heldLine } from './hold.ts'
import { spaceLines } from './space.ts'
import { day, indent, moment, number, size, style, table, warnings } from './style.ts'

/** A policy's report. @param result what came of it, in one line */
export function printPolicy(policy: PolicyReport, result: string): string {
  return [
    `${heading(policy)}\n`,
    `${indent(result)}\n`,
    childLines(policy),
    heldLine(policy.holds),
    policy.archives.length === 0 ? '' : `${archivesTable(policy.archives)}\n`,
    spaceLines(policy.space),
    policy.error === undefined ? '' : errorLines(policy.error),
    warnings(policy.warnings),
  ].join('')
}

/** `policy  rows of table before cutoff`. */
function heading({ policy, table: name, cutoff, redacts }: PolicyReport): string {
  const what = redacts === undefined ? '' : `redact ${redacts.join(', ')} in `
  return `${style('bold', policy)}  ${style('dim', `${what}rows of ${name} before ${day(cutoff)}`)}`
}

/** Archives as a table; long lists are cut in the middle. */
function archivesTable(archives: readonly ArchiveReport[]): string {
  const row = (archive: ArchiveReport): string[] => [
    archive.partition === undefined
      ? archive.name
      : `${archive.name} ${style('dim', `(partition ${archive.partition})`)}`,
    number(archive.rows),
    `${archive.sha256 === null ? '~ ' : ''}${size(archive.bytes)}`,
    moment(archive.from),
    moment(archive.to),
  ]
  const rows =
    archives.length <= 12
      ? archives.map(row)
      : [
          ...archives.slice(0, 9).map(row),
          [`… ${archives.length - 11} more`, '', '', '', ''],
          ...archives.slice(-2).map(row),
        ]
  return table(['archive', 'rows', 'size', 'from', 'to'], rows, ['rows', 'size'])
}

/** The folder that archives lie in, as it is reached from here; nothing where there are none. */
export function folderOf([archive]: readonly ArchiveReport[]): string {
  if (archive === undefined) return ''
  const folder = path.dirname(archive.location)
  // An address is the same from everywhere.
  return ` → ${/^[a-z0-9]+:\/\//i.test(folder) ? folder : path.relative('.', folder) || '.'}`
}

/** An error in a report. */
export function errorLines({ message, hint }: ReportedError): string {
  const lines = hint === undefined ? message : `${message}\n${style('dim', hint)}`
  return `${indent(lines)}\n`
}
