/** Sends what a run came to, to those whom the config names. A notice that fails is told in the report and fails nothing. */
import { createHmac, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import type { NoticeInput } from '../config/notices.ts'
import type { ApplyReport, NoticeReport } from '../report.ts'
import { compose, good } from './compose.ts'

/** How long sending may take, in milliseconds. */
export interface Patience {
  readonly request: number
  readonly pause: number
  readonly total: number
}

const usual: Patience = { request: 10_000, pause: 1000, total: 30_000 }
const attemptsAllowed = 3

/** Never throws. @param signal aborted, nothing is tried a second time */
export async function sendNotices(
  notices: readonly NoticeInput[],
  report: ApplyReport,
  signal?: AbortSignal,
  patience: Patience = usual,
): Promise<NoticeReport[]> {
  const outcome = report.policies.some(({ status }) => !good.has(status)) ? 'failure' : 'success'
  const total = AbortSignal.timeout(patience.total)
  const end = signal === undefined ? total : AbortSignal.any([signal, total])
  const wanted = notices.filter(({ on = 'failure' }) => on === 'always' || on === outcome)
  return Promise.all(wanted.map(async (notice) => send(notice, report, { total, end }, patience)))
}

async function send(
  { webhook }: NoticeInput,
  report: ApplyReport,
  { total, end }: { readonly total: AbortSignal; readonly end: AbortSignal },
  patience: Patience,
): Promise<NoticeReport> {
  const url = typeof webhook.url === 'string' ? webhook.url : process.env[webhook.url.env]
  const secret = process.env[webhook.secret.env]
  const failed = (attempts: number, error: string): NoticeReport => ({ to: 'webhook', sent: false, attempts, error })
  if (!url) return failed(0, 'the environment variable of its url is not set')
  if (!secret) return failed(0, `the environment variable ${webhook.secret.env} is not set`)
  if (!/^(whsec_)?[a-z0-9+/]{2,}={0,2}$/i.test(secret))
    return failed(0, `the environment variable ${webhook.secret.env} does not hold "whsec_" and base64`)
  const body = JSON.stringify({ type: 'run.finished', ...compose(report), report })
  const id = `msg_${randomUUID()}`
  for (let attempt = 1; ; attempt++) {
    const answer = await post(url, secret, id, body, AbortSignal.any([total, AbortSignal.timeout(patience.request)]))
    if (answer.error === undefined) return { to: 'webhook', sent: true, attempts: attempt }
    if (!answer.again || attempt === attemptsAllowed || end.aborted) return failed(attempt, answer.error)
    const pause = Math.max(patience.pause * 2 ** (attempt - 1), answer.after)
    await sleep(pause, undefined, { signal: end }).catch(() => {})
    if (end.aborted) return failed(attempt, answer.error)
  }
}

interface Answer {
  readonly error?: string
  readonly again: boolean
  /** Milliseconds that the receiver wants to be left alone. */
  readonly after: number
}

async function post(url: string, secret: string, id: string, body: string, signal: AbortSignal): Promise<Answer> {
  const at = String(Math.floor(Date.now() / 1000))
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')
  const headers = {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': at,
    'webhook-signature': `v1,${signature}`,
  }
  try {
    const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' })
    await response.body?.cancel()
    if (response.ok) return { again: false, after: 0 }
    const after = Number(response.headers.get('retry-after') ?? 0) * 1000
    const again = response.status === 429 || response.status >= 500
    return { error: `answered ${response.status}`, again, after: Number.isFinite(after) ? after : 0 }
  } catch {
    // What fetch says may quote the address, which may be a secret.
    return { error: signal.aborted ? 'no answer in time' : 'could not be reached', again: true, after: 0 }
  }
}
