/** What all commands do alike: run, print a report for people or for scripts, and end with the right exit code. */
import type { Options } from 'yargs'

import type { AskForKey } from '../config/keys.ts'
import { codeOf, messageOf, RetentionError } from '../errors.ts'
import { codeOfError, exitCode } from '../exit-codes.ts'
import { printError } from '../print/error.ts'
import { reported } from '../report.ts'

/** The options of every command. */
export interface CommonArguments {
  config: string | undefined
  json: boolean
  quiet: boolean
}

/** A command's report, for people and as an exit code. */
export interface Presentation<Report> {
  print: (report: Report) => string
  code: (report: Report) => number
}

/** Runs a command's work and presents its report. */
export async function present<Report>(
  { json, quiet }: Pick<CommonArguments, 'json' | 'quiet'>,
  work: () => Promise<Report>,
  load: () => Promise<Presentation<Report>>,
): Promise<void> {
  try {
    const report = await work()
    const { print, code } = await load()
    process.exitCode = code(report)
    if (json) await write(process.stdout, `${JSON.stringify(report, null, 2)}\n`)
    else if (!quiet) await write(process.stdout, print(report))
    // Quiet is for cron, which mails what is said: nothing when all is well, and why when it is not.
    else if (process.exitCode !== exitCode.done) await write(process.stderr, print(report))
  } catch (error) {
    fail(error, { json })
  }
}

/** What goes wrong with the output is told to whoever writes to it, and must not end the process on its own. */
export function keepOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}

/** Reports an error and sets the exit code. */
export function fail(error: unknown, { json }: Pick<CommonArguments, 'json'>): void {
  const known = error instanceof RetentionError ? error : undefined
  if (json)
    process.stdout.write(
      `${JSON.stringify({ error: reported(known ?? new RetentionError('UNEXPECTED', messageOf(error))) }, null, 2)}\n`,
    )
  process.stderr.write(printError(error))
  process.exitCode = codeOfError(error)
}

/** The options of a library call that come from the common arguments. */
export function projectOptions({ config }: CommonArguments): { config?: string; askForKey?: AskForKey } {
  // On a terminal somebody can be asked; stdout may be for the CSV itself.
  const canAsk = process.stdin.isTTY && process.stderr.isTTY
  return { ...(config === undefined ? {} : { config }), ...(canAsk ? { askForKey } : {}) }
}

const askForKey: AskForKey = async (kind) => {
  const ask = await import('../print/ask.ts')
  return ask.askForKey(kind)
}

/** Some options, without those that were not given. */
export function given<T extends Record<string, unknown>>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  // What is left of the entries is exactly what the type says.
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}

/** What is said where a command is not told what it is about: for `updateStrings` of yargs. */
export function missing(text: string): Record<string, string> {
  // Of a message with a number yargs takes two forms, of which its types do not know. %c takes in one of the two numbers
  // that it would put behind the text, and shows nothing.
  const silent = `${text}%c%c`
  const forms: unknown = { one: silent, other: silent }
  return { 'Not enough non-option arguments: got %s, need at least %s': forms as string }
}

/** A number on the command line; yargs itself would take any text for one. */
export function numberOption(name: string, describe: string): Options & { coerce: (value: unknown) => number } {
  return {
    describe,
    type: 'string',
    requiresArg: true,
    coerce: (value: unknown) => {
      const number = Number(value)
      if (typeof value === 'string' && value.trim() !== '' && !Number.isNaN(number)) return number
      throw new RetentionError('USAGE', `--${name} is ${JSON.stringify(value)}; allowed: a number`)
    },
  }
}

/** Waits until the text is handed over: a pipe may take only part of it at once. Who has closed it wants no more. */
async function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    stream.write(text, (error) => {
      if (error === null || error === undefined || codeOf(error) === 'EPIPE') resolve()
      else
        reject(
          new RetentionError('TARGET_UNUSABLE', `The report cannot be written: ${messageOf(error)}`, {
            hint: 'What it tells of has been done.',
            cause: error,
          }),
        )
    })
  })
}
