/** Reports of several databases, one after another. */
import type { DatabasesReport } from '../databases.ts'
import { RetentionError, type ErrorCode } from '../errors.ts'
import { printError } from './error.ts'
import { style } from './style.ts'

/** @param print one database's report */
export function printDatabases<Report>(
  { databases }: DatabasesReport<Report>,
  print: (report: Report) => string,
): string {
  const texts = databases.map((one) => {
    const heading = style('bold', one.database)
    if ('report' in one) return `${heading}\n${print(one.report)}`
    const { code, message, hint } = one.error
    // It was made from an error of ours.
    const error = new RetentionError(code as ErrorCode, message, hint === undefined ? {} : { hint })
    return `${heading}\n${printError(error)}`
  })
  return texts.join('\n')
}
