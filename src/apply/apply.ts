/** `apply` and `plan`: what policies find due, and the run that archives it. */
import { applyPolicy, refuse, targetOf } from './apply-policy.ts'
import { storedName } from '../archive/encoding.ts'
import { archiveBase, archiveName } from '../archive/name.ts'
import type { Config } from '../config/config.ts'
import { formatTableName, milliseconds, type Duration } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { loadDataProject } from '../config/data-policies.ts'
import {
  loadConfig,
  loadProject,
  nowOption,
  selectPolicies,
  textOption,
  type Project,
  type ProjectOptions,
} from '../config/project.ts'
import { cutoffAt, type Cutoff } from '../cutoff.ts'
import { openDatabase } from '../database/open.ts'
import { asRetentionError, RetentionError } from '../errors.ts'
import type { RunEvent } from '../events.ts'
import { Ledger } from '../ledger/ledger.ts'
import type { Outcome } from '../notice/send.ts'
import type { PlanContext } from '../plan/past.ts'
import { planPolicy, type PolicyPlan } from '../plan/plan.ts'
import { failureOf, lockedReport, notBegunReport, reportOf, type Failure } from './policy-report.ts'
import { reported, type ApplyReport, type ArchiveReport, type NoticeReport, type PolicyReport } from '../report.ts'
import { recordRun } from './run-record.ts'
import { policySealer } from '../sealing.ts'
import { runSpans } from '../spans.ts'
import { isInterrupted, newRun, type RunContext } from '../plan/step.ts'
import type { Destination } from './steps.ts'

/** What `apply` can be told. */
export interface ApplyOptions extends ProjectOptions {
  /** The policies to apply, by name. Default: all. */
  policies?: readonly string[]
  /** Plans and changes nothing. Default false. */
  dryRun?: boolean
  /** The most rows to archive in this run. Default: no limit. */
  limitRows?: number
  /** Begins no new step after this long. Default: no limit. */
  maxTime?: Duration
  /**
   * How long a step's transaction may wait for its archive to be stored and read back: past that the upload is given up, the
   * step undone, and the next one smaller. Default: the config's `maxStepTime`, else no limit.
   */
  maxStepTime?: Duration
  /** A day, as `2026-10-23`: only rows before it. It can only narrow what a policy finds due. */
  before?: string
  /** Goes on where `maxRows` or `maxPercent` would refuse. Default false. */
  allowLarge?: boolean
  /** The time that cutoffs are computed from. Default: the clock. */
  now?: Date
  /** Aborted, it lets the running step finish and begins no other. */
  signal?: AbortSignal
  /** Aborted, it rolls the running step back. */
  rollbackSignal?: AbortSignal
  /** What the run is called, in the ledger, manifests and events: no two may be called the same. Default: a name that is made. */
  run?: string
  /** Is told what happens, as it happens. A plan tells nothing. */
  onEvent?: (event: RunEvent) => void
}

/**
 * Applies policies: archives what is due, verifies it, deletes or redacts it, and records it in the ledger. One policy's failure
 * does not stop the others: how each ended is in the report.
 * @throws RetentionError when it cannot begin: a mistake in config, policies or options, no database, a newer ledger.
 */
export async function apply(options: ApplyOptions = {}): Promise<ApplyReport> {
  if (options.dryRun === true) return plan(options)
  const id = options.run === undefined ? newRun(new Date()) : textOption('run', options.run)
  const where = options.database === undefined ? {} : { database: options.database }
  const spans = await runSpans()
  const tell: RunContext['tell'] = (told) => {
    const event: RunEvent = { run: id, ...where, at: new Date().toISOString(), ...told }
    spans(event)
    options.onEvent?.(event)
  }
  const ran = await run(options, { access: 'write', id, tell }, async (policy, context) => {
    const startedAt = new Date().toISOString()
    tell({ type: 'policy-started', policy: policy.name })
    const ended = await applyInTurn(policy, context, options.allowLarge === true)
    const kept = await recordRun(ended, context, startedAt)
    tell({ type: 'policy-finished', policy: policy.name, report: kept })
    return kept
  }).catch(async (error: unknown) => {
    const failure = reported(asRetentionError(error))
    tell({ type: 'run-failed', error: failure })
    await tellOfFailure(options, { run: id, report: null, error: failure })
    throw error
  })
  const { config, report } = ran
  tell({ type: 'run-finished', report })
  const notices = await tellPeople(config, { run: id, report }, options)
  return notices.length === 0 ? report : { ...report, notices }
}

