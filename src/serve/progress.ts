/** A run's events in brief, and what they come to for each policy; pure. */
import type { RunEvent } from '../events.ts'

/** An event as it is kept and sent: without archives, reports and other lists that grow with a run. */
export interface BriefEvent {
  /** 1, 2, 3, … within its run. */
  readonly id: number
  readonly type: RunEvent['type']
  /** ISO 8601. */
  readonly at: string
  readonly policy?: string
  /** Rows archived so far, and rows that are to be. */
  readonly rows?: number
  readonly due?: number
  readonly step?: number
  readonly steps?: number
  /** The name of the archive that was made. */
  readonly archive?: string
  readonly reason?: string
  readonly milliseconds?: number
  /** With `policy-finished`: how it ended. */
  readonly status?: string
  readonly error?: { readonly code: string; readonly message: string; readonly hint?: string }
}

/** How far a run has got with a policy. */
export interface PolicyProgress {
  readonly policy: string
  readonly state: 'waiting' | 'running' | 'finished'
  /** Rows archived so far. */
  readonly rows: number
  /** Rows that are to be; null as long as that is not known. */
  readonly due: number | null
  readonly step?: number
  readonly steps?: number
  /** What apply waits for just now. */
  readonly waitsFor: string | null
  /** At its end: as in the policy's report. */
  readonly status?: string
}

/** An event, without what makes it long. */
export function briefEvent(event: RunEvent, id: number): BriefEvent {
  const head = { id, type: event.type, at: event.at }
  switch (event.type) {
    case 'run-started':
    case 'run-finished':
      return head
    case 'run-failed':
      return { ...head, error: event.error }
    case 'policy-finished': {
      const { policy, status, archived, due, error } = event.report
      return { ...head, policy, status, rows: archived, due, ...(error === undefined ? {} : { error }) }
    }
    case 'step-finished': {
      const { policy, rows, due, step, steps, milliseconds, archive } = event
      const name = archive === undefined ? {} : { archive: archive.name }
      return { ...head, policy, rows, due, step, steps, milliseconds, ...name }
    }
    case 'policy-started':
      return { ...head, policy: event.policy }
    case 'wait-started':
      return { ...head, policy: event.policy, reason: event.reason }
    case 'wait-finished':
      return { ...head, policy: event.policy, reason: event.reason, milliseconds: event.milliseconds }
  }
}

/** The progress of policies after one more event. */
export function followed(policies: readonly PolicyProgress[], event: RunEvent): readonly PolicyProgress[] {
  if (!('policy' in event)) return policies
  return policies.map((known) => (known.policy === event.policy ? after(known, event) : known))
}

function after(known: PolicyProgress, event: RunEvent): PolicyProgress {
  switch (event.type) {
    case 'policy-started':
      return { ...known, state: 'running' }
    case 'step-finished': {
      const { rows, due, step, steps } = event
      return { ...known, rows, due, step, steps }
    }
    case 'wait-started':
      return { ...known, waitsFor: event.reason }
    case 'wait-finished':
      return { ...known, waitsFor: null }
    case 'policy-finished': {
      const { archived: rows, due, status } = event.report
      return { ...known, state: 'finished', rows, due, waitsFor: null, status }
    }
    default:
      return known
  }
}
