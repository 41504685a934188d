/** Config and policies that are right, for people. */
import path from 'node:path'

import type { CheckReport } from '../check.ts'
import { counted, style, table, warnings } from './style.ts'

export function printCheck({ config, policies, warnings: texts }: CheckReport): string {
  const rows = policies.map(({ policy, table: name, column, days, action, targets, schedule }) => [
    policy,
    `${name}.${column}`,
    counted(days, 'day'),
    action,
    targets.join(', '),
    schedule ?? '',
  ])
  const all = table(['policy', 'rows by', 'kept', 'then', 'to', 'schedule'], rows, ['kept'])
  const head = `${style('green', '✔')} ${counted(policies.length, 'policy', 'policies')}, and nothing wrong in ${path.relative('.', config) || config}`
  return `${head}\n${all}\n${warnings(texts.map((text) => ({ level: 'warning', text })))}`
}
