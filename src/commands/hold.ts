/** `retention hold add | list | release` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import type { AddedHold, HoldList, ReleasedHold } from '../report.ts'
import { given, hasArchiveNamed, missing, present, type CommonArguments } from './command.ts'

interface AddArguments extends CommonArguments {
  on: string | undefined
  archive: string | undefined
  where: string | undefined
  reason: string
  until: string | undefined
  by: string | undefined
}

const byOption = {
  type: 'string',
  describe: 'Who wants it; by default the user at this host',
  requiresArg: true,
} as const

const addCommand: CommandModule<CommonArguments, AddArguments> = {
  command: 'add [on]',
  describe: 'Hold rows of a policy or table, or an archive, whatever their age',
  builder: (parser) =>
    parser
      .positional('on', { type: 'string', describe: 'A policy, which stands for its table, or a table' })
      .option('archive', { type: 'string', describe: 'Hold this archive, as a whole', requiresArg: true })
      .option('where', {
        type: 'string',
        describe: 'An SQL predicate: only rows for which it is true or unknown; by default all',
        requiresArg: true,
      })
      .option('reason', { type: 'string', demandOption: true, describe: 'Why', requiresArg: true })
      .option('until', {
        type: 'string',
        describe: 'A day, an instant or a duration; by default until it is released',
        requiresArg: true,
      })
      .option('by', byOption),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { addHold } = await import('../hold.ts')
        const { on, archive, where, reason, until, by } = argv
        return addHold({ ...project, ...given({ on, archive, where, until, by }), reason })
      },
      async () => {
        const { printAdded } = await import('../print/hold.ts')
        return { print: (report: AddedHold) => printAdded(report), code: () => exitCode.done }
      },
      argv.archive === undefined ? undefined : hasArchiveNamed(argv.archive),
    ),
}

interface ListArguments extends CommonArguments {
  all: boolean
}

const listCommand: CommandModule<CommonArguments, ListArguments> = {
  command: 'list',
  describe: 'List what is held, why, by whom and until when',
  builder: (parser) =>
    parser.option('all', { type: 'boolean', default: false, describe: 'Also holds that have ended or were released' }),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { listHolds } = await import('../hold.ts')
        return listHolds({ ...project, all: argv.all })
      },
      async () => {
        const { printHolds } = await import('../print/hold.ts')
        return { print: (report: HoldList) => printHolds(report), code: () => exitCode.done }
      },
    ),
}

interface ReleaseArguments extends CommonArguments {
  id: string
  reason: string | undefined
  by: string | undefined
}

const releaseCommand: CommandModule<CommonArguments, ReleaseArguments> = {
  command: 'release <id>',
  describe: 'End a hold; it stays on record',
  builder: (parser) =>
    parser
      .updateStrings(missing('Name the hold: retention hold release <id>'))
      .positional('id', { type: 'string', demandOption: true, describe: "The hold's id, or how it begins" })
      .option('reason', { type: 'string', describe: 'Why', requiresArg: true })
      .option('by', byOption),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { releaseHold } = await import('../hold.ts')
        const { id, reason, by } = argv
        return releaseHold({ ...project, ...given({ reason, by }), id })
      },
      async () => {
        const { printReleased } = await import('../print/hold.ts')
        return { print: (report: ReleasedHold) => printReleased(report), code: () => exitCode.done }
      },
      async (project) => {
        const { listHolds } = await import('../hold.ts')
        return (await listHolds(project)).holds.some(({ id }) => id.startsWith(argv.id))
      },
    ),
}

export const holdCommand: CommandModule<CommonArguments, CommonArguments> = {
  command: 'hold',
  describe: 'Keep rows and archives for a legal matter',
  builder: (parser) =>
    parser
      .command(addCommand)
      .command(listCommand)
      .command(releaseCommand)
      .demandCommand(1, 'Say what to do with holds: add, list or release.'),
  // One of the commands above has done it.
  handler: () => {},
}
