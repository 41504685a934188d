/** Sends notices to those whom the config names. One that fails is told in the report and fails nothing. */
import type { Config } from '../config/config.ts'
import type { NoticeInput } from '../config/notices.ts'
import { asRetentionError, RetentionError } from '../errors.ts'
import { codeOfApply, exitCode } from '../exit-codes.ts'
import { reported, type ApplyReport, type NoticeFacts, type NoticeReport, type StatusReport } from '../report.ts'
import type { ReportedError } from '../report.ts'
import { attempt, usualPatience, type Envelope, type Patience } from './attempts.ts'
import { compose, isFailed } from './compose.ts'
import { email } from './email.ts'
import { ping } from './ping.ts'
import { slack } from './slack.ts'
import { webhook } from './webhook.ts'

/** Who is told, as the config has it. */
export type Told = Pick<Config, 'notices' | 'ping' | 'name'>

/** How a run ended: with a report, or with the error that kept it from beginning. */
export interface Outcome {
  readonly run: string
  readonly report: ApplyReport | null
  readonly error?: ReportedError
}

type Overdue = Extract<NoticeFacts, { type: 'run' }>['overdue']

/**
 * Tells how a run ended. Never throws.
 * @param ask how policies stand; asked once, and only where somebody wants to know of overdue rows
 * @param signal aborted, nothing is tried a second time
 */
export async function sendNotices(
  { notices, ping: address, name }: Told,
  outcome: Outcome,
  ask: () => Promise<StatusReport>,
  signal?: AbortSignal,
  patience: Patience = usualPatience,
): Promise<NoticeReport[]> {
  const wanted = notices.flatMap((notice) => {
    const report = narrowed(outcome.report, notice.policies)
    // Nothing of what it wants to hear of was in the run.
    return report !== null && report.policies.length === 0 ? [] : [{ notice, report }]
  })
  const asks = outcome.report !== null && wanted.some(({ notice }) => occasions(notice).includes('overdue'))
  const overdue = asks ? await overdueIn(outcome.report, ask) : []
  const envelopes = wanted.flatMap(({ notice, report }): Envelope[] => {
    const late = overdue.filter(({ policy }) => report?.policies.some((known) => known.policy === policy))
    const on = reasonFor(notice, report, late)
    const where = name === undefined ? {} : { database: name }
    return on === undefined ? [] : [envelope(notice, on, { type: 'run', ...where, ...outcome, report, overdue: late })]
  })
  const isGood = outcome.report !== null && codeOfApply(outcome.report) === exitCode.done && signal?.aborted !== true
  if (address !== undefined && isGood)
    envelopes.push({
      to: 'ping',
      on: 'success',
      message: async () => ({ subject: '', text: '' }),
      prepare: () => ping(address, name),
    })
  return Promise.all(envelopes.map(async (one) => attempt(one, signal, patience)))
}

/** A notice as it goes to whom the config names. */
export function envelope(notice: NoticeInput, on: NoticeReport['on'], facts: NoticeFacts): Envelope {
  const message: Envelope['message'] = async () => {
    const usual = compose(facts, notice.language)
    return notice.template === undefined ? usual : notice.template(facts, usual)
  }
  if (notice.email !== undefined) {
    const { email: input } = notice
    return { to: 'email', on, message, prepare: async (text) => email(input, text) }
  }
  if (notice.slack !== undefined) {
    const { slack: address } = notice
    return { to: 'slack', on, message, prepare: async (text) => slack(address, text) }
  }
  const { webhook: input } = notice
  if (input === undefined) throw new RetentionError('UNEXPECTED', 'A notice without anybody to tell')
  return { to: 'webhook', on, message, prepare: (text) => webhook(input, facts, text) }
}

function narrowed(report: ApplyReport | null, names: readonly string[] | undefined): ApplyReport | null {
  if (report === null || names === undefined) return report
  return { ...report, policies: report.policies.filter(({ policy }) => names.includes(policy)) }
}

function occasions({ on = ['failure', 'overdue'] }: NoticeInput): readonly string[] {
  return typeof on === 'string' ? [on] : on
}

/** Why a notice is sent; undefined where it is not. */
function reasonFor(notice: NoticeInput, report: ApplyReport | null, late: Overdue): NoticeReport['on'] | undefined {
  const is = {
    failure: report === null || report.policies.some(isFailed),
    overdue: late.length > 0,
    success: report !== null && codeOfApply(report) === exitCode.done,
    always: true,
  }
  const wanted = occasions(notice)
  return (['failure', 'overdue', 'success', 'always'] as const).find((on) => is[on] && wanted.includes(on))
}

/** The overdue policies of a run. Where that cannot be learned, all of them are told as such: silence would say that all is well. */
async function overdueIn(report: ApplyReport | null, ask: () => Promise<StatusReport>): Promise<Overdue> {
  try {
    const { policies } = await ask()
    return policies.filter(({ overdue }) => overdue).map(({ policy, due, oldest }) => ({ policy, due, oldest }))
  } catch (failure) {
    const error = reported(asRetentionError(failure))
    return (report?.policies ?? []).map(({ policy }) => ({ policy, due: 0, oldest: null, error }))
  }
}
