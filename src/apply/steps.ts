/** Makes a plan's steps: in lanes, each step when production can take it, and in several where it is too large by then. */
import { RetentionError } from '../errors.ts'
import { inLanes } from './lanes.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { archiveReport } from './policy-report.ts'
import { cutAnew, type PlannedStep, type PolicyPlan } from '../plan/plan.ts'
import { archiveStep, type StepResult } from './runner.ts'
import type { RunContext, StepOrder } from '../plan/step.ts'
import { StepPace } from './step-pace.ts'
import type { Throttle } from './throttle.ts'
import { Turns } from '../turns.ts'

/** How often a planned step is made smaller because it took too long: by then it has a sixteenth of its rows. */
const mostLate = 4

/** What has been done for a policy so far. */
export interface Done {
  /** Whether a step has been begun. */
  begun: boolean
  readonly entries: LedgerEntry[]
  skipped: number
  /** What was in the way, and how it was gone round. */
  readonly notes: string[]
}

/** Where a policy's archives go, and how they are sealed. */
export type Destination = Pick<StepOrder, 'target' | 'sealer'>

/** Rows archived so far. */
export function rowsOf({ entries }: Pick<Done, 'entries'>): number {
  return entries.reduce((rows, entry) => rows + entry.rows, 0)
}

/**
 * Makes the planned steps, until the run is over or production feels too much.
 * @param due of so many rows, for whoever is told of the progress
 * @returns whether a step ended it, into whose range more rows had come than it may take: what is left must be planned anew
 */
export async function makeSteps(
  plan: PolicyPlan,
  destination: Destination,
  context: RunContext,
  throttle: Throttle,
  done: Done,
  due: number,
): Promise<{ hasGrown: boolean }> {
  const steps = new Steps(plan, destination, context, throttle, done, due)
  const before = done.entries.length
  try {
    // A step over rows locks the table until its archive is stored: for so long none of its partitions could be dropped.
    await steps.make(plan.steps.filter(({ partition }) => partition !== undefined))
    await steps.make(plan.steps.filter(({ partition }) => partition === undefined))
  } finally {
    // Side by side, a later step may end first.
    done.entries.push(...done.entries.splice(before).toSorted(byTime))
  }
  return { hasGrown: steps.hasGrown }
}

/** The steps of one plan, as they are made. */
class Steps {
  hasGrown = false
  readonly #plan: PolicyPlan
  readonly #destination: Destination
  readonly #context: RunContext
  readonly #done: Done
  readonly #due: number
  readonly #pace: StepPace
  readonly #naming = new Turns()
  readonly #reading: Turns
  /** Planned steps that have been made whole. */
  #ended = 0

  constructor(
    plan: PolicyPlan,
    destination: Destination,
    context: RunContext,
    throttle: Throttle,
    done: Done,
    due: number,
  ) {
    this.#plan = plan
    this.#destination = destination
    this.#context = context
    this.#done = done
    this.#due = due
    this.#pace = new StepPace(plan.policy, plan.size, throttle, context)
    this.#reading = new Turns(plan.lanes)
  }

  /** Makes some of them, side by side. */
  async make(steps: readonly PlannedStep[]): Promise<void> {
    const { allowance } = this.#context
    await inLanes(steps, this.#lanes, async (step, lane) => {
      if (allowance.rows <= 0 || this.#pace.isOver) return false
      let left = step.rows
      allowance.rows -= left
      try {
        return await this.#makePlanned(step, lane, (rows) => (left -= rows))
      } finally {
        allowance.rows += left
      }
    })
  }

