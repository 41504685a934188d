/** What a notice says of a run, of a week or of itself: a subject and a text. */
import { codeOfApply, exitCode } from '../exit-codes.ts'
import type { ApplyReport, NoticeFacts, NoticeMessage, PolicyReport, PolicyStanding, ReportedError } from '../report.ts'
import { size, words, type Week, type Words } from './words.ts'

type RunFacts = Extract<NoticeFacts, { type: 'run' }>
type DigestFacts = Extract<NoticeFacts, { type: 'digest' }>

const mostPolicies = 20
const mostLines = 5
/** The runs that a status tells at most. */
const mostRuns = 500

/** Whether a policy ended as nobody wants it to. */
export function isFailed({ status }: Pick<PolicyReport, 'status'>): boolean {
  return status === 'failed' || status === 'refused' || status === 'interrupted'
}

export function compose(facts: NoticeFacts, language: 'en' | 'ko' = 'en'): NoticeMessage {
  const say = words[language]
  switch (facts.type) {
    case 'test':
      return { subject: say.title(say.test.subject, undefined), text: say.test.text }
    case 'digest':
      return digest(facts, say)
    case 'run':
      return {
        subject: say.title(runSubject(facts, say), facts.database),
        text: paragraphs(runTexts(facts, say)),
      }
  }
}

function paragraphs(texts: readonly string[]): string {
  return texts.filter((text) => text !== '').join('\n\n')
}

function runSubject({ report, overdue }: RunFacts, say: Words): string {
  if (report === null) return say.notBegun
  const failed = report.policies.filter(isFailed).length
  if (failed > 0) return say.failed(failed, report.policies.length)
  if (overdue.length > 0) return say.overdueIn(overdue.length)
  const rows = report.policies.reduce((sum, { archived }) => sum + archived, 0)
  if (codeOfApply(report) !== exitCode.done) return say.stopped(say.number(rows))
  return rows === 0 ? say.nothingDue : say.archivedRows(say.number(rows))
}

function runTexts({ run, report, error, overdue }: RunFacts, say: Words): string[] {
  if (report === null) return [say.runAlone(run), error === undefined ? '' : errorLines(error, say).join('\n')]
  const late = new Map(overdue.map((standing) => [standing.policy, standing]))
  // What somebody has to do something about comes first.
  const sorted = report.policies.toSorted(
    (a, b) => Number(isFailed(b)) - Number(isFailed(a)) || Number(late.has(b.policy)) - Number(late.has(a.policy)),
  )
  const more = sorted.length - mostPolicies
  return [
    say.run(run, say.seconds(secondsOf(report))),
    ...sorted.slice(0, mostPolicies).map((policy) => policyText(policy, late.get(policy.policy), say)),
    more > 0 ? say.more(more) : '',
  ]
}

function secondsOf({ startedAt, finishedAt }: ApplyReport): number {
  return Math.round((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)
}

function policyText(policy: PolicyReport, late: RunFacts['overdue'][number] | undefined, say: Words): string {
  const { archived, archives, remaining, held, skipped, error, warnings } = policy
  const bytes = archives.reduce((sum, archive) => sum + archive.bytes, 0)
  const done = policy.action === 'redact' ? say.redacted : say.archived
  return [
    `${policy.policy}: ${say.status[policy.status]}`,
    ...(archived > 0 ? [done(say.number(archived), archives.length, size(bytes))] : []),
    ...some(
      archives.map(({ location }) => location),
      say,
    ),
    ...(remaining > 0 ? [say.dueLeft(say.number(remaining))] : []),
    ...(held > 0 ? [say.held(say.number(held))] : []),
    ...(skipped > 0 ? [say.skipped(say.number(skipped))] : []),
    ...(late === undefined ? [] : [lateLine(late, say)]),
    ...(error === undefined ? [] : errorLines(error, say)),
    ...some(
      warnings.map(({ text, hint }) => say.warning(hint === undefined ? text : `${text} (${hint})`)),
      say,
    ),
  ].join('\n')
}

function lateLine({ due, oldest, error }: RunFacts['overdue'][number], say: Words): string {
  return error === undefined ? say.overdue(say.number(due), oldest?.slice(0, 10) ?? null) : say.unasked(error.message)
}

function errorLines({ message, hint }: ReportedError, say: Words): string[] {
  return [message, ...(hint === undefined ? [] : [say.hint(hint)])]
}

function some(lines: readonly string[], say: Words): string[] {
  return [...lines.slice(0, mostLines), ...(lines.length > mostLines ? [say.more(lines.length - mostLines)] : [])]
}

function digest({ from, to, status, database }: DigestFacts, say: Words): NoticeMessage {
  const more = status.policies.length - mostPolicies
  const sorted = status.policies.toSorted((a, b) => Number(needsCare(b)) - Number(needsCare(a)))
  return {
    subject: say.title(say.digest(from.slice(0, 10), to.slice(0, 10)), database),
    text: paragraphs([
      say.week(weekOf({ from, status }, say)),
      ...sorted.slice(0, mostPolicies).map((policy) => standingText(policy, say)),
      more > 0 ? say.more(more) : '',
    ]),
  }
}

/** What was archived is told by the ledger, as the list of runs may be cut short. */
function weekOf({ from, status: { archives, runs } }: Pick<DigestFacts, 'from' | 'status'>, say: Words): Week {
  const made = archives.filter(({ archivedAt }) => archivedAt >= from)
  const held = runs.filter(({ startedAt }) => startedAt >= from)
  return {
    rows: say.number(made.reduce((sum, { rows }) => sum + rows, 0)),
    archives: made.length,
    size: size(made.reduce((sum, { bytes }) => sum + bytes, 0)),
    runs: held.length,
    // Of a run the ledger keeps the policy's status.
    failed: held.filter(({ status }) => isFailed({ status: status as PolicyReport['status'] })).length,
    atLeast: held.length >= mostRuns,
  }
}

function needsCare({ overdue, error }: PolicyStanding): boolean {
  return overdue || error !== undefined
}

function standingText(standing: PolicyStanding, say: Words): string {
  const { policy, due, overdue, held, oldest, expired, nextExpiry, lastSuccessAt, error } = standing
  const rows = say.number(due)
  return [
    policy,
    overdue ? say.overdue(rows, oldest?.slice(0, 10) ?? null) : due > 0 ? say.due(rows) : say.noneDue,
    ...(held > 0 ? [say.held(say.number(held))] : []),
    say.lastSuccess(lastSuccessAt?.slice(0, 10) ?? null),
    ...(expired > 0 ? [say.expired(expired)] : []),
    ...(nextExpiry === null ? [] : [say.expires(nextExpiry.slice(0, 10))]),
    ...(error === undefined ? [] : errorLines(error, say)),
  ].join('\n')
}
