/** What get did, for people. */
import type { GetReport } from '../report.ts'
import { counted, style } from './style.ts'

export function printGet({ files, manifest }: GetReport): string {
  const lines = [
    ...files.map(({ location, rows }) => `${style('green', '✔')} ${location}: ${counted(rows, 'row')}`),
    ...(manifest === null ? [] : [`  ${style('dim', manifest)}`]),
  ]
  return `${lines.join('\n')}\n`
}
