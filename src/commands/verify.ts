/** `retention verify [files..]` */
import type { CommandModule } from 'yargs'

import type { ProjectOptions } from '../config/project.ts'
import type { Repair, VerifyReport } from '../report.ts'
import { given, hasArchiveNamed, isOneOfMany, present, type CommonArguments } from './command.ts'

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
    await present(
      argv,
      async (project) => {
        const { countBar } = await import('../print/progress.ts')
        const bar = countBar('archives', argv.quiet || isOneOfMany(argv, project))
        const { verify } = await import('../verify/verify.ts')
        return verify({
          ...project,
          ...given({ files: argv.files, decide: await decider(argv, project) }),
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
      argv.files?.[0] === undefined ? undefined : hasArchiveNamed(argv.files[0]),
    )
  },
}

/** On a terminal somebody can be asked. */
async function decider(
  argv: VerifyArguments,
  project: ProjectOptions,
): Promise<((repair: Repair) => Promise<boolean>) | undefined> {
  if (argv.json || argv.quiet || isOneOfMany(argv, project) || !process.stdin.isTTY || !process.stdout.isTTY)
    return undefined
  const { askToRepair } = await import('../print/ask.ts')
  return askToRepair
}
