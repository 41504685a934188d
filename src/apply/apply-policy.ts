/** Applies one policy: pass after pass, until nothing is left or nothing more can be done. */
import type { ChildRows } from '../plan/children.ts'
import type { Config } from '../config/config.ts'
import type { Policy } from '../config/policy.ts'
import type { Finding } from '../database/database.ts'
import { refusalOf, warningsOf } from '../database/findings.ts'
import { RetentionError } from '../errors.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { planPolicy, type PolicyPlan } from '../plan/plan.ts'
import { countDue, countHeld } from '../plan/survey.ts'
import { archiveReport, failureOf, holdReport, reportOf, type Failure } from './policy-report.ts'
import { spaceAfter } from './reclaim.ts'
import type { PolicyReport } from '../report.ts'
import { policySealer } from '../sealing.ts'
import { isOver, type RunContext } from '../plan/step.ts'
import { makeSteps, rowsOf, type Destination, type Done } from './steps.ts'
import { openTarget } from '../target/open.ts'
import type { Target } from '../target/target.ts'
import { Throttle } from './throttle.ts'

/** Archives what one policy finds due. Never throws: how it failed is in the report. */
export async function applyPolicy(policy: Policy, context: RunContext, allowLarge: boolean): Promise<PolicyReport> {
  const { allowance } = context
  const target = targetOf(policy, context.config)
  const done: Done = { begun: false, entries: [], skipped: 0, notes: [] }
  const throttle = new Throttle(policy, context)
  let destination: Destination | undefined
  let stays: Finding | undefined
  let first: PolicyPlan | undefined
  let failure: Failure | undefined
  let remaining: number | undefined
  try {
    // Rows that become due by a late insert or update while we run are met by another pass. That each pass but the
    // last archives something makes an end of it; for a table that is written in the past without pause, the bound.
    for (let pass = 1; pass <= 10; pass += 1) {
      const othersWrote = await context.database.watchWriters()
      const planned = await planPolicy(policy, context, allowance.rows)
      first ??= planned
      refuse(planned, allowLarge)
      if (pass === 1) await target.check()
      destination ??= { target, sealer: await policySealer(policy, context.config) }
      if (planned.steps.length === 0) break
      if (pass === 1) await target.prepare()
      const before = rowsOf(done)
      const { hasGrown } = await makeSteps(planned, destination, context, throttle, done, first.due)
      const due = remaining ?? planned.due
      const hasAll = planned.isSteady && rowsOf(done) - before === planned.due
      // To count, dead rows must be passed one by one: a tenth of the whole time.
      remaining =
        hasAll && (await othersWrote().catch(() => undefined)) === 0
          ? 0
          : await countLeft(policy, context, first, rowsOf(done))
      if (remaining === 0 || done.skipped > 0 || throttle.stopped || isOver(context) || allowance.rows <= 0) break
      // Were it not for this, rows that a trigger puts back would be archived again and again.
      if (remaining >= due && !hasGrown) stays = stayFinding(policy, remaining, rowsOf(done) - before)
      if (stays !== undefined) break
    }
  } catch (error) {
    failure = failureOf(error, context, done.begun)
    remaining = await countLeft(policy, context, first, rowsOf(done))
  }
  try {
    await context.database.settle()
  } catch (error) {
    failure ??= failureOf(error, context, done.begun)
  }
  const kept = done.begun ? await countKept(policy, context, first) : undefined
  const archived = rowsOf(done)
  // A partition that was dropped has left nothing behind.
  const deleted = rowsOf({ entries: done.entries.filter(({ partition }) => partition === null) })
  const after = { policy, table: first?.table?.name, deleted, failure: failure?.error, deadline: context.deadline }
  const { space, warnings } = await spaceAfter(after, context)
  return {
    ...reportOf(policy, context, first, remaining ?? first?.due ?? 0, failure),
    ...(kept === undefined ? {} : { held: kept.held, holds: kept.legal.map(holdReport) }),
    archived,
    skipped: done.skipped,
    waits: throttle.waits,
    warnings: [
      ...warningsOf(first?.findings ?? []),
      ...throttle.warnings,
      ...(stays === undefined ? [] : [stays]),
      ...done.notes.map((text): Finding => ({ level: 'warning', text })),
      ...warnings,
    ],
    ...(space === undefined ? {} : { space }),
    ...(first?.children === undefined ? {} : { children: wentAlong(first.children, done.entries) }),
    archives: done.entries.map(archiveReport),
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

/** What has gone along with the rows of some archives. */
function wentAlong(children: readonly ChildRows[], entries: readonly LedgerEntry[]): ChildRows[] {
  const files = entries.flatMap((entry) => entry.files)
  const sum = (table: string, isLink: boolean): number =>
    files.reduce(
      (rows, file) => rows + (file.table === table && (file.link !== undefined) === isLink ? file.rows : 0),
      0,
    )
  return children.map((child) => ({ ...child, rows: sum(child.table, false), references: sum(child.table, true) }))
}

/** What stays at the end, also under holds that have come since it was planned; undefined where nobody can say. */
async function countKept(
  policy: Policy,
  context: RunContext,
  planned: PolicyPlan | undefined,
): Promise<Awaited<ReturnType<typeof countHeld>> | undefined> {
  if (planned?.time === undefined) return undefined
  return countHeld(policy, planned.cutoff, planned.time.storage, context).catch(() => undefined)
}

function stayFinding({ action }: Policy, remaining: number, archived: number): Finding {
  const [done, changed] = action === 'redact' ? ['redacted', 'updated'] : ['deleted', 'deleted']
  const text =
    archived === 0
      ? `${remaining} rows are due, and none of them was ${done}`
      : `${archived} rows were archived, and ${remaining} are due as before: something writes rows that are past their time`
  return {
    level: 'warning',
    text,
    hint: `Look at the triggers that run when rows are ${changed}, and at who writes to the table.`,
  }
}

/** @throws RetentionError `REFUSED`, `PLAN_TOO_LARGE` */
export function refuse(planned: PolicyPlan, allowLarge: boolean): void {
  const refusal = refusalOf(planned.findings)
  if (refusal !== undefined) throw refusal
  if (planned.tooLarge !== undefined && !allowLarge) {
    throw new RetentionError('PLAN_TOO_LARGE', planned.tooLarge, {
      hint: 'Check the policy; if it is right, run with --allow-large.',
    })
  }
}

/** Where a policy's archives go. */
export function targetOf(policy: Policy, config: Config): Target {
  return openTarget(policy.archive ?? config.archive, config.folder)
}
