/** How a policy's steps are paced: how large the next is, how long to rest after it, and one at a time where others write. */
import type { Policy } from '../config/policy.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import type { StepResult } from './runner.ts'
import { isOver, rest, type RunContext } from '../plan/step.ts'
import { StepSize, type Taken } from './step-size.ts'
import type { Throttle } from './throttle.ts'
import { Turns } from '../turns.ts'

/**
 * On a server where others write at the same time: the most rows of a step, and how many times as long as a step took is
 * rested after it. Measured: more, or two at a time, and one in a hundred of others' operations takes ten times as long.
 */
const besideOthers = { usual: { rows: 5000, rest: 3 }, gentle: { rows: 1000, rest: 9 } }

/** The pace of one plan's steps; its lanes share it. */
export class StepPace {
  readonly #policy: Policy
  readonly #size: StepSize
  readonly #throttle: Throttle
  readonly #context: RunContext
  readonly #beside: { readonly rows: number; readonly rest: number }
  /** How long each lane is to rest before its next step, in milliseconds. */
  readonly #rests: number[] = []
  /** Steps that are made one at a time, and how long is to be rested before the next of them. */
  readonly #turns = new Turns()
  #restInTurn = 0

  /** @param planned the most rows of a step by the plan */
  constructor(policy: Policy, planned: number, throttle: Throttle, context: RunContext) {
    this.#policy = policy
    this.#size = new StepSize(policy, planned)
    this.#throttle = throttle
    this.#context = context
    this.#beside = policy.gentle ? besideOthers.gentle : besideOthers.usual
  }

  /** Whether nothing new is to be begun: the run is over, or production feels too much. */
  get isOver(): boolean {
    return isOver(this.#context) || this.#throttle.stopped
  }

  /** The most rows of the next step. */
  get rows(): number {
    if (this.#isBesideOthers) return Math.min(this.#size.rows(false), this.#beside.rows)
    return this.#size.rows(this.#sharesTheLock)
  }

  /** The most bytes that a step may come to. */
  get mostBytes(): number {
    return this.#size.mostBytes
  }

  /** Waits until a lane has rested and production can take a step, or it is over. */
  async ready(lane: number): Promise<void> {
    await rest(this.#rests[lane] ?? 0, this.#context)
    this.#rests[lane] = 0
    await this.#throttle.ready()
  }

  /** Has a lane make a step now or, beside others, when it is its turn. Undefined where it is over by then. */
  async make(lane: number, step: () => Promise<StepResult>): Promise<StepResult | undefined> {
    if (this.#isBesideOthers) return this.#makeInTurn(step)
    const { result, restAfter } = await this.#timed(step)
    this.#rests[lane] = restAfter
    return result
  }

  /** Learns that a step of so many rows came to too many bytes, or took too long. */
  grew(rows: number, what: 'bytes' | 'time'): void {
    this.#size.grew(rows, what)
  }

  /** Whoever makes the next one, it comes after the rest of the one before. */
  async #makeInTurn(step: () => Promise<StepResult>): Promise<StepResult | undefined> {
    const endTurn = await this.#turns.take()
    try {
      await rest(this.#restInTurn, this.#context)
      if (this.isOver) return undefined
      const { result, restAfter } = await this.#timed(step)
      this.#restInTurn = restAfter
      return result
    } finally {
      endTurn()
    }
  }

  /** Makes a step, and learns from it. */
  async #timed(step: () => Promise<StepResult>): Promise<{ result: StepResult; restAfter: number }> {
    const begun = performance.now()
    const result = await step()
    const took = performance.now() - begun
    const { entry, held } = result
    const taken: Taken = { rows: entry?.rows ?? 0, bytes: entry === undefined ? 0 : bytesOf(entry), took, held }
    // A partition is as large as it is, and not deleted row by row.
    if (entry !== undefined && entry.partition === null) this.#size.made(taken)
    return { result, restAfter: this.#restAfter(taken) }
  }

  #restAfter(taken: Taken): number {
    const least = this.#size.restAfter(taken, this.#sharesTheLock)
    // A pause takes the place of every other rest.
    const isPaused = this.#policy.pause !== undefined
    return this.#isBesideOthers && !isPaused ? Math.max(least, this.#beside.rest * taken.took) : least
  }

  /** Whether others write to the same server, each with locks of their own. */
  get #isBesideOthers(): boolean {
    return !this.#context.database.hasOneWriter && this.#throttle.isBusy
  }

  /** Whether others need the one write lock as well. */
  get #sharesTheLock(): boolean {
    return this.#context.database.hasOneWriter && (this.#policy.gentle || this.#throttle.isBusy)
  }
}

/** The size of an archive's files together. */
function bytesOf({ bytes, files }: LedgerEntry): number {
  return files.reduce((sum, file) => sum + file.bytes, bytes)
}
