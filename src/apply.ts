/** `apply` and `plan`: what policies find due, and the run that archives it. */
import { setTimeout as sleep } from 'node:timers/promises'

import { archiveBase, archiveName } from './archive/name.ts'
import type { Config } from './config/config.ts'
import { cutoffAt, type Cutoff } from './cutoff.ts'
import type { Finding } from './database/database.ts'
import { refusalOf, warningsOf } from './database/findings.ts'
import { openDatabase } from './database/open.ts'
import { RetentionError } from './errors.ts'
import { milliseconds, type Duration } from './config/fields.ts'
import { Ledger, type LedgerEntry } from './ledger/ledger.ts'
import { countDue, planPolicy, type PlanContext, type PolicyPlan } from './plan.ts'
import type { Policy } from './config/policy.ts'
import { loadProject, nowOption, selectPolicies, type ProjectOptions } from './config/project.ts'
import { inLanes } from './lanes.ts'
import { failureOf, lockedReport, notBegunReport, reportOf, type Failure } from './policy-report.ts'
import type { ApplyReport, ArchiveReport, PolicyReport } from './report.ts'
import { archiveStep } from './runner.ts'
import { isInterrupted, newRun, type RunContext } from './step.ts'
import { spaceAfter } from './reclaim.ts'
import { openTarget } from './target/open.ts'
import type { Target } from './target/target.ts'

/** How far a run has come. */
export interface Progress {
  readonly policy: string
  /** Rows archived so far, and rows that are to be. */
  readonly rows: number
  readonly due: number
  /** Archives made so far, and archives planned. */
  readonly step: number
  readonly steps: number
}

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
}

/**
 * Applies policies: archives what is due, verifies it, deletes it, and records it in the ledger. One policy's failure
 * does not stop the others: how each ended is in the report.
 * @throws RetentionError when it cannot begin: a mistake in config, policies or options, no database, a newer ledger.
 */
export async function apply(options: ApplyOptions = {}): Promise<ApplyReport> {
  if (options.dryRun === true) return plan(options)
  return run(options, 'write', async (policy, context, limits) => {
    if (isInterrupted(context)) return notBegunReport(policy, context)
    const lock = await context.database.lock(context.ledger.lockName(policy.name))
    if (lock === undefined) return lockedReport(policy, context)
    try {
      return await applyPolicy(policy, context, limits)
    } finally {
      await lock.release()
    }
  })
}

/** Plans what `apply` would do with the same options. Only reads. @throws as `apply`. */
export async function plan(options: ApplyOptions = {}): Promise<ApplyReport> {
  return run(options, 'read', planReport)
}

interface Limits {
  readonly options: ApplyOptions
  /** Milliseconds since 1970. */
  readonly deadline: number
  /** Rows that this run may still archive. */
  rows: number
}

type PolicyWork = (policy: Policy, context: RunContext, limits: Limits) => Promise<PolicyReport>

async function run(options: ApplyOptions, access: 'read' | 'write', work: PolicyWork): Promise<ApplyReport> {
  const started = new Date()
  const now = nowOption(options.now ?? started)
  const { config, policies } = await loadProject(options)
  const selected = selectPolicies(policies, options.policies ?? [])
  const before = beforeOption(options.before, config.timezone)
  const limits = limitsOf(options, started)
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
      run: newRun(started),
      signal: options.signal,
      rollbackSignal: options.rollbackSignal,
    }
    const reports: PolicyReport[] = []
    for (const policy of selected) {
      const report = work(policy, context, limits)
      reports.push(
        await report.catch((error: unknown) =>
          reportOf(policy, context, undefined, 0, failureOf(error, context, false)),
        ),
      )
    }
    return {
      run: context.run,
      dryRun: access === 'read',
      startedAt: started.toISOString(),
      finishedAt: new Date().toISOString(),
      policies: reports,
    }
  } finally {
    await database.close()
  }
}

