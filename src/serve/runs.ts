/** The runs that this process has started: one at a time, each with its latest events and, at the end, its report. */
import { setTimeout as sleep } from 'node:timers/promises'

import { apply, type ApplyOptions } from '../apply/apply.ts'
import { loadProject, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { asRetentionError } from '../errors.ts'
import type { RunEvent } from '../events.ts'
import { codeOfApply, exitCode } from '../exit-codes.ts'
import { newRun } from '../plan/step.ts'
import { reported, type ApplyReport, type ReportedError } from '../report.ts'
import { briefEvent, followed, type BriefEvent, type PolicyProgress } from './progress.ts'

/** How a run stands, as `GET /runs/:id` answers. */
export interface RunView {
  readonly run: string
  /** `failed`: it could not begin, or a policy failed or was refused. */
  readonly state: 'running' | 'finished' | 'failed'
  /** ISO 8601. */
  readonly startedAt: string
  readonly finishedAt: string | null
  /** What the command line would have ended with; null while it runs. */
  readonly exitCode: number | null
  readonly policies: readonly PolicyProgress[]
  /** The latest ones. */
  readonly events: readonly BriefEvent[]
  readonly report: ApplyReport | null
  readonly error: ReportedError | null
}

/** What became of the wish to start a run. */
export type Started = { readonly run: string } | { readonly running: string } | { readonly stopping: true }

/** What is kept: runs that have finished, and events of each run. */
interface Kept {
  readonly runs: number
  readonly events: number
}

/** What is run, and who is told. */
interface RunsOptions extends ProjectOptions {
  readonly onEvent?: ApplyOptions['onEvent']
  /** Is told that a run has ended: what was known of policies and archives is not true any more. */
  onEnd?: () => void
}

interface Run {
  view: Omit<RunView, 'events'>
  events: BriefEvent[]
  /** Resolved, and replaced, when something happens. */
  news: PromiseWithResolvers<void>
}

/** All runs of this process. */
export class Runs {
  readonly #project: ProjectOptions
  readonly #kept: Kept
  readonly #onEvent: RunsOptions['onEvent']
  readonly #onEnd: RunsOptions['onEnd']
  readonly #runs = new Map<string, Run>()
  readonly #finish = new AbortController()
  readonly #rollback = new AbortController()
  #running: { readonly run: string; readonly ended: Promise<void> } | undefined

  constructor({ onEvent, onEnd, ...project }: RunsOptions, kept: Kept = { runs: 50, events: 500 }) {
    this.#project = project
    this.#onEvent = onEvent
    this.#onEnd = onEnd
    this.#kept = kept
  }

  /** The run that goes on now. */
  get running(): string | undefined {
    return this.#running?.run
  }

  /** Resolves when the run that goes on now has ended. */
  async ended(): Promise<void> {
    await this.#running?.ended
  }

  /** Whether `stop` has been called. */
  get isStopping(): boolean {
    return this.#finish.signal.aborted
  }

  /**
   * Starts a run of apply, unless one goes on.
   * @param policies their names; none: all
   * @throws RetentionError `POLICY_UNKNOWN`, `CONFIG_INVALID`, `CONFIG_NOT_FOUND`
   */
  async start(policies: readonly string[]): Promise<Started> {
    const before = this.running
    if (before !== undefined) return { running: before }
    const project = await loadProject(this.#project)
    const selected = selectPolicies(project.policies, policies)
    // From here to the end nothing is awaited: of many that ask at the same time, one starts a run.
    if (this.isStopping) return { stopping: true }
    const meanwhile = this.running
    if (meanwhile !== undefined) return { running: meanwhile }
    const id = newRun(new Date())
    const run: Run = {
      view: {
        run: id,
        state: 'running',
        startedAt: new Date().toISOString(),
        finishedAt: null,
        exitCode: null,
        policies: selected.map(({ name }) => ({ policy: name, state: 'waiting', rows: 0, due: null, waitsFor: null })),
        report: null,
        error: null,
      },
      events: [],
      news: Promise.withResolvers(),
    }
    this.#runs.set(id, run)
    const ended = this.#follow(run, {
      ...this.#project,
      policies,
      run: id,
      signal: this.#finish.signal,
      rollbackSignal: this.#rollback.signal,
      onEvent: (event) => {
        this.#happened(run, event)
        this.#onEvent?.(event)
      },
    })
    this.#running = { run: id, ended }
    return { run: id }
  }

  /** A run; undefined where it is not known, or not any more. */
  view(id: string): RunView | undefined {
    const run = this.#runs.get(id)
    return run === undefined ? undefined : { ...run.view, events: run.events }
  }

  /** All runs that are known, the latest first, without what is long. */
  list(): Omit<RunView, 'events' | 'report'>[] {
    return [...this.#runs.values()]
      .map(({ view: { run, state, startedAt, finishedAt, exitCode: code, policies, error } }) => ({
        run,
        state,
        startedAt,
        finishedAt,
        exitCode: code,
        policies,
        error,
      }))
      .toReversed()
  }

  /**
   * A run's events after one, as they happen, to its end.
   * @param heartbeat every so many milliseconds without an event `undefined` is given
   */
  async *events(id: string, after: number, heartbeat: number): AsyncGenerator<BriefEvent | undefined, void, void> {
    const run = this.#runs.get(id)
    if (run === undefined) return
    for (let last = after; ;) {
      const news = run.news.promise
      const isOver = run.view.state !== 'running'
      for (const event of run.events.filter((one) => one.id > last)) {
        yield event
        last = event.id
      }
      if (isOver) return
      if (await isQuiet(news, heartbeat)) yield undefined
    }
  }

  /**
   * Starts no more runs; the running step may end within `grace` milliseconds, and is rolled back then.
   * @returns when no run goes on
   */
  async stop(grace: number): Promise<void> {
    this.#finish.abort()
    const timer = setTimeout(() => this.#rollback.abort(), grace)
    await this.#running?.ended
    clearTimeout(timer)
  }

  /** Rolls the running step back. */
  rollBack(): void {
    this.#finish.abort()
    this.#rollback.abort()
  }

  async #follow(run: Run, options: ApplyOptions): Promise<void> {
    const outcome = await apply(options).then(
      (report) => {
        const code = codeOfApply(report)
        return { report, exitCode: code, state: code === exitCode.failed ? ('failed' as const) : ('finished' as const) }
      },
      (error: unknown) => ({
        error: reported(asRetentionError(error)),
        exitCode: exitCode.failed,
        state: 'failed' as const,
      }),
    )
    run.view = { ...run.view, ...outcome, finishedAt: new Date().toISOString() }
    this.#running = undefined
    this.#onEnd?.()
    for (const id of [...this.#runs.keys()].slice(0, -this.#kept.runs)) this.#runs.delete(id)
    run.news.resolve()
  }

  #happened(run: Run, event: RunEvent): void {
    run.events = [...run.events, briefEvent(event, (run.events.at(-1)?.id ?? 0) + 1)].slice(-this.#kept.events)
    run.view = { ...run.view, policies: followed(run.view.policies, event) }
    // The last one is told with the report, when the run has ended.
    if (event.type === 'run-finished' || event.type === 'run-failed') return
    run.news.resolve()
    run.news = Promise.withResolvers()
  }
}

/** Whether nothing happens for so long. */
async function isQuiet(news: Promise<void>, milliseconds: number): Promise<boolean> {
  const waiting = new AbortController()
  const quiet = sleep(milliseconds, true, { signal: waiting.signal, ref: false }).catch(() => false)
  try {
    return await Promise.race([news.then(() => false), quiet])
  } finally {
    waiting.abort()
  }
}
