/** The options that `retention apply` and `retention plan` share. */
import type { ApplyOptions } from '../apply/apply.ts'
import type { ProjectOptions } from '../config/project.ts'
import { given, numberOption, type CommonArguments } from './command.ts'

/** The arguments of apply and plan. */
export interface ApplyArguments extends CommonArguments {
  policies: string[] | undefined
  'limit-rows': number | undefined
  'max-time': string | undefined
  'max-step-time'?: string | undefined
  before: string | undefined
  'allow-large': boolean
  'dry-run'?: boolean
}

/** As yargs takes them. */
export const planOptions = {
  'limit-rows': numberOption('limit-rows', 'The most rows to archive'),
  'max-time': { type: 'string', describe: 'Begin no new step after this long, such as 10m', requiresArg: true },
  before: { type: 'string', describe: 'Only rows before this day, such as 2026-01-31', requiresArg: true },
  'allow-large': { type: 'boolean', default: false, describe: 'Go on where maxRows or maxPercent would refuse' },
} as const

/** The library's options for a command line. */
export function applyOptions(argv: ApplyArguments, project: ProjectOptions): ApplyOptions {
  return {
    ...project,
    ...given({
      policies: argv.policies,
      limitRows: argv['limit-rows'],
      maxTime: argv['max-time'],
      maxStepTime: argv['max-step-time'],
      before: argv.before,
      allowLarge: argv['allow-large'],
    }),
  }
}
