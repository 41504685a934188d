/** What init found and wrote, for people. */
import path from 'node:path'

import type { Candidate } from '../database/database.ts'
import { formatTableName } from '../config/fields.ts'
import type { InitReport } from '../init.ts'
import { moment, number, size, style, table } from './style.ts'

export function printInit({ database, candidates, written }: InitReport): string {
  const found =
    candidates.length === 0
      ? `No table of ${database} has a time column.\n`
      : `${database}\n\n${candidateTable(candidates)}\n`
  if (written.length === 0) {
    const example = candidates[0]
    const hint =
      example === undefined
        ? ''
        : `\nNothing has been written. To write a first policy:\n  retention init --yes --table ${formatTableName(example.table)} --column ${example.column} --days 90\n`
    return `${found}${hint}`
  }
  const files = written.map((file) => `${style('green', '✔')} ${path.relative('.', file)}\n`).join('')
  return `${found}\n${files}\nNext: ${style('bold', 'retention plan')} shows what would be archived.\n`
}

/** Tables, their ages, and what common policies would find due. */
export function candidateTable(candidates: readonly Candidate[]): string {
  const ages = candidates[0]?.due.map(({ days }) => `> ${days} days`) ?? []
  return table(
    ['table', 'column', 'rows', 'size', 'oldest', 'newest', ...ages],
    candidates.map((candidate) => {
      const about = candidate.estimated ? '~ ' : ''
      return [
        formatTableName(candidate.table),
        candidate.column,
        `${about}${number(candidate.rows)}`,
        size(candidate.bytes),
        candidate.oldest === undefined ? '–' : moment(candidate.oldest),
        candidate.newest === undefined ? '–' : moment(candidate.newest),
        ...candidate.due.map(({ rows }) => `${about}${number(rows)}`),
      ]
    }),
    ['rows', 'size', ...ages],
  )
}
