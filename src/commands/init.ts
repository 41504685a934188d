/** `retention init` */
import type { CommandModule } from 'yargs'

import { parseTableName } from '../config/fields.ts'
import type { Candidate } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import { exitCode } from '../exit-codes.ts'
import type { InitChoice } from '../init.ts'
import { given, numberOption, presented, presentOne, type CommonArguments } from './command.ts'

interface InitArguments extends CommonArguments {
  database: string | undefined
  table: string | undefined
  column: string | undefined
  days: number | undefined
  yes: boolean
}

export const initCommand: CommandModule<CommonArguments, InitArguments> = {
  command: 'init',
  describe: 'Look at the database and write a first config and policy',
  builder: (parser) =>
    parser
      .option('database', {
        type: 'string',
        describe: 'The database; by default DATABASE_URL or sqlite:./local.db',
        requiresArg: true,
      })
      .option('table', { type: 'string', describe: 'The table of the first policy', requiresArg: true })
      .option('column', { type: 'string', describe: 'The column that ages its rows', requiresArg: true })
      .option('days', numberOption('days', 'How many days a row lives'))
      .option('yes', {
        type: 'boolean',
        default: false,
        describe: 'Ask nothing; write what --table, --column and --days say',
      }),
  handler: async (argv) =>
    presentOne(argv, async () => {
      const [{ init }, { printInit }] = [await import('../init.ts'), await import('../print/init.ts')]
      const project = given({ config: argv.config })
      const report = await init({ ...project, ...given({ database: argv.database }), choose: await chooser(argv) })
      return presented(report, { print: printInit, code: () => exitCode.done })
    }),
}

type Choose = (candidates: readonly Candidate[]) => Promise<InitChoice | undefined>

async function chooser(argv: InitArguments): Promise<Choose> {
  if (argv.yes || argv.table !== undefined) return async (candidates) => chosen(argv, candidates)
  if (process.stdin.isTTY && process.stdout.isTTY && !argv.json) {
    const { askForPolicy } = await import('../print/ask.ts')
    return askForPolicy
  }
  // Without a terminal nobody can be asked: the tables are shown, and nothing is written.
  return async () => undefined
}

function chosen({ table, column, days }: InitArguments, candidates: readonly Candidate[]): InitChoice {
  if (table === undefined)
    throw new RetentionError('USAGE', '--yes needs --table', {
      hint: 'Such as: retention init --yes --table events --column created_at --days 90',
    })
  const name = parseTableName(table)
  const likely = candidates.find(
    (one) => one.table.name === name?.name && (one.table.schema ?? name.schema) === name.schema,
  )
  return { table, column: column ?? likely?.column ?? '', days: days ?? 30 }
}
