/** The signals that end a process that goes on by itself: the first lets it end what it does, the second hurries it. */

/** When they have come. */
export interface Signals {
  readonly first: Promise<void>
  readonly second: Promise<void>
  stop: () => void
}

/** SIGINT and SIGTERM, from now on. */
export function listenForSignals(): Signals {
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
