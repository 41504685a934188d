/** `retention verify [files..]` */
import type { CommandModule } from 'yargs'

import type { Repair, VerifyReport } from '../report.ts'
import { given, present, projectOptions, type CommonArguments } from './command.ts'

interface VerifyArguments extends CommonArguments {
  files: string[] | undefined
  deep: boolean
  repair: boolean
  yes: boolean
}

export const verifyCommand: CommandModule<CommonArguments, VerifyArguments> = {
  command: 'verify [files..]',
  describe: 'Check stored archives against the ledger',
  builder: (parser) =>
    parser
      .positional('files', { type: 'string', array: true, describe: 'Only these archives, by name or path' })
      .option('deep', {
        type: 'boolean',
        default: false,
        describe: 'Also look whether archived rows are in the table as well',
      })
      .option('repair', {
        type: 'boolean',
        default: false,
        describe: 'Say what to do with files that the ledger does not know',
      })
      .option('yes', { type: 'boolean', default: false, describe: 'With --repair: do it, where it is safe' }),
  handler: async (argv) => {
    const { countBar } = await import('../print/progress.ts')
    const bar = countBar('archives', argv.quiet)
    await present(
      argv,
      async () => {
        const { verify } = await import('../verify/verify.ts')
        return verify({
          ...projectOptions(argv),
          ...given({ files: argv.files, decide: await decider(argv) }),
          deep: argv.deep,
          repair: argv.repair,
          yes: argv.yes,
          onProgress: bar.update,
        }).finally(bar.stop)
      },
      async () => {
        const { printVerify } = await import('../print/verify.ts')
        const { codeOfVerify } = await import('../exit-codes.ts')
        return { print: (report: VerifyReport) => printVerify(report), code: codeOfVerify }
      },
    )
  },
}

/** On a terminal somebody can be asked. */
async function decider({ json, quiet }: VerifyArguments): Promise<((repair: Repair) => Promise<boolean>) | undefined> {
  if (json || quiet || !process.stdin.isTTY || !process.stdout.isTTY) return undefined
  const { askToRepair } = await import('../print/ask.ts')
  return askToRepair
}
