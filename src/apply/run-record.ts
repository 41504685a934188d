/** Keeps in the ledger how a policy fared in a run. */
import { hostname } from 'node:os'

import { messageOf, withoutSecrets } from '../errors.ts'
import type { RunContext } from '../plan/step.ts'
import type { PolicyReport } from '../report.ts'

/**
 * Records a policy's report. Where the ledger cannot take it, that is a warning: what was archived is recorded all the same.
 * @param startedAt when the policy's turn began, ISO 8601
 */
export async function recordRun(report: PolicyReport, context: RunContext, startedAt: string): Promise<PolicyReport> {
  // Whoever holds the policy records it.
  if (report.status === 'locked') return report
  const { policy, status, archived: rows, archives, error } = report
  const record = {
    run: context.run,
    policy,
    startedAt,
    finishedAt: new Date().toISOString(),
    status,
    rows,
    bytes: archives.reduce((sum, archive) => sum + archive.bytes, 0),
    error: error === undefined ? null : { code: error.code, message: error.message },
    host: hostname(),
  }
  try {
    await context.database.write((db) => context.ledger.runs.record(db, record))
    return report
  } catch (failure) {
    const text = `How the run ended could not be kept in the ledger: ${withoutSecrets(messageOf(failure))}`
    return { ...report, warnings: [...report.warnings, { level: 'warning', text }] }
  }
}
