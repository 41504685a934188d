/** `retention verify [files..]` */
import type { CommandModule } from 'yargs'

import type { VerifyReport } from '../report.ts'
import { given, present, projectOptions, type CommonArguments } from './command.ts'

interface VerifyArguments extends CommonArguments {
  files: string[] | undefined
}

export const verifyCommand: CommandModule<CommonArguments, VerifyArguments> = {
  command: 'verify [files..]',
  describe: 'Check stored archives against the ledger',
  builder: (parser) =>
    parser.positional('files', { type: 'string', array: true, describe: 'Only these archives, by name or path' }),
  handler: async (argv) => {
    const { countBar } = await import('../print/progress.ts')
    const bar = countBar('archives', argv.quiet)
    await present(
      argv,
      async () => {
        const { verify } = await import('../verify.ts')
        return verify({ ...projectOptions(argv), ...given({ files: argv.files }), onProgress: bar.update }).finally(
          bar.stop,
        )
      },
      async () => {
        const { printVerify } = await import('../print/verify.ts')
        const { codeOfVerify } = await import('../exit-codes.ts')
        return { print: (report: VerifyReport) => printVerify(report), code: codeOfVerify }
      },
    )
  },
}