/** Where the config itself can be read, those whom it names are told of a run that could not begin. Never throws. */
async function tellOfFailure(options: ApplyOptions, outcome: Outcome): Promise<void> {
  const config = await loadConfig(options).catch(() => undefined)
  if (config !== undefined) await tellPeople(config, outcome, options)
}

/** Tells those whom the config names how a run ended. Never throws. */
async function tellPeople(config: Config, outcome: Outcome, options: ApplyOptions): Promise<readonly NoticeReport[]> {
  // Most name nobody: what tells people is loaded for those who do.
  if (config.notices.length === 0 && config.ping === undefined) return []
  const [{ sendNotices }, { status }] = [await import('../notice/send.ts'), await import('../status.ts')]
  return sendNotices(config, outcome, async () => status(options), options.signal)
}

/** Applies a policy unless another run holds it. Never throws. */
async function applyInTurn(policy: Policy, context: RunContext, allowLarge: boolean): Promise<PolicyReport> {
  if (isInterrupted(context)) return notBegunReport(policy, context)
  try {
    const lock = await context.database.lock(context.ledger.lockName(policy.name))
    if (lock === undefined) return lockedReport(policy, context)
    try {
      return await applyPolicy(policy, context, allowLarge)
    } finally {
      await lock.release()
    }
  } catch (error) {
    return failedReport(policy, context, error)
  }
}

function failedReport(policy: Policy, context: RunContext, error: unknown): PolicyReport {
  return reportOf(policy, context, undefined, 0, failureOf(error, context, false))
}

/** What `plan` can be told. */
export interface PlanOptions extends ApplyOptions {
  /**
   * A folder of policies to plan in place of the config's, that nobody has looked at yet: its files of JSON and YAML are read as
   * data, and `unplanned` of the report has those that would have to be run. No target is opened. Default: the config's own.
   */
  policiesFrom?: string
}

/** Plans what `apply` would do with the same options. Only reads. @throws as `apply`. */
export async function plan({ policiesFrom, ...options }: PlanOptions = {}): Promise<ApplyReport> {
  const kind: RunKind = { access: 'read', id: newRun(new Date()), tell: () => {} }
  const project =
    policiesFrom === undefined ? undefined : await loadDataProject(options, textOption('policiesFrom', policiesFrom))
  const planWith = project === undefined ? planReport : dataPlanReport
  const { report } = await run(
    options,
    kind,
    async (policy, context) =>
      planWith(policy, context, options.allowLarge === true).catch((error: unknown) =>
        failedReport(policy, context, error),
      ),
    project,
  )
  return project === undefined ? report : { ...report, unplanned: project.unplanned }
}

interface RunKind extends Pick<RunContext, 'tell'> {
  readonly access: 'read' | 'write'
  readonly id: string
}

type PolicyWork = (policy: Policy, context: RunContext) => Promise<PolicyReport>

interface Ran {
  readonly config: Config
  readonly report: ApplyReport
}

async function run(
  options: ApplyOptions,
  { access, id, tell }: RunKind,
  work: PolicyWork,
  project?: Project,
): Promise<Ran> {
  const started = new Date()
  const now = nowOption(options.now ?? started)
  const { config, policies } = project ?? (await loadProject(options))
  const selected = selectPolicies(policies, options.policies ?? [])
  const before = beforeOption(options.before, config.timezone)
  const limits = limitsOf(options, config, started)
  const database = await openDatabase(config, access)
  try {
    const ledger =
      access === 'write'
        ? await Ledger.forWriting(database, config.ledger)
        : await Ledger.forReading(database, config.ledger)
    if (access === 'write') await database.write((db) => ledger.holds.forgetEnded(db, now))
    const context: RunContext = {
      config,
      database,
      ledger,
      now,
      before,
      run: id,
      signal: options.signal,
      rollbackSignal: options.rollbackSignal,
      ...limits,
      inVain: new Set(),
      tell,
    }
    tell({ type: 'run-started', policies: selected.map((policy) => policy.name) })
    const reports: PolicyReport[] = []
    for (const policy of selected) reports.push(await work(policy, context))
    const report: ApplyReport = {
      run: context.run,
      dryRun: access === 'read',
      startedAt: started.toISOString(),
      finishedAt: new Date().toISOString(),
      policies: reports,
    }
    return { config, report }
  } finally {
    await database.close()
  }
}

