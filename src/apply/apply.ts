/** `apply` and `plan`: what policies find due, and the run that archives it. */
import { applyPolicy, refuse, targetOf } from './apply-policy.ts'
import { storedName } from '../archive/encoding.ts'
import { archiveBase, archiveName } from '../archive/name.ts'
import type { Config } from '../config/config.ts'
import { formatTableName, milliseconds, type Duration } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { loadProject, nowOption, selectPolicies, type ProjectOptions } from '../config/project.ts'
import { cutoffAt, type Cutoff } from '../cutoff.ts'
import { openDatabase } from '../database/open.ts'
import { RetentionError } from '../errors.ts'
import { Ledger } from '../ledger/ledger.ts'
import { sendNotices } from '../notice/send.ts'
import type { PlanContext } from '../plan/past.ts'
import { planPolicy, type PolicyPlan } from '../plan/plan.ts'
import { failureOf, lockedReport, notBegunReport, reportOf, type Failure } from './policy-report.ts'
import type { ApplyReport, ArchiveReport, PolicyReport } from '../report.ts'
import { policySealer } from '../sealing.ts'
import { isInterrupted, newRun, type Progress, type RunContext, type WaitNotice } from '../plan/step.ts'
import type { Destination } from './steps.ts'

export type { Progress, WaitNotice } from '../plan/step.ts'

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
  /** Is told after every step. */
  onProgress?: (progress: Progress) => void
  /** Is told when apply begins to wait for production, and when it has waited. */
  onWait?: (notice: WaitNotice) => void
}

/**
 * Applies policies: archives what is due, verifies it, deletes or redacts it, and records it in the ledger. One policy's failure
 * does not stop the others: how each ended is in the report.
 * @throws RetentionError when it cannot begin: a mistake in config, policies or options, no database, a newer ledger.
 */
export async function apply(options: ApplyOptions = {}): Promise<ApplyReport> {
  if (options.dryRun === true) return plan(options)
  return run(options, 'write', async (policy, context) => {
    if (isInterrupted(context)) return notBegunReport(policy, context)
    const lock = await context.database.lock(context.ledger.lockName(policy.name))
    if (lock === undefined) return lockedReport(policy, context)
    try {
      return await applyPolicy(policy, context, options.allowLarge === true)
    } finally {
      await lock.release()
    }
  })
}

/** Plans what `apply` would do with the same options. Only reads. @throws as `apply`. */
export async function plan(options: ApplyOptions = {}): Promise<ApplyReport> {
  return run(options, 'read', async (policy, context) => planReport(policy, context, options.allowLarge === true))
}

type PolicyWork = (policy: Policy, context: RunContext) => Promise<PolicyReport>

async function run(options: ApplyOptions, access: 'read' | 'write', work: PolicyWork): Promise<ApplyReport> {
  const started = new Date()
  const now = nowOption(options.now ?? started)
  const { config, policies } = await loadProject(options)
  const selected = selectPolicies(policies, options.policies ?? [])
  const before = beforeOption(options.before, config.timezone)
  const limits = limitsOf(options, config, started)
  const database = await openDatabase(config, access)
  let told: ApplyReport
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
      run: newRun(started),
      signal: options.signal,
      rollbackSignal: options.rollbackSignal,
      ...limits,
      inVain: new Set(),
      onProgress: options.onProgress,
      onWait: options.onWait,
    }
    const reports: PolicyReport[] = []
    for (const policy of selected) {
      const report = work(policy, context)
      reports.push(
        await report.catch((error: unknown) =>
          reportOf(policy, context, undefined, 0, failureOf(error, context, false)),
        ),
      )
    }
    told = {
      run: context.run,
      dryRun: access === 'read',
      startedAt: started.toISOString(),
      finishedAt: new Date().toISOString(),
      policies: reports,
    }
  } finally {
    await database.close()
  }
  if (access === 'read') return told
  const notices = await sendNotices(config.notices, told, options.signal)
  return notices.length === 0 ? told : { ...told, notices }
}

async function planReport(policy: Policy, context: RunContext, allowLarge: boolean): Promise<PolicyReport> {
  const target = targetOf(policy, context.config)
  let planned: PolicyPlan | undefined
  let archives: ArchiveReport[] = []
  let failure: Failure | undefined
  try {
    planned = await planPolicy(policy, context, context.allowance.rows)
    refuse(planned, allowLarge)
    await target.check()
    const sealer = await policySealer(policy, context.config)
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
