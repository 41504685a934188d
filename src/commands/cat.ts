/** `retention cat <archive>` */
import type { CommandModule } from 'yargs'

import { codeOf, RetentionError } from '../errors.ts'
import { exitCode } from '../exit-codes.ts'
import { fail, given, hasArchiveNamed, projectOptions, projectWith, type CommonArguments } from './command.ts'

interface CatArguments extends CommonArguments {
  archive: string
  table: string | undefined
}

export const catCommand: CommandModule<CommonArguments, CatArguments> = {
  command: 'cat <archive>',
  describe: "Print an archive's plain CSV",
  builder: (parser) =>
    parser
      .positional('archive', { type: 'string', demandOption: true, describe: "The archive's name, path or location" })
      .option('table', {
        type: 'string',
        describe: 'The rows of this table, where several went along',
        requiresArg: true,
      }),
  handler: async (argv) => {
    try {
      if (argv.json) throw new RetentionError('USAGE', 'cat prints CSV, and takes no --json')
      const { readArchive } = await import('../stored/read-archive.ts')
      const project = await projectWith(projectOptions(argv), hasArchiveNamed(argv.archive))
      const options = { ...project, ...given({ table: argv.table }), file: argv.archive }
      for await (const chunk of readArchive(options)) {
        if (!(await write(chunk))) return
      }
      process.exitCode = exitCode.done
    } catch (error) {
      fail(error, argv)
    }
  },
}

/** Returns whether more is wanted: who has closed the pipe, as `head` does, has enough. */
async function write(chunk: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, (error) => {
      if (error === null || error === undefined) resolve(true)
      else if (codeOf(error) === 'EPIPE') resolve(false)
      else
        reject(new RetentionError('TARGET_UNUSABLE', `The CSV cannot be written: ${error.message}`, { cause: error }))
    })
  })
}
