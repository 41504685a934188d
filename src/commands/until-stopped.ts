/** Commands that go on until a signal ends them: the first lets them end what they do, the second hurries them. */
import { milliseconds } from '../config/fields.ts'
import { RetentionError } from '../errors.ts'
import { exitCode } from '../exit-codes.ts'
import { fail, type CommonArguments } from './command.ts'

/** How long what goes on may take when it is told to stop. */
export const graceOption = {
  type: 'string',
  default: '25s',
  describe: 'On SIGTERM, how long running steps may take before they are rolled back',
  requiresArg: true,
} as const

/**
 * Does the work of such a command, and reports what it fails with.
 * @param work is given `--grace` in milliseconds, and ends after the first signal
 */
export async function untilStopped(
  argv: CommonArguments & { grace: string },
  work: (signals: Signals, grace: number) => Promise<void>,
): Promise<void> {
  const signals = listenForSignals()
  try {
    const grace = milliseconds(argv.grace)
    if (grace === undefined || grace > 2 ** 31 - 1)
      throw new RetentionError('USAGE', `--grace is "${argv.grace}"; allowed: a duration, such as "25s"`)
    await work(signals, grace)
    process.exitCode = exitCode.done
  } catch (error) {
    fail(error, argv)
  } finally {
    signals.stop()
  }
}

/** When they have come. */
export interface Signals {
  readonly first: Promise<void>
  readonly second: Promise<void>
  stop: () => void
}

/** SIGINT and SIGTERM, from now on. */
function listenForSignals(): Signals {
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let count = 0
  const onSignal = (): void => {
    count += 1
    if (count === 1) first.resolve()
    else second.resolve()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return {
    first: first.promise,
    second: second.promise,
    stop: () => {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    },
  }
}
