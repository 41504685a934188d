/** `retention plan` */
import type { CommandModule } from 'yargs'

import type { ApplyReport } from '../report.ts'
import { applyOptions, planOptions, type ApplyArguments } from './apply-options.ts'
import { present, type CommonArguments } from './command.ts'

export const planCommand: CommandModule<CommonArguments, ApplyArguments> = {
  command: 'plan [policies..]',
  describe: 'Show what apply would do; changes nothing',
  builder: (parser) =>
    parser
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' })
      .options(planOptions),
  handler: async (argv) =>
    present(
      argv,
      async (project) => {
        const { plan } = await import('../apply/apply.ts')
        return plan(applyOptions(argv, project))
      },
      async () => {
        const { printPlan } = await import('../print/plan.ts')
        const { codeOfApply } = await import('../exit-codes.ts')
        return { print: (report: ApplyReport) => printPlan(report), code: codeOfApply }
      },
    ),
}
