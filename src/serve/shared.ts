/** One answer for all who ask at about the same time: a query to the database is made once, not once for each of them. */
import { setTimeout as sleep } from 'node:timers/promises'

/** What was answered, and how long ago. */
export interface Answer<T> {
  readonly value: T
  readonly ageSeconds: number
}

/** Milliseconds. */
export interface SharedTimes {
  /** How long an answer is good. */
  readonly fresh: number
  /** Past that, how long a new one is waited for before the old one is given after all. */
  readonly patience: number
  /** How long an old one may be given at most. */
  readonly oldest: number
}

/** A question that many ask. */
export class Shared<T> {
  readonly #ask: () => Promise<T>
  readonly #times: SharedTimes
  #known: { readonly value: T; readonly at: number } | undefined
  #asking: Promise<T> | undefined

  constructor(ask: () => Promise<T>, times: SharedTimes) {
    this.#ask = ask
    this.#times = times
  }

  /** @throws what the question throws, where there is no answer that may still be given */
  async get(): Promise<Answer<T>> {
    const known = this.#known
    const age = known === undefined ? Infinity : performance.now() - known.at
    if (known !== undefined && age < this.#times.fresh) return answer(known)
    const asked = this.#askOnce()
    if (known !== undefined && age < this.#times.oldest) {
      const isLate = Symbol('late')
      const first = await Promise.race([asked, sleep(this.#times.patience, isLate, { ref: false })])
      if (first === isLate) return answer(known)
    }
    return { value: await asked, ageSeconds: 0 }
  }

  /** Whoever asks from now on is told what is true from now on. */
  forget(): void {
    this.#known = undefined
    this.#asking = undefined
  }

  async #askOnce(): Promise<T> {
    if (this.#asking !== undefined) return this.#asking
    const asking = this.#ask()
      .then((value) => {
        if (this.#asking === asking) this.#known = { value, at: performance.now() }
        return value
      })
      .finally(() => {
        if (this.#asking === asking) this.#asking = undefined
      })
    this.#asking = asking
    // Whoever has taken the old answer does not hear of this one's failure; the next one asks again.
    asking.catch(() => {})
    return asking
  }
}

function answer<T>({ value, at }: { readonly value: T; readonly at: number }): Answer<T> {
  return { value, ageSeconds: Math.floor((performance.now() - at) / 1000) }
}
