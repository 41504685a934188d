/** `retention schedule print <kind>` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import type { SchedulePrintReport } from '../schedule/schedule.ts'
import { given, present, type CommonArguments } from './command.ts'

interface PrintArguments extends CommonArguments {
  kind: 'cron'
  policies: string[] | undefined
}

const printCommand: CommandModule<CommonArguments, PrintArguments> = {
  command: 'print <kind> [policies..]',
  describe: 'Print the file for another scheduler',
  builder: (parser) =>
    parser
      .positional('kind', { choices: ['cron'] as const, demandOption: true, describe: 'Whose file' })
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { schedulePrint } = await import('../schedule/schedule.ts')
        return schedulePrint({ ...project, ...given({ policies: argv.policies }), kind: argv.kind })
      },
      async () => ({ print: (report: SchedulePrintReport) => report.text, code: () => exitCode.done }),
    ),
}

export const scheduleCommand: CommandModule<CommonArguments, CommonArguments> = {
  command: 'schedule',
  describe: 'Print the schedule for another scheduler',
  builder: (parser) =>
    parser.command(printCommand).demandCommand(1, 'Say what to print: retention schedule print cron'),
  handler: () => {},
}
