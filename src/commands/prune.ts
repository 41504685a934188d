/** `retention prune [policies..]` */
import type { CommandModule } from 'yargs'

import type { PruneReport } from '../report.ts'
import { given, isOneOfMany, present, type CommonArguments } from './command.ts'

interface PruneArguments extends CommonArguments {
  policies: string[]
  by: string | undefined
  yes: boolean
}

export const pruneCommand: CommandModule<CommonArguments, PruneArguments> = {
  command: 'prune [policies..]',
  describe: 'Remove archives that have outlived their own retention',
  builder: (parser) =>
    parser
      .positional('policies', { type: 'string', array: true, default: [], describe: 'Only these policies' })
      .option('by', { type: 'string', describe: 'Who wants it; by default the user at this host', requiresArg: true })
      .option('yes', { type: 'boolean', default: false, describe: 'Do it; without, say what would be pruned' }),
  handler: async (argv) => {
    await present(
      argv,
      async (project) => {
        const { countBar } = await import('../print/progress.ts')
        const bar = countBar('archives', argv.quiet || isOneOfMany(argv, project))
        const { prune } = await import('../prune/prune.ts')
        const { policies, by, yes } = argv
        return prune({ ...project, ...given({ by }), policies, yes, onProgress: bar.update }).finally(bar.stop)
      },
      async () => {
        const { printPrune } = await import('../print/prune.ts')
        const { codeOfPrune } = await import('../exit-codes.ts')
        return { print: (report: PruneReport) => printPrune(report), code: codeOfPrune }
      },
    )
  },
}
