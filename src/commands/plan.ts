/** `retention plan` */
import { readFile } from 'node:fs/promises'

import type { CommandModule } from 'yargs'

import type { PlanComparison } from '../compare.ts'
import type { ProjectOptions } from '../config/project.ts'
import { messageOf, RetentionError } from '../errors.ts'
import type { ApplyReport } from '../report.ts'
import { applyOptions, planOptions, type ApplyArguments } from './apply-options.ts'
import { given, present, type CommonArguments } from './command.ts'

interface PlanArguments extends ApplyArguments {
  // `apply --dry-run` comes without them.
  'policies-from'?: string | undefined
  compare?: string | undefined
  format?: 'text' | 'markdown'
}

export const planCommand: CommandModule<CommonArguments, PlanArguments> = {
  command: 'plan [policies..]',
  describe: 'Show what apply would do; changes nothing',
  builder: (parser) =>
    parser
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' })
      .options(planOptions)
      .options({
        'policies-from': {
          type: 'string',
          describe: "Plan this folder's policies in place of the config's; its files are read as data, and none is run",
          requiresArg: true,
        },
        compare: {
          type: 'string',
          describe: 'A file that plan --json has written: due rows before and after, as Markdown',
          requiresArg: true,
        },
        format: { choices: ['text', 'markdown'] as const, default: 'text' as const, describe: 'How it is printed' },
      }),
  handler: async (argv) =>
    argv.compare !== undefined || (argv.format === 'markdown' && !argv.json)
      ? presentCompared(argv)
      : presentPlan(argv),
}

async function presentPlan(argv: PlanArguments): Promise<void> {
  await present(
    argv,
    async (project) => planned(argv, project),
    async () => {
      const { printPlan } = await import('../print/plan.ts')
      const { codeOfApply } = await import('../exit-codes.ts')
      return { print: (report: ApplyReport) => printPlan(report), code: codeOfApply }
    },
  )
}

async function presentCompared(argv: PlanArguments): Promise<void> {
  const text = argv.compare === undefined ? undefined : await textOf(argv.compare)
  await present(
    argv,
    async (project) => {
      const { comparePlans, readPlan } = await import('../compare.ts')
      const before = text === undefined ? undefined : readPlan(text, project.database)
      return comparePlans(before, await planned(argv, project))
    },
    async () => {
      const { printMarkdown, printMarkdownOf } = await import('../print/markdown.ts')
      const { codeOfApply } = await import('../exit-codes.ts')
      const code = ({ policies }: PlanComparison): number =>
        codeOfApply({ policies: policies.flatMap(({ after }) => after ?? []) })
      return { print: printMarkdown, printAll: printMarkdownOf, code }
    },
  )
}

async function planned(argv: PlanArguments, project: ProjectOptions): Promise<ApplyReport> {
  const { plan } = await import('../apply/apply.ts')
  return plan({ ...applyOptions(argv, project), ...given({ policiesFrom: argv['policies-from'] }) })
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new RetentionError('USAGE', `${file} cannot be read: ${messageOf(error)}`, { cause: error })
  }
}
