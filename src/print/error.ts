/** An error, for people. */
import { styleText } from 'node:util'

import { messageOf, RetentionError, withoutSecrets } from '../errors.ts'

/** What failed and what to do about it. Only what nobody foresaw comes with a stack, for a report to us. */
export function printError(error: unknown): string {
  const red = (text: string): string => styleText('red', text, { stream: process.stderr })
  const dim = (text: string): string => styleText('dim', text, { stream: process.stderr })
  if (error instanceof RetentionError) {
    return withoutSecrets(
      `${red('✖')} ${error.message}\n${error.hint === undefined ? '' : `  ${dim(error.hint.replaceAll('\n', '\n  '))}\n`}`,
    )
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : messageOf(error)
  return withoutSecrets(`${red('✖')} Unexpected: ${messageOf(error)}\n${dim(stack)}\n`)
}
