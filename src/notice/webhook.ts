/** A notice as a signed request, as https://www.standardwebhooks.com has it. */
import { createHmac, randomUUID } from 'node:crypto'

import type { WebhookInput } from '../config/notices.ts'
import { RetentionError } from '../errors.ts'
import type { NoticeFacts, NoticeMessage } from '../report.ts'
import type { Deliver } from './attempts.ts'
import { addressOf, request, valueOf } from './http.ts'

const types = { run: 'run.finished', test: 'test' }

/** @throws RetentionError `CONFIG_INVALID` where a variable does not hold what it should */
export function webhook(input: WebhookInput, facts: NoticeFacts, message: NoticeMessage): Deliver {
  const url = addressOf(input.url)
  const secret = valueOf(input.secret)
  if (!/^(whsec_)?[a-z0-9+/]{2,}={0,2}$/i.test(secret))
    throw new RetentionError(
      'CONFIG_INVALID',
      `the environment variable ${input.secret.env} does not hold "whsec_" and base64`,
    )
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  const body = JSON.stringify({ ...facts, type: types[facts.type], ...message })
  // The same in all attempts: by it, the receiver knows what it has had before.
  const id = `msg_${randomUUID()}`
  return async (signal) => {
    const at = String(Math.floor(Date.now() / 1000))
    const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')
    const headers = {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': at,
      'webhook-signature': `v1,${signature}`,
    }
    return request(url, { method: 'POST', headers, body }, signal)
  }
}
