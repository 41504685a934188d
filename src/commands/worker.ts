/** `retention worker` */
import type { CommandModule } from 'yargs'

import { milliseconds } from '../config/fields.ts'
import { RetentionError } from '../errors.ts'
import { exitCode } from '../exit-codes.ts'
import type { EnqueueReport, QueueCounts } from '../report.ts'
import { fail, given, numberOption, presented, presentOne, projectOptions, type CommonArguments } from './command.ts'
import { listenForSignals, type Signals } from './signals.ts'

interface WorkerArguments extends CommonArguments {
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
      .option('grace', {
        type: 'string',
        default: '25s',
        describe: 'On SIGTERM, how long running steps may take before they are rolled back',
        requiresArg: true,
      }),
  handler: async (argv) => {
    const signals = listenForSignals()
    try {
      await work(argv, signals)
      process.exitCode = exitCode.done
    } catch (error) {
      fail(error, argv)
    } finally {
      signals.stop()
    }
  },
}

async function work(argv: WorkerArguments, { first }: Signals): Promise<void> {
  const grace = milliseconds(argv.grace)
  if (grace === undefined || grace > 2 ** 31 - 1)
    throw new RetentionError('USAGE', `--grace is "${argv.grace}"; allowed: a duration, such as "25s"`)
  const { startWorker } = await import('../worker/worker.ts')
  const { workerLine } = await import('../print/worker.ts')
  const say = (text: string | undefined): void => {
    if (text !== undefined && !argv.quiet) process.stderr.write(`${new Date().toISOString()} ${text}\n`)
  }
  const worker = await startWorker({
    ...given({ config: argv.config, database: argv.database, concurrency: argv.concurrency }),
    onEvent: (event) => say(workerLine(event)),
    onError: (message) => void process.stderr.write(`${new Date().toISOString()} ${message}\n`),
  })
  say(`Waiting for runs; ${worker.schedules === 1 ? '1 schedule is' : `${worker.schedules} schedules are`} kept.`)
  await first
  say('Stopping: steps that are under way may end.')
  await worker.stop(grace)
}