/** Archives what one policy finds due, pass after pass, until nothing is left or nothing more can be done. */
async function applyPolicy(policy: Policy, context: RunContext, limits: Limits): Promise<PolicyReport> {
  const { options } = limits
  const target = targetOf(policy, context.config)
  const done: Done = { begun: false, entries: [], skipped: 0, inTheWay: [], stays: undefined }
  let first: PolicyPlan | undefined
  let failure: Failure | undefined
  let remaining: number | undefined
  try {
    // Rows that become due by a late insert or update while we run are met by another pass. That each pass but the
    // last archives something makes an end of it; for a table that is written in the past without pause, the bound.
    for (let pass = 1; pass <= 10; pass += 1) {
      const planned = await planPolicy(policy, context, limits.rows)
      first ??= planned
      refuse(planned, options)
      if (pass === 1) await target.check()
      if (planned.steps.length === 0) break
      if (pass === 1) await target.prepare()
      const before = rowsOf(done)
      const { grew } = await applySteps(planned, target, context, limits, done, first.due)
      const due = remaining ?? planned.due
      remaining = await countLeft(policy, context, first, rowsOf(done))
      if (remaining === 0 || done.skipped > 0 || isOver(limits, context)) break
      // Were it not for this, rows that a trigger puts back would be archived again and again.
      if (remaining >= due && !grew) done.stays = stayFinding(remaining, rowsOf(done) - before)
      if (done.stays !== undefined) break
    }
  } catch (error) {
    failure = failureOf(error, context, done.begun)
    remaining = await countLeft(policy, context, first, rowsOf(done))
  }
  const archived = rowsOf(done)
  const after = { policy, table: first?.table?.name, archived, failure: failure?.error, deadline: limits.deadline }
  const { space, warnings } = await spaceAfter(after, context)
  return {
    ...reportOf(policy, context, first, remaining ?? first?.due ?? 0, failure),
    archived,
    skipped: done.skipped,
    warnings: [
      ...warningsOf(first?.findings ?? []),
      ...(done.stays === undefined ? [] : [done.stays]),
      ...done.inTheWay.map((text): Finding => ({ level: 'warning', text })),
      ...warnings,
    ],
    ...(space === undefined ? {} : { space }),
    archives: done.entries.toSorted(byTime).map(({ name, location, rows, bytes, sha256, from, to }) => ({
      name,
      location,
      rows,
      bytes,
      sha256,
      from,
      to,
    })),
  }
}

/** How many rows are due at the end; where the database cannot say any more, by our own count. */
async function countLeft(
  policy: Policy,
  context: RunContext,
  planned: PolicyPlan | undefined,
  archived: number,
): Promise<number> {
  if (planned?.time === undefined) return 0
  const counted = countDue(policy, planned.cutoff, planned.time.storage, context)
  return counted.catch(() => Math.max(0, planned.due - archived))
}

/** What has been done for a policy so far. */
interface Done {
  /** Whether a step has been begun. */
  begun: boolean
  readonly entries: LedgerEntry[]
  skipped: number
  readonly inTheWay: string[]
  /** Why as many rows are due as before, where they are. */
  stays: Finding | undefined
}

function stayFinding(remaining: number, archived: number): Finding {
  const text =
    archived === 0
      ? `${remaining} rows are due, and none of them was deleted`
      : `${archived} rows were archived, and ${remaining} are due as before: something writes rows that are past their time`
  return {
    level: 'warning',
    text,
    hint: 'Look at the triggers that run when rows are deleted, and at who writes to the table.',
  }
}

/** Makes the planned steps, until a limit is reached or one has grown, so that what is left must be planned anew. */
async function applySteps(
  { policy, cutoff, time, steps, lanes }: PolicyPlan,
  target: Target,
  context: RunContext,
  limits: Limits,
  done: Done,
  due: number,
): Promise<{ grew: boolean }> {
  const { bom } = policy.archive ?? context.config.archive
  let [begun, ended] = [0, 0]
  let grew = false
  await inLanes(steps, lanes, async (step) => {
    if (begun >= lanes && policy.pause > 0) {
      await sleep(policy.pause, undefined, { signal: context.signal }).catch(() => {})
    }
    if (isOver(limits, context)) return false
    begun += 1
    done.begun = true
    // Steps beside this one must not take the same rest of a limit.
    const most = limits.rows === Infinity ? policy.batch : step.rows
    limits.rows -= step.rows
    let archived = 0
    try {
      const order = { policy, cutoff, step, most, storage: time?.storage, target, bom }
      const result = await archiveStep(order, context)
      archived = result.entry?.rows ?? 0
      done.skipped += result.skipped
      done.inTheWay.push(...result.inTheWay)
      if (result.entry !== undefined) done.entries.push(result.entry)
      grew ||= result.grew
      if (result.grew) return false
    } finally {
      limits.rows += step.rows - archived
    }
    ended += 1
    limits.options.onProgress?.({ policy: policy.name, rows: rowsOf(done), due, step: ended, steps: steps.length })
    return true
  })
  return { grew }
}

