/** `retention erase <policy>` */
import type { CommandModule } from 'yargs'

import type { EraseReport } from '../report.ts'
import { given, present, type CommonArguments } from './command.ts'

interface EraseArguments extends CommonArguments {
  policy: string
  where: string
  reason: string
  table: string | undefined
  by: string | undefined
  yes: boolean
}

export const eraseCommand: CommandModule<CommonArguments, EraseArguments> = {
  command: 'erase <policy>',
  describe: "Remove rows from a policy's archives, for good",
  builder: (parser) =>
    parser
      .positional('policy', { type: 'string', demandOption: true, describe: 'The policy that archived them' })
      .option('where', {
        type: 'string',
        demandOption: true,
        describe: "Rows that this is true for, in the archives' columns",
        requiresArg: true,
      })
      .option('reason', {
        type: 'string',
        demandOption: true,
        describe: 'Why; kept, and so should not name the person',
        requiresArg: true,
      })
      .option('table', {
        type: 'string',
        describe: "Which of the archives' tables --where is about; by default the policy's own",
        requiresArg: true,
      })
      .option('by', { type: 'string', describe: 'Who wants it; by default the user at this host', requiresArg: true })
      .option('yes', { type: 'boolean', default: false, describe: 'Do it; without, say what would be erased' }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { erase } = await import('../erase/erase.ts')
        const { policy, where, reason, table, by, yes } = argv
        return erase({ ...project, ...given({ table, by }), policy, where, reason, yes })
      },
      async () => {
        const { printErase } = await import('../print/erase.ts')
        const { codeOfErase } = await import('../exit-codes.ts')
        return { print: (report: EraseReport) => printErase(report), code: codeOfErase }
      },
    ),
}
