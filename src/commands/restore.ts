/** `retention restore <file>` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import type { RestoreReport } from '../report.ts'
import type { RestoreKey } from '../restore/restore-options.ts'
import { given, hasArchiveNamed, missing, present, type CommonArguments } from './command.ts'
import { dropOption, keysOption, lastOf, mapOption, setOption } from './restore-options.ts'

interface RestoreArguments extends CommonArguments {
  file: string
  'dry-run': boolean
  again: boolean
  'on-conflict': 'error' | 'skip' | 'overwrite'
  into: string | undefined
  map: Record<string, string> | undefined
  drop: readonly string[] | undefined
  set: Record<string, string | null> | undefined
  where: string | undefined
  keys: RestoreKey[] | undefined
  hold: string
}

export const restoreCommand: CommandModule<CommonArguments, RestoreArguments> = {
  command: 'restore <file>',
  describe: "Put an archive's rows back",
  builder: (parser) =>
    parser
      // Some options may be given several times; of all others the last counts, as for every command.
      .parserConfiguration({ 'duplicate-arguments-array': true })
      .coerce(['config', 'json', 'quiet', 'dry-run', 'again', 'on-conflict', 'into', 'where', 'hold'], lastOf)
      .updateStrings(missing('Name the archive: retention restore <file>'))
      .positional('file', { type: 'string', demandOption: true, describe: "The archive's name, path or location" })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Do everything and undo it' })
      .option('again', {
        type: 'boolean',
        default: false,
        describe: 'Also an archive that was restored before, whose rows have gone since',
      })
      .option('on-conflict', {
        choices: ['error', 'skip', 'overwrite'] as const,
        default: 'error' as const,
        describe: 'What to do with rows whose key is in the table already',
      })
      .option('map', mapOption)
      .option('drop', dropOption)
      .option('set', setOption)
      .option('where', {
        type: 'string',
        describe: "Only rows that this is true for, in the archive's columns",
        requiresArg: true,
      })
      .option('keys', keysOption)
      .option('into', { type: 'string', describe: 'Put the rows into this table instead', requiresArg: true })
      .option('hold', {
        type: 'string',
        default: '7d',
        describe: 'How long apply leaves the rows alone: a duration, "forever" or "none"',
        requiresArg: true,
      }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { restore } = await import('../restore/restore.ts')
        return restore({
          ...project,
          ...given({
            into: argv.into,
            map: argv.map,
            drop: argv.drop,
            set: argv.set,
            where: argv.where,
            keys: argv.keys,
          }),
          file: argv.file,
          dryRun: argv['dry-run'],
          again: argv.again,
          onConflict: argv['on-conflict'],
          hold: argv.hold,
        })
      },
      async () => {
        const { printRestore } = await import('../print/restore.ts')
        return { print: (report: RestoreReport) => printRestore(report), code: () => exitCode.done }
      },
      hasArchiveNamed(argv.file),
    ),
}
