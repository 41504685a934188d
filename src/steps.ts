/** Makes a plan's steps: each when production can take it, no larger than it may be, and with a rest after it. */
import { inLanes } from './lanes.ts'
import type { LedgerEntry } from './ledger/ledger.ts'
import { cutAnew, type PlannedStep, type PolicyPlan } from './plan.ts'
import { archiveStep, type StepResult } from './runner.ts'
import { StepSize, type Taken } from './step-size.ts'
import { isOver, rest, type RunContext } from './step.ts'
import type { Target } from './target/target.ts'
import type { Throttle } from './throttle.ts'
import { Turns } from './turns.ts'

/**
 * On a server where others write at the same time: the most rows of a step, and how many times as long as a step took is
 * rested after it. Measured: more, or two at a time, and one in a hundred of others' operations takes ten times as long.
 */
const besideOthers = { usual: { rows: 5000, rest: 3 }, gentle: { rows: 1000, rest: 9 } }

/** What has been done for a policy so far. */
export interface Done {
  /** Whether a step has been begun. */
  begun: boolean
  readonly entries: LedgerEntry[]
  skipped: number
  /** What was in the way, and how it was gone round. */
  readonly notes: string[]
}

/** The size of an archive's files together. */
function bytesOf({ bytes, files }: LedgerEntry): number {
  return files.reduce((sum, file) => sum + file.bytes, bytes)
}

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
  target: Target,
  context: RunContext,
  throttle: Throttle,
  done: Done,
  due: number,
): Promise<{ hasGrown: boolean }> {
  const { policy, cutoff, time } = plan
  const { allowance, database } = context
  // While one step is stored, read back and committed, another's rows can come.
  const hasSpareLane = plan.lanes > 1 && !database.hasOneWriter && policy.pause === undefined
  const lanes = plan.lanes + (hasSpareLane ? 1 : 0)
  const storage = time?.storage
  const { bom } = policy.archive ?? context.config.archive
  const size = new StepSize(policy, plan.size)
  const isLimited = allowance.rows !== Infinity
  const naming = new Turns()
  const reading = new Turns(plan.lanes)
  const rests = Array.from({ length: lanes }, () => 0)
  let ended = 0
  let hasGrown = false

  const isShared = (): boolean => database.hasOneWriter && (policy.gentle || throttle.isBusy)
  const isBeside = (): boolean => !database.hasOneWriter && throttle.isBusy
  const beside = policy.gentle ? besideOthers.gentle : besideOthers.usual
  const smaller = async (step: PlannedStep, most: number): Promise<PlannedStep[]> =>
    cutAnew({ policy, cutoff, storage }, step, most, isLimited ? step.rows : Infinity, context)

  const makeStep = async (step: PlannedStep, lane: number): Promise<StepResult> => {
    done.begun = true
    // Steps beside this one must not take the same rest of a limit.
    const isWhole = step.partition !== undefined
    const most = isLimited ? step.rows : isWhole ? Infinity : policy.batch
    const mostBytes = isWhole ? Infinity : size.mostBytes
    const order = { policy, cutoff, step, most, mostBytes, storage, target, bom, naming, reading }
    const begun = performance.now()
    const result = await archiveStep(order, context)
    const took = performance.now() - begun
    const { entry, held } = result
    const taken: Taken = { rows: entry?.rows ?? 0, bytes: entry === undefined ? 0 : bytesOf(entry), took, held }
    const least = size.restAfter(taken, isShared())
    rests[lane] = isBeside() && policy.pause === undefined ? Math.max(least, beside.rest * took) : least
    done.skipped += result.skipped
    done.notes.push(...result.inTheWay, ...(result.byRows === undefined ? [] : [result.byRows]))
    if (entry !== undefined) {
      done.entries.push(entry)
      if (!isWhole) size.made(taken)
    }
    return result
  }

  let turn: Promise<unknown> = Promise.resolve()
  let owed = 0
  /** Makes a step when no other lane does, and the rest after the last one is over; undefined where it is too late by then. */
  const makeInTurn = async (step: PlannedStep, lane: number): Promise<StepResult | undefined> => {
    const made = turn.then(async () => {
      await rest(owed, context)
      if (isOver(context) || throttle.stopped) return undefined
      const result = await makeStep(step, lane)
      owed = rests[lane] ?? 0
      rests[lane] = 0
      return result
    })
    turn = made.catch(() => {})
    return made
  }

  /**
   * Makes a planned step in one or, where it is too large by now, in several. Returns whether its lane may go on.
   * @param archived is told the rows of each
   */
  const make = async (planned: PlannedStep, lane: number, archived: (rows: number) => void): Promise<boolean> => {
    const waiting = [planned]
    for (let step = waiting.pop(); step !== undefined; step = waiting.pop()) {
      await rest(rests[lane] ?? 0, context)
      rests[lane] = 0
      await throttle.ready()
      if (isOver(context) || throttle.stopped) return false
      const rows = isBeside() ? Math.min(size.rows(false), beside.rows) : size.rows(isShared())
      if (step.partition === undefined && step.rows > rows) {
        waiting.push(...(await smaller(step, rows)).toReversed())
        continue
      }
      const result = await (isBeside() ? makeInTurn(step, lane) : makeStep(step, lane))
      if (result === undefined) return false
      const { grew, byRows, entry } = result
      archived(entry?.rows ?? 0)
      // Whoever writes rows into the range may do so for ever: that is for the next plan, of which there are only so many.
      hasGrown ||= grew === 'rows'
      if (grew === 'rows') return false
      if (grew === 'bytes') {
        size.grew(step.rows)
        waiting.push(step)
        continue
      }
      if (byRows !== undefined) {
        waiting.push(...(await smaller(step, rows)).toReversed())
        continue
      }
      if (waiting.length === 0) ended += 1
      const { name } = policy
      context.onProgress?.({ policy: name, rows: rowsOf(done), due, step: ended, steps: plan.steps.length })
    }
    return true
  }

  const before = done.entries.length
  const makeAll = async (steps: readonly PlannedStep[]): Promise<void> =>
    inLanes(steps, lanes, async (step, lane) => {
      if (allowance.rows <= 0 || isOver(context) || throttle.stopped) return false
      let left = step.rows
      allowance.rows -= left
      try {
        return await make(step, lane, (rows) => (left -= rows))
      } finally {
        allowance.rows += left
      }
    })
  try {
    // A step over rows locks the table until its archive is stored: for so long none of its partitions could be dropped.
    await makeAll(plan.steps.filter(({ partition }) => partition !== undefined))
    await makeAll(plan.steps.filter(({ partition }) => partition === undefined))
  } finally {
    // Side by side, a later step may end first.
    done.entries.push(...done.entries.splice(before).toSorted(byTime))
  }
  return { hasGrown }
}

/** Of one time, names differ in their number alone, the first having none. */
function byTime(a: LedgerEntry, b: LedgerEntry): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1
  return a.name.length - b.name.length || (a.name < b.name ? -1 : 1)
}
