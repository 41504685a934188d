/** Takes turns: on the one connection to a SQLite file, transactions come one after another. */
export class Turns {
  #last: Promise<void> = Promise.resolve()

  /** Waits until all who asked before have ended their turns; returns what ends this one. */
  async take(): Promise<() => void> {
    const before = this.#last
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#last = promise
    await before
    return resolve
  }
}