/** Side by side, a later step may end first. Of one time, names differ in their number alone, the first having none. */
function byTime(a: LedgerEntry, b: LedgerEntry): number {
  if (a.from !== b.from) return a.from < b.from ? -1 : 1
  return a.name.length - b.name.length || (a.name < b.name ? -1 : 1)
}

function rowsOf({ entries }: Done): number {
  return entries.reduce((rows, entry) => rows + entry.rows, 0)
}

async function planReport(policy: Policy, context: RunContext, limits: Limits): Promise<PolicyReport> {
  const target = targetOf(policy, context.config)
  let planned: PolicyPlan | undefined
  let archives: ArchiveReport[] = []
  let failure: Failure | undefined
  try {
    planned = await planPolicy(policy, context, limits.rows)
    refuse(planned, limits.options)
    await target.check()
    archives = await plannedArchives(planned, target, context)
  } catch (error) {
    failure = failureOf(error, context, false)
  }
  const rows = archives.reduce((sum, archive) => sum + archive.rows, 0)
  limits.rows -= rows
  const due = planned?.due ?? 0
  return { ...reportOf(policy, context, planned, due - rows, failure), remaining: due, archives }
}

/** The archives that apply would make. Their numbers are those that would be claimed if nobody else claimed any. */
async function plannedArchives(
  { policy, cutoff, steps }: PolicyPlan,
  target: Target,
  context: PlanContext,
): Promise<ArchiveReport[]> {
  const base = archiveBase(policy.name, cutoff.day)
  const last = await context.database.read((db) => context.ledger.lastNumber(db, base))
  return steps.map((step, index) => {
    const name = archiveName(base, last + index + 1)
    return {
      name,
      location: target.locate(name),
      rows: step.rows,
      bytes: step.estimatedBytes,
      sha256: null,
      from: step.from,
      to: step.to,
    }
  })
}

/** @throws RetentionError `REFUSED`, `PLAN_TOO_LARGE` */
function refuse(planned: PolicyPlan, options: ApplyOptions): void {
  const refusal = refusalOf(planned.findings)
  if (refusal !== undefined) throw refusal
  if (planned.tooLarge !== undefined && options.allowLarge !== true) {
    throw new RetentionError('PLAN_TOO_LARGE', planned.tooLarge, {
      hint: 'Check the policy; if it is right, run with --allow-large.',
    })
  }
}

function targetOf(policy: Policy, config: Config): Target {
  return openTarget(policy.archive ?? config.archive, config.folder)
}

function isOver({ deadline, rows }: Limits, context: RunContext): boolean {
  return isInterrupted(context) || Date.now() >= deadline || rows <= 0
}

function limitsOf(options: ApplyOptions, started: Date): Limits {
  const { limitRows, maxTime } = options
  if (limitRows !== undefined && !(Number.isSafeInteger(limitRows) && limitRows > 0)) {
    throw new RetentionError('USAGE', `--limit-rows is ${limitRows}; allowed: a whole number, at least 1`)
  }
  const time = maxTime === undefined ? Infinity : milliseconds(maxTime)
  if (time === undefined)
    throw new RetentionError('USAGE', `--max-time is "${maxTime}"; allowed: a duration, such as "30s" or "10m"`)
  return { options, deadline: started.getTime() + time, rows: limitRows ?? Infinity }
}

function beforeOption(before: string | undefined, timezone: string): Cutoff | undefined {
  if (before === undefined) return undefined
  const cutoff = cutoffAt(before, timezone)
  if (cutoff === undefined)
    throw new RetentionError('USAGE', `--before is "${before}"; allowed: a day, such as 2026-10-23`)
  return cutoff
}
