/** `retention status` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import type { StatusReport } from '../report.ts'
import { given, present, type CommonArguments } from './command.ts'

interface StatusArguments extends CommonArguments {
  policies: string[] | undefined
  archives: boolean
  'exit-code': boolean
}

export const statusCommand: CommandModule<CommonArguments, StatusArguments> = {
  command: 'status [policies..]',
  describe: 'Show what is due, held and archived',
  builder: (parser) =>
    parser
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' })
      .option('archives', { type: 'boolean', default: false, describe: 'List the archives in the ledger' })
      .option('exit-code', {
        type: 'boolean',
        default: false,
        describe: 'Exit with 3 when something is due or overdue',
      }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { status } = await import('../status.ts')
        return status({ ...project, ...given({ policies: argv.policies }) })
      },
      async () => {
        const { printStatus } = await import('../print/status.ts')
        const { codeOfStatus } = await import('../exit-codes.ts')
        return {
          print: (report: StatusReport) => printStatus(report, argv.archives),
          code: (report: StatusReport) => (argv['exit-code'] ? codeOfStatus(report) : exitCode.done),
        }
      },
    ),
}
