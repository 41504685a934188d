/** Requests to Google Drive over HTTP: signed in, and made again where that may help. */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'

import { RetentionError } from '../errors.ts'
import { renewToken, signedIn } from './gdrive-credentials.ts'
import { DriveError, driveErrorOf, isPassing } from './gdrive-errors.ts'

/** How often a request is made in all, and how long is waited in between, first and at most, in milliseconds. */
const attempts = 9
const firstWait = 100
const longestWait = 16_000
/** How long a connection may be silent, in milliseconds. */
const silence = 60_000

/** A request to Drive. */
export interface DriveRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** A path of the interface, or the whole address of an upload that was begun. */
  readonly to: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  readonly signal?: AbortSignal | undefined
}

/**
 * Makes a request, again where it fails in a way that passes.
 * @param read takes what is wanted from the answer; that it fails half-way is a failure like any other
 * @throws DriveError, and what the network fails with
 */
export async function ask<T>(request: DriveRequest, read: (answer: IncomingMessage) => Promise<T>): Promise<T> {
  const retries = new Retries(request.signal)
  for (;;) {
    try {
      return await read(await askOnce(request))
    } catch (error) {
      await retries.wait(error)
    }
  }
}

/** Makes a request that answers with JSON. */
export async function askJson<T>(request: DriveRequest): Promise<T> {
  return ask(request, async (answer) => jsonOf<T>(answer))
}

/** Makes a request once, or twice where the token has expired. @throws DriveError, and what the network fails with */
export async function askOnce(request: DriveRequest): Promise<IncomingMessage> {
  const answer = await send(request)
  if (answer.statusCode !== 401 || !renewToken()) return unlessError(answer)
  answer.resume()
  return unlessError(await send(request))
}

/** The JSON of an answer. */
export async function jsonOf<T>(answer: IncomingMessage): Promise<T> {
  // Drive's reference says what each request answers; the callers name the fields that they asked for.
  return JSON.parse(await textOf(answer)) as T
}

/** The text of an answer. */
export async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

/** Counts how often something has failed in a row. */
export class Retries {
  readonly #signal: AbortSignal | undefined
  #failures = 0

  constructor(signal?: AbortSignal) {
    this.#signal = signal
  }

  /** It has got further: what failed before does not count. */
  reset(): void {
    this.#failures = 0
  }

  /** Waits before it is tried again. @throws the error, where that would not help, or was done often enough */
  async wait(error: unknown): Promise<void> {
    this.#failures += 1
    if (this.#signal?.aborted === true || !isPassing(error) || this.#failures >= attempts) throw error
    const backoff = Math.min(longestWait, firstWait * 2 ** (this.#failures - 1)) * (0.5 + Math.random())
    const wanted = error instanceof DriveError ? error.retryAfter : undefined
    await sleep(Math.min(longestWait, wanted ?? backoff), undefined, this.#signal && { signal: this.#signal })
  }
}

async function unlessError(answer: IncomingMessage): Promise<IncomingMessage> {
  const { statusCode: status = 0, headers } = answer
  // 308 is an upload that waits for more.
  if (status < 300 || status === 308) return answer
  throw driveErrorOf(status, await textOf(answer), headers['retry-after'])
}

async function send({ method, to, query, headers, body, signal }: DriveRequest): Promise<IncomingMessage> {
  const service = new URL(endpoint())
  const url = new URL(to, service)
  for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value)
  // An address that Drive gave leads to Drive, or gets no token.
  const credentials = url.origin === service.origin ? await signedIn() : {}
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'http:' ? httpRequest : httpsRequest
    const sent = request(url, {
      method,
      headers: { ...headers, ...credentials, ...(method === 'GET' ? {} : { 'content-length': body?.length ?? 0 }) },
      timeout: silence,
      ...(signal === undefined ? {} : { signal }),
    })
    sent.on('timeout', () => sent.destroy(new Error(`no answer for ${silence / 1000} s`)))
    sent.on('error', reject)
    sent.on('response', resolve)
    sent.end(body)
  })
}

/** Where Drive is. Never a part of a target's address: whoever could write one would get the token. */
function endpoint(): string {
  const given = process.env['RETENTION_GDRIVE_ENDPOINT'] || 'https://www.googleapis.com'
  const isSafe = /^https:\/\//i.test(given) || /^http:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\/?$/i.test(given)
  if (isSafe && URL.canParse(given)) return given
  throw new RetentionError(
    'TARGET_UNUSABLE',
    `RETENTION_GDRIVE_ENDPOINT is ${JSON.stringify(given)}, no https:// address`,
    {
      hint: 'The token would go over the network for all to read.',
    },
  )
}
