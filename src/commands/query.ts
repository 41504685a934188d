/** `retention query [sql]` */
import type { CommandModule } from 'yargs'

import { loadDatabases } from '../config/project.ts'
import { codeOf, messageOf, RetentionError } from '../errors.ts'
import { exitCode } from '../exit-codes.ts'
import type { QueryOptions } from '../query/query.ts'
import type { QueryReport, QueryView } from '../report.ts'
import { fail, given, numberOption, present, projectOptions, type CommonArguments } from './command.ts'

interface QueryArguments extends CommonArguments {
  sql: string | undefined
  format: string
  from: string | undefined
  to: string | undefined
  text: boolean
  limit: number | undefined
}

export const queryCommand: CommandModule<CommonArguments, QueryArguments> = {
  command: 'query [sql]',
  describe: 'Ask archives by SQL without restoring them; without SQL, list what can be asked',
  builder: (parser) =>
    parser
      .positional('sql', { type: 'string', describe: "One SELECT, in DuckDB's SQL" })
      .option('format', { choices: ['table', 'csv', 'json'], default: 'table', describe: 'How rows are printed' })
      .option('from', {
        type: 'string',
        requiresArg: true,
        describe: 'Leave out archives with rows from before it alone',
      })
      .option('to', { type: 'string', requiresArg: true, describe: 'Leave out archives with rows from after it alone' })
      .option('text', { type: 'boolean', default: false, describe: 'Read all columns as text' })
      .option('limit', numberOption('limit', 'The most rows of a table that are printed; by default 1000')),
  handler: async (argv) => {
    const interruption = new AbortController()
    const asked = { ...given({ from: argv.from, to: argv.to }), text: argv.text, signal: interruption.signal }
    if (argv.sql === undefined) return list(argv, asked)
    const { sql } = argv
    const project = projectOptions(argv)
    const onSignal = (): void => interruption.abort()
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
    const format = argv.json ? 'json' : argv.format
    let written = false
    try {
      if (argv.limit !== undefined && !(Number.isSafeInteger(argv.limit) && argv.limit > 0))
        throw new RetentionError('USAGE', `--limit is ${argv.limit}; allowed: a whole number, at least 1`)
      if (project.database === undefined && (await loadDatabases(project)) !== undefined)
        return await queryAll(argv, sql, format, asked)
      const [{ streamQuery }, { printAnswer }] = [await import('../query/query.ts'), await import('../print/query.ts')]
      await streamQuery(sql, { ...project, ...asked }, async (answer) => {
        if (!argv.quiet) for (const note of answer.notes) process.stderr.write(`! ${note}\n`)
        for await (const text of printAnswer(answer, format, argv.limit)) {
          written = true
          if (!(await write(text))) return
        }
      })
      process.exitCode = exitCode.done
    } catch (error) {
      // After a part of the answer, nothing else may stand on stdout.
      fail(error, { json: format === 'json' && !written })
    } finally {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    }
  },
}

/** Asks several databases side by side. */
async function queryAll(argv: QueryArguments, sql: string, format: string, asked: Asked): Promise<void> {
  if (format === 'csv')
    throw new RetentionError('USAGE', 'The answers of several databases are no one CSV', {
      hint: 'Name the database with --database.',
    })
  await present(
    { ...argv, json: format === 'json' },
    async (project) => {
      const { query } = await import('../query/query.ts')
      return query(sql, { ...project, ...asked })
    },
    async () => {
      const { printRows } = await import('../print/query.ts')
      return { print: (report: QueryReport) => printRows(report, argv.limit), code: () => exitCode.done }
    },
  )
}

/** What a query is told besides its SQL. */
type Asked = Pick<QueryOptions, 'from' | 'to' | 'text' | 'signal'>

async function list(argv: CommonArguments, asked: Asked): Promise<void> {
  await present(
    argv,
    async (project) => {
      const { listViews } = await import('../query/query.ts')
      return { views: await listViews({ ...project, ...asked }) }
    },
    async () => {
      const { printViews } = await import('../print/query.ts')
      return { print: ({ views }: { views: QueryView[] }) => printViews(views), code: () => exitCode.done }
    },
  )
}

/** Returns whether more is wanted: who has closed the pipe, as `head` does, has enough. */
async function write(text: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === null || error === undefined) resolve(true)
      else if (codeOf(error) === 'EPIPE') resolve(false)
      else
        reject(
          new RetentionError('TARGET_UNUSABLE', `The answer cannot be written: ${messageOf(error)}`, { cause: error }),
        )
    })
  })
}
