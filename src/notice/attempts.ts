/** Sends one notice: up to three times, within a time. */
import { setTimeout as sleep } from 'node:timers/promises'

import { messageOf, RetentionError, withoutSecrets } from '../errors.ts'
import type { NoticeMessage, NoticeReport } from '../report.ts'

/** How long sending may take, in milliseconds. */
export interface Patience {
  readonly request: number
  readonly pause: number
  readonly total: number
}

export const usualPatience: Patience = { request: 10_000, pause: 1000, total: 30_000 }
const attemptsAllowed = 3

/** What came of one attempt. */
export interface Answer {
  /** Why the notice did not arrive; undefined where it did. Never a secret. */
  readonly error?: string
  /** Whether it is worth another attempt. */
  readonly again: boolean
  /** Milliseconds that the receiver wants to be left alone. */
  readonly after: number
}

/** Sends a notice once. Throws nothing. @param signal aborted, it gives up */
export type Deliver = (signal: AbortSignal) => Promise<Answer>

/** A notice that is to be sent. */
export interface Envelope {
  readonly to: NoticeReport['to']
  readonly on: NoticeReport['on']
  readonly message: () => Promise<NoticeMessage>
  /** @throws RetentionError where it cannot be sent at all: a package or a variable is missing */
  readonly prepare: (message: NoticeMessage) => Deliver | Promise<Deliver>
}

/** Never throws. @param signal aborted, nothing is tried a second time */
export async function attempt(
  { to, on, message, prepare }: Envelope,
  signal: AbortSignal | undefined,
  patience: Patience,
): Promise<NoticeReport> {
  const failed = (attempts: number, error: string): NoticeReport => ({ to, on, sent: false, attempts, error })
  const total = AbortSignal.timeout(patience.total)
  const deadline = Date.now() + patience.total
  const end = signal === undefined ? total : AbortSignal.any([signal, total])
  let deliver: Deliver
  try {
    deliver = await prepare(withoutAnySecret(await message()))
  } catch (error) {
    const hint = error instanceof RetentionError && error.hint !== undefined ? `: ${error.hint}` : ''
    return failed(0, withoutSecrets(`${messageOf(error)}${hint}`))
  }
  for (let attempts = 1; ; attempts++) {
    const answer = await deliver(AbortSignal.any([total, AbortSignal.timeout(patience.request)]))
    if (answer.error === undefined) return { to, on, sent: true, attempts }
    const pause = Math.max(patience.pause * 2 ** (attempts - 1), answer.after)
    const isLast = !answer.again || attempts === attemptsAllowed || end.aborted || Date.now() + pause > deadline
    if (isLast) return failed(attempts, answer.error)
    await sleep(pause, undefined, { signal: end }).catch(() => {})
    if (end.aborted) return failed(attempts, answer.error)
  }
}

/** A template may take in what our own texts leave out. */
function withoutAnySecret({ subject, text }: NoticeMessage): NoticeMessage {
  if (typeof subject !== 'string' || typeof text !== 'string')
    throw new RetentionError('CONFIG_INVALID', 'the template gives no { subject, text }')
  return { subject: withoutSecrets(subject), text: withoutSecrets(text) }
}
