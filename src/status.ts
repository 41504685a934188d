/** `status`: how every policy stands, and what the ledger holds. Only reads. */
import { refusalOf, warningsOf } from './database/findings.ts'
import { openDatabase } from './database/open.ts'
import { asRetentionError } from './errors.ts'
import { formatTableName, parseTableName } from './config/fields.ts'
import { expiriesOf } from './prune/expired.ts'
import { Ledger } from './ledger/ledger.ts'
import { policyCutoff, type PlanContext } from './plan/past.ts'
import { fingerprint } from './plan/plan.ts'
import { surveyPolicy, type Survey } from './plan/survey.ts'
import type { Policy } from './config/policy.ts'
import { nextTimes } from './schedule/times.ts'
import { loadProject, nowOption, selectPolicies, type ProjectOptions } from './config/project.ts'
import { reported, type PolicyStanding, type ReportedError, type StatusReport } from './report.ts'

/** What `status` can be told. */
export interface StatusOptions extends ProjectOptions {
  /** The policies to report on, by name. Default: all. */
  policies?: readonly string[]
  /** The time that cutoffs are computed from. Default: the clock. */
  now?: Date
}

/** Rows may be due this long before a policy counts as overdue: a nightly run that failed once is made up for. */
const graceDays = 2

/** The runs that are told. */
const runDays = 31
const mostRuns = 500

/**
 * Reports how policies stand.
 * @throws RetentionError when it cannot begin: a mistake in config or policies, no database, a newer ledger.
 */
export async function status(options: StatusOptions = {}): Promise<StatusReport> {
  const now = nowOption(options.now)
  const { config, policies } = await loadProject(options, 'config')
  const selected = selectPolicies(policies, options.policies ?? [])
  const database = await openDatabase(config, 'read')
  try {
    const ledger = await Ledger.forReading(database, config.ledger)
    const context: PlanContext = { config, database, ledger, now, before: undefined }
    const standings: PolicyStanding[] = []
    for (const policy of selected) standings.push(await standingOf(policy, context))
    const names = options.policies?.length ? selected.map((policy) => policy.name) : undefined
    return await database.read(async (db) => ({
      policies: standings,
      archives: await ledger.entries(db, names),
      erasures: await ledger.erasures.all(db, names),
      moves: await ledger.moves.files(db, names),
      runs: await ledger.runs.since(
        db,
        new Date(Date.now() - runDays * 24 * 60 * 60 * 1000).toISOString(),
        mostRuns,
        names,
      ),
    }))
  } finally {
    await database.close()
  }
}

async function standingOf(policy: Policy, context: PlanContext): Promise<PolicyStanding> {
  const { ledger, database, config, now } = context
  const found = await surveyPolicy(policy, context).catch((error: unknown) => error)
  const survey = isSurvey(found) ? found : undefined
  const table = formatTableName(survey?.table?.name ?? policy.table)
  const { summary, runs, holds, entries } = await database.read(async (db) => {
    const known = survey?.table ?? (await database.findTable(db, policy.table))
    const along = (survey?.children ?? []).flatMap(({ table: name }) => parseTableName(name) ?? [])
    const names = [...(known?.relatives ?? [policy.table]), ...along]
    return {
      summary: await ledger.summary(db, policy.name),
      runs: await ledger.runs.summary(db, policy.name),
      holds: await ledger.holds.on(db, { policy: policy.name, names }, now),
      entries: await ledger.entries(db, [policy.name]),
    }
  })
  const error = errorOf(found)
  const { expireAfter, expired, next } = expiriesOf(policy, config, entries, now)
  return {
    policy: policy.name,
    table,
    action: policy.action,
    cutoff: policyCutoff(policy, context).instant,
    due: survey?.due ?? 0,
    held: survey?.held ?? 0,
    undated: survey?.undated ?? 0,
    oldest: survey?.oldest ?? null,
    overdue: survey !== undefined && isOverdue(survey),
    archived: summary.rows,
    archives: summary.archives,
    archivedBytes: summary.bytes,
    expireAfter,
    expired: expired.length,
    nextExpiry: next,
    lastAppliedAt: summary.lastAppliedAt,
    lastRun: runs.last,
    lastSuccessAt: runs.lastSuccess?.finishedAt ?? null,
    failedRuns: runs.failures,
    nextRunAt: (policy.schedule && nextTimes(policy.schedule, now, 1)[0]?.toISOString()) ?? null,
    changed: summary.lastFingerprint !== null && summary.lastFingerprint !== fingerprint(policy),
    holds,
    warnings: warningsOf(survey?.findings ?? []),
    ...(error === undefined ? {} : { error }),
  }
}

function isSurvey(found: unknown): found is Survey {
  return typeof found === 'object' && found !== null && 'findings' in found
}

function errorOf(found: unknown): ReportedError | undefined {
  const error = isSurvey(found) ? refusalOf(found.findings) : found
  if (error === undefined) return undefined
  return reported(asRetentionError(error))
}

/** Whether the oldest due row was due days ago. Times without a zone are taken for UTC: a day's grace hides that. */
function isOverdue({ oldestDue, cutoff }: Survey): boolean {
  if (oldestDue === undefined) return false
  const oldest = Date.parse(
    /(Z|[+-]\d\d:\d\d)$/i.test(oldestDue) || oldestDue.length <= 10 ? oldestDue : `${oldestDue}Z`,
  )
  // What is too old to be read is overdue.
  return Number.isNaN(oldest) || oldest < Date.parse(cutoff.instant) - graceDays * 24 * 60 * 60 * 1000
}
