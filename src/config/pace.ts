/** How fast a policy works: the size of its steps, how many are under way, and how they rest; `gentle` is a preset of it. */

/** What a policy says of its pace; what it leaves out is undefined. */
export interface PaceInput {
  readonly gentle: boolean
  readonly batch: number | undefined
  readonly batchBytes: number | undefined
  readonly concurrency: number | undefined
  readonly pause: number | undefined
}

/** A policy's pace, with its defaults filled in. */
export interface Pace {
  readonly gentle: boolean
  /** The most rows of a step. */
  readonly batch: number
  /** About how many bytes of CSV a step may have. */
  readonly batchBytes: number
  /** Steps that may be under way at a time. */
  readonly concurrency: number
  /** Milliseconds to rest after a step; undefined where that is left to us. */
  readonly pause: number | undefined
  /** How long to rest without a `pause`, as a multiple of the time that the step took. */
  readonly rest: number
}

const usual = { batch: 50_000, batchBytes: 256e6, concurrency: 2, rest: 0 }
/** A quarter of the time at work, in pieces that no disk takes long to make durable. */
const gentlePace = { batch: 5000, batchBytes: 4e6, concurrency: 1, rest: 3 }

/** Fills in what a policy leaves out. */
export function paceOf({ gentle, batch, batchBytes, concurrency, pause }: PaceInput): Pace {
  const preset = gentle ? gentlePace : usual
  return {
    gentle,
    batch: batch ?? preset.batch,
    batchBytes: batchBytes ?? preset.batchBytes,
    concurrency: concurrency ?? preset.concurrency,
    pause,
    rest: preset.rest,
  }
}
