/** What happens in a run of apply, told as it happens: for progress bars, logs, traces and whoever watches from afar. */
import type { ApplyReport, ArchiveReport, PolicyReport, ReportedError } from './report.ts'

/** One thing that happened. Of a policy, `policy-started` comes first and `policy-finished` last; policies do not overlap. */
export type RunEvent = RunStarted | PolicyStarted | StepFinished | WaitStarted | WaitFinished | PolicyFinished | RunEnd

interface Happened {
  readonly run: string
  /** Where the config has several. */
  readonly database?: string
  /** ISO 8601. */
  readonly at: string
}

/** The first of a run. */
interface RunStarted extends Happened {
  readonly type: 'run-started'
  /** Those that will be applied, in their order. */
  readonly policies: readonly string[]
}

interface PolicyStarted extends Happened {
  readonly type: 'policy-started'
  readonly policy: string
}

/** A planned step has been made, in one archive or more. */
interface StepFinished extends Happened {
  readonly type: 'step-finished'
  readonly policy: string
  /** Rows archived so far, and rows that are to be. */
  readonly rows: number
  readonly due: number
  /** Planned steps made so far, and planned steps. */
  readonly step: number
  readonly steps: number
  /** The archive that was made last; undefined where there was nothing left to take. */
  readonly archive: ArchiveReport | undefined
  /** How long it took to make it. */
  readonly milliseconds: number
}

/** Apply waits for production. */
interface WaitStarted extends Happened {
  readonly type: 'wait-started'
  readonly policy: string
  /** What production feels, in words. */
  readonly reason: string
}

interface WaitFinished extends Happened {
  readonly type: 'wait-finished'
  readonly policy: string
  readonly reason: string
  readonly milliseconds: number
}

interface PolicyFinished extends Happened {
  readonly type: 'policy-finished'
  readonly policy: string
  readonly report: PolicyReport
}

/** The last of a run: how it ended, or what kept it from going on at all. */
type RunEnd =
  | (Happened & { readonly type: 'run-finished'; readonly report: ApplyReport })
  | (Happened & { readonly type: 'run-failed'; readonly error: ReportedError })

/** An event as whoever tells it knows it: which run, and when, is added. */
export type ToldEvent = RunEvent extends infer Event
  ? Event extends Happened
    ? Omit<Event, keyof Happened>
    : never
  : never
