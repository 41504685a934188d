/** `retention get <archive> [folder]` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import type { GetReport } from '../report.ts'
import { given, hasArchiveNamed, present, type CommonArguments } from './command.ts'

interface GetArguments extends CommonArguments {
  archive: string
  folder: string | undefined
  sealed: boolean
}

export const getCommand: CommandModule<CommonArguments, GetArguments> = {
  command: 'get <archive> [folder]',
  describe: "Put an archive's plain CSV and manifest into a folder",
  builder: (parser) =>
    parser
      .positional('archive', { type: 'string', demandOption: true, describe: "The archive's name, path or location" })
      .positional('folder', { type: 'string', describe: 'Where to; by default this folder' })
      .option('sealed', {
        type: 'boolean',
        default: false,
        describe: 'Its files as they are stored, compressed and sealed: without any key',
      }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { getArchive } = await import('../stored/get-archive.ts')
        return getArchive({
          ...project,
          ...given({ folder: argv.folder }),
          file: argv.archive,
          sealed: argv.sealed,
        })
      },
      async () => {
        const { printGet } = await import('../print/get.ts')
        return { print: (report: GetReport) => printGet(report), code: () => exitCode.done }
      },
      hasArchiveNamed(argv.archive),
    ),
}
