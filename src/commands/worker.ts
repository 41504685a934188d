/** `retention worker` */
import type { CommandModule } from 'yargs'

import { exitCode } from '../exit-codes.ts'
import { eventLine, openLog, type LogFormat } from '../log.ts'
import type { EnqueueReport, QueueCounts } from '../report.ts'
import {
  given,
  logOption,
  numberOption,
  presented,
  presentOne,
  projectOptions,
  type CommonArguments,
} from './command.ts'
import { graceOption, untilStopped, type Signals } from './until-stopped.ts'

interface WorkerArguments extends CommonArguments {
  'log-format': LogFormat
  concurrency: number | undefined
  grace: string
}

interface EnqueueArguments extends CommonArguments {
  policies: string[] | undefined
}

const enqueueCommand: CommandModule<CommonArguments, EnqueueArguments> = {
  command: 'enqueue [policies..]',
  describe: 'Queue a run for each database now',
  builder: (parser) => parser.positional('policies', { type: 'string', array: true, describe: 'Only these policies' }),
  handler: async (argv) =>
    presentOne(argv, async () => {
      const { enqueue } = await import('../worker/worker.ts')
      const { printEnqueued } = await import('../print/worker.ts')
      const report = await enqueue({ ...projectOptions(argv), ...given({ policies: argv.policies }) })
      return presented<EnqueueReport>(report, { print: printEnqueued, code: () => exitCode.done })
    }),
}

const statusCommand: CommandModule<CommonArguments, CommonArguments> = {
  command: 'status',
  describe: 'Show how many runs wait, are at work, and have failed too often',
  handler: async (argv) =>
    presentOne(argv, async () => {
      const { queueStatus } = await import('../worker/worker.ts')
      const { printQueue } = await import('../print/worker.ts')
      return presented<QueueCounts>(await queueStatus(projectOptions(argv)), {
        print: printQueue,
        code: () => exitCode.done,
      })
    }),
}

export const workerCommand: CommandModule<CommonArguments, WorkerArguments> = {
  command: 'worker',
  describe: 'Take runs from a queue on Postgres, which keeps the schedules of many databases',
  builder: (parser) =>
    parser
      .command(enqueueCommand)
      .command(statusCommand)
      .option('concurrency', numberOption('concurrency', 'How many runs at the same time; by default 2'))
      .option('grace', graceOption)
      .option('log-format', logOption),
  handler: async (argv) => untilStopped(argv, (signals, grace) => work(argv, signals, grace)),
}

async function work(argv: WorkerArguments, { first, second }: Signals, grace: number): Promise<void> {
  const { startWorker } = await import('../worker/worker.ts')
  const log = await openLog(argv['log-format'], argv.quiet)
  const say = (msg: string): void => log({ level: 'info', msg })
  const worker = await startWorker({
    ...given({ config: argv.config, database: argv.database, concurrency: argv.concurrency }),
    onEvent: (event) => log(eventLine(event)),
    onError: (msg) => log({ level: 'error', msg }),
  })
  say(`Waiting for runs; ${worker.schedules === 1 ? '1 schedule is' : `${worker.schedules} schedules are`} kept.`)
  await first
  say('Stopping: steps that are under way may end; once more rolls them back.')
  void second.then(() => worker.rollBack())
  await worker.stop(grace)
}
