/** `retention apply` */
import type { CommandModule } from 'yargs'

import type { RunEvent } from '../events.ts'
import { exitCode } from '../exit-codes.ts'
import { eventLine, openLog } from '../log.ts'
import type { ApplyReport } from '../report.ts'
import { applyOptions, planOptions, type ApplyArguments } from './apply-options.ts'
import { isOneOfMany, logOption, present, type CommonArguments } from './command.ts'

export const applyCommand: CommandModule<CommonArguments, ApplyArguments> = {
  command: 'apply [policies..]',
  describe: 'Archive what is due, verify it, delete it',
  builder: (parser) =>
    parser
      .positional('policies', { type: 'string', array: true, describe: 'Only these policies' })
      .options(planOptions)
      .option('max-step-time', {
        type: 'string',
        describe: 'Undo a step that is not stored after this long, and make it smaller',
        requiresArg: true,
      })
      .option('log-format', logOption)
      .option('dry-run', { type: 'boolean', default: false, describe: 'The same as "retention plan"' }),
  handler: async (argv) => {
    if (argv['dry-run'] === true) {
      const { planCommand } = await import('./plan.ts')
      return planCommand.handler(argv)
    }
    const log = argv['log-format'] === 'json' ? await openLog('json', argv.quiet) : undefined
    const interruption = await listenForSignals((msg) => {
      if (log !== undefined) log({ level: 'info', msg })
      else if (!argv.quiet) process.stderr.write(`\n${msg}\n`)
    })
    await present(
      argv,
      async (project) => {
        const [{ apply }, { applyProgress }] = [await import('../apply/apply.ts'), await import('../print/progress.ts')]
        const bar = log === undefined ? applyProgress(argv.quiet, isOneOfMany(argv, project)) : undefined
        const onEvent = bar?.update ?? ((event: RunEvent) => log?.(eventLine(event)))
        return apply({ ...applyOptions(argv, project), ...interruption.signals, onEvent }).finally(() => bar?.stop())
      },
      async () => {
        const { printApply } = await import('../print/apply.ts')
        const { codeOfApply } = await import('../exit-codes.ts')
        return {
          print: (report: ApplyReport) => printApply(report),
          code: (report: ApplyReport) =>
            interruption.signals.signal.aborted ? exitCode.interrupted : codeOfApply(report),
        }
      },
    )
    interruption.stop()
  },
}

interface Interruption {
  readonly signals: { readonly signal: AbortSignal; readonly rollbackSignal: AbortSignal }
  stop: () => void
}

/** The first signal lets the running step finish, the second rolls it back. */
async function listenForSignals(say: (text: string) => void): Promise<Interruption> {
  const finish = new AbortController()
  const rollback = new AbortController()
  const onSignal = (): void => {
    if (finish.signal.aborted) {
      say('Rolling the running step back.')
      rollback.abort()
      return
    }
    say('Finishing the running step; once more rolls it back.')
    finish.abort()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return {
    signals: { signal: finish.signal, rollbackSignal: rollback.signal },
    stop: () => {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    },
  }
}