  get #lanes(): number {
    const { lanes, policy } = this.#plan
    // While one step is stored, read back and committed, another's rows can come.
    const hasSpare = lanes > 1 && !this.#context.database.hasOneWriter && policy.pause === undefined
    return lanes + (hasSpare ? 1 : 0)
  }

  get #isLimited(): boolean {
    return this.#context.allowance.rows !== Infinity
  }

  /**
   * Makes a planned step in one or, where it is too large by now, in several. Returns whether its lane may go on.
   * @param archived is told the rows of each
   */
  async #makePlanned(planned: PlannedStep, lane: number, archived: (rows: number) => void): Promise<boolean> {
    const waiting = [planned]
    let late = 0
    for (let step = waiting.pop(); step !== undefined; step = waiting.pop()) {
      await this.#pace.ready(lane)
      if (this.#pace.isOver) return false
      const most = this.#pace.rows
      if (step.partition === undefined && step.rows > most) {
        waiting.push(...(await this.#smaller(step, most)))
        continue
      }
      const next = step
      const begun = performance.now()
      const result = await this.#pace.make(lane, () => this.#archive(next))
      if (result === undefined) return false
      archived(result.entry?.rows ?? 0)
      if (result.grew === 'rows') {
        // Whoever writes rows into the range may do so for ever: that is for the next plan, of which there are only so many.
        this.hasGrown = true
        return false
      }
      if (result.grew === 'time') {
        late += 1
        if (late > mostLate || step.rows === 1) throw this.#tooSlow(step)
      }
      if (result.grew === 'bytes' || result.grew === 'time') {
        this.#pace.grew(step.rows, result.grew)
        waiting.push(step)
      } else if (result.byRows !== undefined) {
        waiting.push(...(await this.#smaller(step, most)))
      } else {
        if (waiting.length === 0) this.#ended += 1
        this.#tell(result.entry, performance.now() - begun)
      }
    }
    return true
  }

  /** A step's rows in steps of fewer; the first to be made is the last of them. */
  async #smaller(step: PlannedStep, most: number): Promise<PlannedStep[]> {
    const { policy, cutoff, time } = this.#plan
    const limit = this.#isLimited ? step.rows : Infinity
    return (await cutAnew({ policy, cutoff, storage: time?.storage }, step, most, limit, this.#context)).toReversed()
  }

  #tooSlow({ rows }: PlannedStep): RetentionError {
    const seconds = (this.#context.maxStepTime ?? 0) / 1000
    return new RetentionError(
      'TARGET_UNUSABLE',
      `${this.#destination.target.name} is too slow: it has not stored an archive of ${rows} rows within ${seconds} s`,
      { hint: 'Look at the way to it; or give steps more time with --max-step-time or "maxStepTime" in the config.' },
    )
  }

  /** Archives a step as it is, and keeps what came of it. */
  async #archive(step: PlannedStep): Promise<StepResult> {
    const { policy, cutoff, time } = this.#plan
    const isWhole = step.partition !== undefined
    const done = this.#done
    done.begun = true
    const order = {
      policy,
      cutoff,
      step,
      // Steps beside this one must not take the same rest of a limit.
      most: this.#isLimited ? step.rows : isWhole ? Infinity : policy.batch,
      mostBytes: isWhole ? Infinity : this.#pace.mostBytes,
      storage: time?.storage,
      ...this.#destination,
      bom: (policy.archive ?? this.#context.config.archive).bom,
      naming: this.#naming,
      reading: this.#reading,
    }
    const result = await archiveStep(order, this.#context)
    done.skipped += result.skipped
    done.notes.push(...result.inTheWay, ...(result.byRows === undefined ? [] : [result.byRows]))
    if (result.entry !== undefined) done.entries.push(result.entry)
    return result
  }

  #tell(entry: LedgerEntry | undefined, milliseconds: number): void {
    this.#context.tell({
      type: 'step-finished',
      policy: this.#plan.policy.name,
      rows: rowsOf(this.#done),
      due: this.#due,
      step: this.#ended,
      steps: this.#plan.steps.length,
      archive: entry === undefined ? undefined : archiveReport(entry),
      milliseconds: Math.round(milliseconds),
    })
  }
}

/** Of one time, names differ in their number alone, the first having none. */
function byTime(a: LedgerEntry, b: LedgerEntry): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1
  return a.name.length - b.name.length || (a.name < b.name ? -1 : 1)
}
