/** How many rows the next step takes, and how long to rest after one: what the steps before it have taught. */
import type { Pace } from '../config/pace.ts'

/** What a step came to. */
export interface Taken {
  readonly rows: number
  readonly bytes: number
  /** How long it took, and for how much of that others had to wait for the write lock; milliseconds. */
  readonly took: number
  readonly held: number
}

/** How much larger than `batchBytes` a step may come out before it is undone: samples of rows are never quite right. */
const tolerance = 1.25

/**
 * How long a step should keep other writers waiting where there is one at a time, in milliseconds: whoever meets the lock on
 * SQLite sleeps for 1 ms, then for 2, 5, 10.
 */
const mostHeld = 1
/** A step holds the lock for the ledger's row as well: with fewer rows it would be hardly shorter. */
const fewest = 250
/**
 * How many times as long as it held the lock a step rests: where gentle, so long that fewer than one in a hundred of others'
 * writes meet the lock, or wait behind one that did.
 */
const restForHeld = { usual: 20, gentle: 150 }
/** The longest rest for the sake of the lock, in milliseconds: on a machine that stalls, apply must get on all the same. */
const longestRest = 1000

export class StepSize {
  readonly #pace: Pace
  readonly #planned: number
  /** Rows that fit into `batchBytes`, as far as is known. */
  #fitting: number
  /** Rows that can be stored in time, as far as is known. */
  #timely = Infinity
  /** Rows that are deleted within `mostHeld`, as far as is known. */
  #brief: number

  /** @param planned the most rows of a step by the plan */
  constructor(pace: Pace, planned: number) {
    this.#pace = pace
    this.#planned = planned
    this.#fitting = planned
    this.#brief = fewest
  }

  /** The most rows of the next step. @param isShared whether others need the write lock as well */
  rows(isShared: boolean): number {
    const most = Math.min(this.#fitting, this.#timely)
    return isShared ? Math.min(most, this.#brief) : most
  }

  /** The most bytes that a step may come to. */
  get mostBytes(): number {
    return Math.floor(this.#pace.batchBytes * tolerance)
  }

  /** Learns that a step of so many rows came to too much. For want of time, steps stay small to the end of the plan. */
  grew(rows: number, what: 'bytes' | 'time'): void {
    if (what === 'time') {
      this.#timely = Math.max(1, Math.floor(Math.min(this.#timely, rows) / 2))
      return
    }
    this.#fitting = Math.max(1, Math.floor(Math.min(this.#fitting, rows) / 2))
  }

  /** Learns from a step that was made. */
  made({ rows, bytes, held }: Taken): void {
    // Back to what was planned, where rows are small again.
    const fitting = (rows * this.#pace.batchBytes) / Math.max(1, bytes)
    this.#fitting = grown(this.#fitting, fitting, this.#planned)
    const brief = (rows * mostHeld) / Math.max(0.01, held)
    // By half at most: a disk may be slow once.
    const shrunk = Math.max(fewest, Math.floor(Math.max(brief, this.#brief / 2)))
    this.#brief = brief < this.#brief ? shrunk : grown(this.#brief, brief, this.#pace.batch)
  }

  /** How long to rest after a step, in milliseconds. @param isShared as for `rows` */
  restAfter({ took, held }: Taken, isShared: boolean): number {
    const { pause, rest, gentle } = this.#pace
    if (pause !== undefined) return pause
    const forTheLock = isShared ? Math.min(longestRest, held * (gentle ? restForHeld.gentle : restForHeld.usual)) : 0
    return Math.max(rest * took, forTheLock)
  }
}

/** Grows towards a size, twofold at most. */
function grown(from: number, to: number, most: number): number {
  return Math.max(from, Math.floor(Math.min(to, from * 2, most)))
}