async function planReport(policy: Policy, context: RunContext, allowLarge: boolean): Promise<PolicyReport> {
  return planFor(policy, context, allowLarge, async (target) => {
    await target.check()
    return policySealer(policy, context.config)
  })
}

/** A plan that opens no target and needs no key. */
async function dataPlanReport(policy: Policy, context: RunContext, allowLarge: boolean): Promise<PolicyReport> {
  const report = await planFor(policy, context, allowLarge, async () => undefined)
  const { error, warnings } = report
  return {
    ...report,
    warnings: warnings.map((warning) => ({ ...warning, text: withoutExamples(warning.text) })),
    ...(error === undefined ? {} : { error: { ...error, message: withoutExamples(error.message) } }),
  }
}

/** Of a column that somebody chose, an example may be anybody's data: from the first to the end of the last. */
function withoutExamples(text: string): string {
  return text.replace(/ \(such as .*\)/s, '')
}

async function planFor(
  policy: Policy,
  context: RunContext,
  allowLarge: boolean,
  sealerFor: (target: Destination['target']) => Promise<Destination['sealer']>,
): Promise<PolicyReport> {
  const target = targetOf(policy, context.config)
  let planned: PolicyPlan | undefined
  let archives: ArchiveReport[] = []
  let failure: Failure | undefined
  try {
    planned = await planPolicy(policy, context, context.allowance.rows)
    refuse(planned, allowLarge)
    const sealer = await sealerFor(target)
    archives = await plannedArchives(planned, { target, sealer }, context)
  } catch (error) {
    failure = failureOf(error, context, false)
  }
  const rows = archives.reduce((sum, archive) => sum + archive.rows, 0)
  context.allowance.rows -= rows
  const due = planned?.due ?? 0
  return { ...reportOf(policy, context, planned, due - rows, failure), remaining: due, archives }
}

/** The archives that apply would make. Their numbers are those that would be claimed if nobody else claimed any. */
async function plannedArchives(
  { policy, cutoff, steps }: PolicyPlan,
  { target, sealer }: Destination,
  context: PlanContext,
): Promise<ArchiveReport[]> {
  const base = archiveBase(policy.name, cutoff.day)
  const last = await context.database.read((db) => context.ledger.lastNumber(db, base))
  return steps.map((step, index) => {
    const name = archiveName(base, last + index + 1)
    return {
      name,
      location: target.locate(storedName(name, sealer?.encoding ?? null)),
      rows: step.rows,
      bytes: step.estimatedBytes,
      sha256: null,
      from: step.from,
      to: step.to,
      ...(step.partition === undefined ? {} : { partition: formatTableName(step.partition) }),
    }
  })
}

function limitsOf(
  { limitRows, maxTime, maxStepTime }: ApplyOptions,
  config: Config,
  started: Date,
): Pick<RunContext, 'deadline' | 'allowance' | 'maxStepTime'> {
  if (limitRows !== undefined && !(Number.isSafeInteger(limitRows) && limitRows > 0)) {
    throw new RetentionError('USAGE', `--limit-rows is ${limitRows}; allowed: a whole number, at least 1`)
  }
  const time = maxTime === undefined ? Infinity : milliseconds(maxTime)
  if (time === undefined)
    throw new RetentionError('USAGE', `--max-time is "${maxTime}"; allowed: a duration, such as "30s" or "10m"`)
  const given = maxStepTime === undefined ? config.maxStepTime : milliseconds(maxStepTime)
  if (maxStepTime !== undefined && (given === undefined || given < 1 || given > 2 ** 31 - 1))
    throw new RetentionError(
      'USAGE',
      `--max-step-time is "${maxStepTime}"; allowed: a duration from "1ms" to "24d", such as "5m"`,
    )
  return {
    deadline: started.getTime() + time,
    allowance: { rows: limitRows ?? Infinity },
    maxStepTime: given === undefined ? undefined : Math.ceil(given),
  }
}

function beforeOption(before: string | undefined, timezone: string): Cutoff | undefined {
  if (before === undefined) return undefined
  const cutoff = cutoffAt(before, timezone)
  if (cutoff === undefined)
    throw new RetentionError('USAGE', `--before is "${before}"; allowed: a day, such as 2026-10-23`)
  return cutoff
}
