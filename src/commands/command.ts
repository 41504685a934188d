/** What all commands do alike: run, print a report for people or for scripts, and end with the right exit code. */
import type { Options } from 'yargs'

import type { AskForKey } from '../config/keys.ts'
import { loadDatabases, type ProjectOptions } from '../config/project.ts'
import type { DatabasesReport } from '../databases.ts'
import { asRetentionError, codeOf, messageOf, RetentionError } from '../errors.ts'
import { codeOfAll, codeOfError, codeOfErrorCode, exitCode } from '../exit-codes.ts'
import { printError } from '../print/error.ts'
import { logFormats, type LogFormat } from '../log.ts'
import { reported } from '../report.ts'

/** The options of every command. */
export interface CommonArguments {
  config: string | undefined
  database?: string | undefined
  json: boolean
  quiet: boolean
  'log-format'?: LogFormat | undefined
}

/** A command's report, for people and as an exit code. */
export interface Presentation<Report> {
  print: (report: Report) => string
  /** Those of several databases together. Default: one after another, each under its name. */
  printAll?: (reports: DatabasesReport<Report>) => string
  code: (report: Report) => number
}

/**
 * Runs a command's work and presents its report. Where the config has several databases, it works on the one that is named, on
 * the one that has what it is about, or on all.
 * @param has whether a database has what the command is about; undefined: it is about all
 */
export async function present<Report>(
  argv: CommonArguments,
  work: (project: ProjectOptions) => Promise<Report>,
  load: () => Promise<Presentation<Report>>,
  has?: (project: ProjectOptions) => Promise<boolean>,
): Promise<void> {
  const project = projectOptions(argv)
  await presentOne(argv, async () => {
    const isOne = has !== undefined || project.database !== undefined || (await loadDatabases(project)) === undefined
    if (isOne) return presented(await work(has === undefined ? project : await projectWith(project, has)), await load())
    const { overDatabases } = await import('../databases.ts')
    // Side by side, nobody can be asked.
    const report = await overDatabases(given({ config: argv.config }), work)
    const { printDatabases } = await import('../print/databases.ts')
    const { print, printAll, code } = await load()
    return presented(report, {
      print: (all) => printAll?.(all) ?? printDatabases(all, print),
      code: ({ databases }) =>
        codeOfAll(databases.map((one) => ('error' in one ? codeOfErrorCode(one.error.code) : code(one.report)))),
    })
  })
}

/** The options for the database that has what a command is about; as they are where there is one database alone, or one is named. */
export async function projectWith(
  project: ProjectOptions,
  has: (project: ProjectOptions) => Promise<boolean>,
): Promise<ProjectOptions> {
  if (project.database !== undefined || (await loadDatabases(project)) === undefined) return project
  const { databaseWith } = await import('../databases.ts')
  return { ...project, database: await databaseWith(project, has) }
}

/** Whether a database has the archive that a command names. */
export function hasArchiveNamed(file: string): (project: ProjectOptions) => Promise<boolean> {
  return async (project) => {
    const { hasArchive } = await import('../stored/archive-database.ts')
    return hasArchive({ ...project, file })
  }
}

/** Whether a command works on several databases at the same time, this being one of them. */
export function isOneOfMany(argv: CommonArguments, project: ProjectOptions): boolean {
  return argv.database === undefined && project.database !== undefined
}

/** Presents the report of a command that is about no database of a config, or about all of them together. */
export async function presentOne(
  { json, quiet, 'log-format': logFormat }: Pick<CommonArguments, 'json' | 'quiet' | 'log-format'>,
  work: () => Promise<Presented>,
): Promise<void> {
  try {
    const { report, text, code } = await work()
    process.exitCode = code
    if (json) await write(process.stdout, `${JSON.stringify(report, null, 2)}\n`)
    else if (!quiet) await write(process.stdout, text())
    // Quiet is for cron, which mails what is said: nothing when all is well, and why when it is not.
    else if (process.exitCode !== exitCode.done && logFormat !== 'json') await write(process.stderr, text())
  } catch (error) {
    fail(error, { json, ...given({ 'log-format': logFormat }) })
  }
}

interface Presented {
  readonly report: unknown
  readonly text: () => string
  readonly code: number
}

/** A report as its presentation has it. */
export function presented<Report>(report: Report, { print, code }: Presentation<Report>): Presented {
  return { report, text: () => print(report), code: code(report) }
}

/** What goes wrong with the output is told to whoever writes to it, and must not end the process on its own. */
export function keepOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}

/** Reports an error and sets the exit code. */
export function fail(error: unknown, argv: Pick<CommonArguments, 'json' | 'log-format'>): void {
  const told = reported(asRetentionError(error))
  if (argv.json) process.stdout.write(`${JSON.stringify({ error: told }, null, 2)}\n`)
  const line = {
    level: 'error',
    time: new Date().toISOString(),
    type: 'command-failed',
    error: told,
    msg: told.message,
  }
  process.stderr.write(argv['log-format'] === 'json' ? `${JSON.stringify(line)}\n` : printError(error))
  process.exitCode = codeOfError(error)
}

/** The options of a library call that come from the common arguments. */
export function projectOptions({ config, database }: CommonArguments): ProjectOptions {
  // On a terminal somebody can be asked; stdout may be for the CSV itself.
  const canAsk = process.stdin.isTTY && process.stderr.isTTY
  return { ...given({ config, database }), ...(canAsk ? { askForKey } : {}) }
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
    coerce: (written: unknown) => {
      // Given more than once, the last counts.
      const value: unknown = Array.isArray(written) ? written.at(-1) : written
      const number = Number(value)
      if (typeof value === 'string' && value.trim() !== '' && !Number.isNaN(number)) return number
      throw new RetentionError('USAGE', `--${name} is ${JSON.stringify(value)}; allowed: a number`)
    },
  }
}

/** How lines on stderr look. */
export const logOption = {
  choices: logFormats,
  default: 'text',
  describe: 'What is said on stderr: text, or a line of JSON for whatever happens',
} as const

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
