/** `retention check` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import { presented, presentOne, projectOptions, type CommonArguments } from './command.ts'

export const checkCommand: CommandModule<CommonArguments, CommonArguments> = {
  command: 'check',
  describe: 'Check config and policy files; opens no database',
  handler: async (argv) =>
    presentOne(argv, async () => {
      const { check } = await import('../check.ts')
      const { printCheck } = await import('../print/check.ts')
      return presented(await check(projectOptions(argv)), { print: printCheck, code: () => exitCode.done })
    }),
}
