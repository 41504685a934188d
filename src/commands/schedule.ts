/** `retention schedule` and `retention schedule print <kind>` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import { scheduleKinds, type ScheduleKind } from '../schedule/kinds.ts'
import { given, present, presented, presentOne, type CommonArguments } from './command.ts'

interface PrintArguments extends CommonArguments {
  kind: ScheduleKind
  policies: string[] | undefined
}

const printCommand: CommandModule<CommonArguments, PrintArguments> = {
  command: 'print <kind> [policies..]',
  describe: 'Print the file for another scheduler',
  builder: (parser) =>
    parser
      .positional('kind', { choices: scheduleKinds, demandOption: true, describe: 'Whose file' })
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' }),
  handler: async (argv) =>
    presentOne(argv, async () => {
      const { schedulePrint } = await import('../schedule/print.ts')
      const { config, database, policies, kind } = argv
      const report = await schedulePrint({ ...given({ config, database, policies }), kind })
      // The text is for a file; whoever makes it should see them all the same.
      if (!argv.quiet) for (const warning of report.warnings) process.stderr.write(`${warning}.\n`)
      return presented(report, { print: ({ text }) => text, code: () => exitCode.done })
    }),
}

export const scheduleCommand: CommandModule<CommonArguments, CommonArguments> = {
  command: 'schedule',
  describe: 'Show when policies run, or print the file for another scheduler',
  builder: (parser) => parser.command(printCommand),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { schedule } = await import('../schedule/schedule.ts')
        return schedule(project)
      },
      async () => {
        const { printSchedule } = await import('../print/schedule.ts')
        return { print: printSchedule, code: () => exitCode.done }
      },
    ),
}
