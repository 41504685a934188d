/** What a step needs to know, and what all steps of a run share. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import type { Sealer } from '../archive/seal.ts'
import type { Policy } from '../config/policy.ts'
import type { Cutoff } from '../cutoff.ts'
import type { ToldEvent } from '../events.ts'
import type { PlanContext } from './past.ts'
import type { PlannedStep } from './plan.ts'
import type { Target } from '../target/target.ts'
import type { Turns } from '../turns.ts'

/** What all steps of a run share. */
export interface RunContext extends PlanContext {
  readonly run: string
  /** Aborted: the running step is rolled back at once. */
  readonly rollbackSignal: AbortSignal | undefined
  /** How long a step's transaction may wait for its archive; milliseconds. Undefined: as long as it takes. */
  readonly maxStepTime: number | undefined
  /** Aborted: nothing new is begun. */
  readonly signal: AbortSignal | undefined
  /** When nothing new is begun any more; milliseconds since 1970. */
  readonly deadline: number
  /** Rows that the run may still archive, those of steps under way not among them. */
  readonly allowance: { rows: number }
  /** What of production has been waited for in vain, and is still so. */
  readonly inVain: Set<string>
  /** Tells whoever wants to know what happens. */
  readonly tell: (event: ToldEvent) => void
}

/** A step about to be made. */
export interface StepOrder {
  readonly policy: Policy
  readonly cutoff: Cutoff
  readonly step: PlannedStep
  /** The most rows that it may take. */
  readonly most: number
  /** The most bytes of CSV that it may make; a single row may always go. */
  readonly mostBytes: number
  /** How the time column was found to store time. */
  readonly storage: string | undefined
  readonly target: Target
  /** Whether the archive begins with a byte order mark. */
  readonly bom: boolean
  /** What compresses and seals the archive; undefined: it is stored as it is. */
  readonly sealer: Sealer | undefined
  /** Steps take their archives' numbers one after another: in the order of their times, as long as none starts over. */
  readonly naming: Turns
  /** Of the policy's steps, those whose rows are being read. */
  readonly reading: Turns
}

/** A name for one run, that sorts by time. */
export function newRun(now: Date): string {
  return `${now.toISOString().replaceAll(/[-:]|\..*/g, '')}-${randomUUID().slice(0, 8)}`
}

/** Whether the run has been told to stop, in either way. */
export function isInterrupted({ signal, rollbackSignal }: RunContext): boolean {
  return signal?.aborted === true || rollbackSignal?.aborted === true
}

/** Whether the run is to begin nothing new: told to stop, or out of time. */
export function isOver(context: RunContext): boolean {
  return isInterrupted(context) || Date.now() >= context.deadline
}

/** Rests for so many milliseconds, or until the run is to begin nothing new. */
export async function rest(milliseconds: number, context: RunContext): Promise<void> {
  const time = Math.min(milliseconds, context.deadline - Date.now())
  if (time <= 0 || isInterrupted(context)) return
  const signals = [context.signal, context.rollbackSignal].filter((signal) => signal !== undefined)
  await sleep(time, undefined, { signal: AbortSignal.any(signals) }).catch(() => {})
}
