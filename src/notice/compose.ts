/** What a notice says of a run: a subject and a text. */
import { codeOfApply, exitCode } from '../exit-codes.ts'
import type { ApplyReport, NoticeFacts, NoticeMessage, PolicyReport, ReportedError } from '../report.ts'
import { sizeText, words, type Words } from './words.ts'

type RunFacts = Extract<NoticeFacts, { type: 'run' }>

const mostPolicies = 20
const mostLines = 5

/** Whether a policy ended as nobody wants it to. */
export function isFailed({ status }: Pick<PolicyReport, 'status'>): boolean {
  return status === 'failed' || status === 'refused' || status === 'interrupted'
}

export function compose(facts: NoticeFacts, language: 'en' | 'ko' = 'en'): NoticeMessage {
  const say = words[language]
  switch (facts.type) {
    case 'test':
      return { subject: say.title(say.test.subject, undefined), text: say.test.text }
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
    ...(archived > 0 ? [done(say.number(archived), archives.length, sizeText(bytes))] : []),
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
