/** What a step needs to know, and what all steps of a run share. */
import { randomUUID } from 'node:crypto'

import type { Policy } from './config/policy.ts'
import type { Cutoff } from './cutoff.ts'
import type { PlanContext, PlannedStep } from './plan.ts'
import type { Target } from './target/target.ts'

/** What all steps of a run share. */
export interface RunContext extends PlanContext {
  readonly run: string
  /** Aborted: the running step is rolled back at once. */
  readonly rollbackSignal: AbortSignal | undefined
  /** Aborted: nothing new is begun. */
  readonly signal: AbortSignal | undefined
}

/** A step about to be made. */
export interface StepOrder {
  readonly policy: Policy
  readonly cutoff: Cutoff
  readonly step: PlannedStep
  /** The most rows that it may take. */
  readonly most: number
  /** How the time column was found to store time. */
  readonly storage: string | undefined
  readonly target: Target
  /** Whether the archive begins with a byte order mark. */
  readonly bom: boolean
}

/** A name for one run, that sorts by time. */
export function newRun(now: Date): string {
  return `${now.toISOString().replaceAll(/[-:]|\..*/g, '')}-${randomUUID().slice(0, 8)}`
}

/** Whether the run has been told to stop, in either way. */
export function isInterrupted({ signal, rollbackSignal }: RunContext): boolean {
  return signal?.aborted === true || rollbackSignal?.aborted === true
}
