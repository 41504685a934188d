/** Takes turns: so many at a time, and whoever asks first is first. */
export class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []

  /** @param atATime how many turns there may be at a time. Default 1 */
  constructor(atATime = 1) {
    this.#free = atATime
  }

  /** Waits for a turn; returns what ends it, which may be called more than once. */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>((resolve) => void this.#waiting.push(resolve))
    let hasEnded = false
    return () => {
      if (hasEnded) return
      hasEnded = true
      const next = this.#waiting.shift()
      if (next === undefined) this.#free += 1
      else next()
    }
  }
}
