/** Requests over HTTP, and what their answers mean for a notice. */
import type { EnvReference } from '../config/sealing.ts'
import { RetentionError } from '../errors.ts'
import type { Answer } from './attempts.ts'

/** The value of a variable. @throws RetentionError `CONFIG_INVALID` where it is not set */
export function valueOf({ env }: EnvReference): string {
  const value = process.env[env]
  if (value) return value
  throw new RetentionError('CONFIG_INVALID', `the environment variable ${env} is not set`)
}

/** An address as the config gives it. @throws RetentionError `CONFIG_INVALID` where it is none */
export function addressOf(given: string | EnvReference): string {
  if (typeof given === 'string') return given
  const url = valueOf(given)
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? '')) return url
  throw new RetentionError('CONFIG_INVALID', `the environment variable ${given.env} holds no "https://…"`)
}

/** Never throws. */
export async function request(url: string, init: RequestInit, signal: AbortSignal): Promise<Answer> {
  try {
    const response = await fetch(url, { ...init, signal, redirect: 'error' })
    await response.body?.cancel()
    return answerOf(response)
  } catch {
    return unanswered(signal)
  }
}

/** What an answer means. */
export function answerOf({ ok, status, headers }: Pick<Response, 'ok' | 'status'> & { headers: HeadersLike }): Answer {
  if (ok) return { again: false, after: 0 }
  return {
    error: `answered ${status}`,
    again: status === 429 || status >= 500,
    after: wait(headers.get('retry-after')),
  }
}

interface HeadersLike {
  get(name: string): string | null
}

/** What it means that there was none. What fetch says may quote the address, which may be a secret. */
export function unanswered(signal: AbortSignal): Answer {
  return { error: signal.aborted ? 'no answer in time' : 'could not be reached', again: true, after: 0 }
}

/** Retry-After has seconds or a date. */
function wait(after: string | null): number {
  if (after === null) return 0
  const milliseconds = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now()
  return milliseconds > 0 ? milliseconds : 0
}
