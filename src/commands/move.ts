/** `retention move <policy>` */
import type { CommandModule } from 'yargs'

import { RetentionError } from '../errors.ts'
import type { MoveReport } from '../report.ts'
import { given, isOneOfMany, present, type CommonArguments } from './command.ts'

interface MoveArguments extends CommonArguments {
  policy: string
  to: string
  by: string | undefined
  yes: boolean
}

export const moveCommand: CommandModule<CommonArguments, MoveArguments> = {
  command: 'move <policy>',
  describe: "Take a policy's archives to another target",
  builder: (parser) =>
    parser
      .positional('policy', { type: 'string', demandOption: true, describe: 'The policy that archived them' })
      .option('to', {
        type: 'string',
        demandOption: true,
        describe: 'Where to: a folder or an address, as "archive" in the config',
        requiresArg: true,
      })
      .option('by', { type: 'string', describe: 'Who wants it; by default the user at this host', requiresArg: true })
      .option('yes', { type: 'boolean', default: false, describe: 'Do it; without, say what would be moved' }),
  handler: async (argv) => {
    await present(
      argv,
      async (project) => {
        const { countBar } = await import('../print/progress.ts')
        const bar = countBar('archives', argv.quiet || isOneOfMany(argv, project))
        const { move } = await import('../move/move.ts')
        const { policy, to, by, yes } = argv
        if (isOneOfMany(argv, project))
          throw new RetentionError('USAGE', 'The archives of several databases cannot all go to one place', {
            hint: 'Name the database with --database.',
          })
        return move({ ...project, ...given({ by }), policy, to, yes, onProgress: bar.update }).finally(bar.stop)
      },
      async () => {
        const { printMove } = await import('../print/move.ts')
        const { codeOfMove } = await import('../exit-codes.ts')
        return { print: (report: MoveReport) => printMove(report), code: codeOfMove }
      },
    )
  },
}
