/** How columns and rows are written on the command line of `restore`. */
import { readFileSync } from 'node:fs'
import type { Options } from 'yargs'

import { messageOf, RetentionError } from '../errors.ts'
import type { RestoreKey } from '../restore/restore-options.ts'

type Given = string | readonly string[]

/** An option that may be given several times; yargs gives a list then. */
function repeated<T>(
  describe: string,
  read: (texts: readonly string[]) => T,
): Options & { coerce: (given: Given) => T } {
  return { type: 'string', requiresArg: true, describe, coerce: (given) => read([given].flat()) }
}

/** The last value of an option that takes one only. */
export function lastOf(given: unknown): unknown {
  return Array.isArray(given) ? (given as unknown[]).at(-1) : given
}

/** `--map old=new` */
export const mapOption = repeated('old=new: a column of the archive that has another name now', (texts) =>
  Object.fromEntries(texts.map((text) => pair('map', text))),
)

/** `--drop column` */
export const dropOption = repeated('A column whose values stay in the archive', (texts) => texts)

/** `--set column=value`, `--set column:null` */
export const setOption = repeated('column=value, or column:null: what all rows get in a column', (texts) =>
  Object.fromEntries(
    texts.map((text): [string, string | null] => {
      const [, column] = /^([^=]+):null$/i.exec(text) ?? []
      return column === undefined ? pair('set', text) : [column, null]
    }),
  ),
)

/** `--keys 1,2,3`, `--keys '[1,"a"],[2,"b"]'`, `--keys @file` */
export const keysOption = repeated('Only rows with these keys: 1,2,3 or @file', (texts): RestoreKey[] =>
  texts.flatMap((text) => {
    if (text.startsWith('@'))
      return linesOf(text.slice(1)).flatMap((line) => (line.startsWith('[') ? keyList(line) : [line]))
    return text.startsWith('[') ? keyList(text) : text.split(',').map((key) => key.trim())
  }),
)

/** The lines of a file that say something. */
function linesOf(file: string): string[] {
  try {
    const lines = readFileSync(file, 'utf8').split(/\r?\n/)
    return lines.filter((line) => line !== '')
  } catch (error) {
    throw new RetentionError('USAGE', `--keys names a file that cannot be read: ${messageOf(error)}`, { cause: error })
  }
}

/** Keys as JSON arrays, one or several with commas in between. */
function keyList(text: string): RestoreKey[] {
  const isPart = (part: unknown): boolean =>
    typeof part === 'string' || (typeof part === 'number' && (Number.isSafeInteger(part) || !Number.isInteger(part)))
  try {
    const keys: unknown = JSON.parse(`[${text}]`)
    if (Array.isArray(keys) && keys.every((key) => Array.isArray(key) && key.length > 0 && key.every(isPart))) {
      // Just looked at.
      return keys as RestoreKey[]
    }
  } catch {
    // Told below.
  }
  throw new RetentionError(
    'USAGE',
    `--keys has ${JSON.stringify(text.slice(0, 80))}; allowed: JSON arrays of texts and numbers`,
    {
      hint: 'Numbers of more than 15 digits are written in quotes.',
    },
  )
}

/** The first `=` ends the column's name. */
function pair(option: string, text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  const forms = option === 'map' ? 'old=new' : 'column=value, column= (the empty text) or column:null'
  throw new RetentionError('USAGE', `--${option} is ${JSON.stringify(text)}; allowed: ${forms}`)
}
