/** Who may ask: the token, compared in constant time; and what a browser may be made to ask by another site. */
import { createHash, timingSafeEqual } from 'node:crypto'

import { RetentionError } from '../errors.ts'

const shortest = 16
const howToMake = 'Make one with: node -p "crypto.randomBytes(24).toString(\'base64url\')"'

/**
 * A token that is configured; undefined where none is.
 * @throws RetentionError `USAGE` where it is short, or cannot be sent
 */
export function checkToken(token: string | undefined): string | undefined {
  if (token === undefined || token === '') return undefined
  if (token.length < shortest)
    throw new RetentionError('USAGE', `RETENTION_TOKEN has ${token.length} characters; allowed: at least ${shortest}`, {
      hint: howToMake,
    })
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new RetentionError('USAGE', 'RETENTION_TOKEN has blanks, or characters that are not ASCII', {
      hint: howToMake,
    })
  return token
}

/** What is said where a token is needed and there is none. */
export function tokenMissing(where: string): RetentionError {
  return new RetentionError('USAGE', `Without RETENTION_TOKEN, retention does not serve ${where}`, {
    hint: howToMake,
  })
}

/** What a request has for a token: `Authorization: Bearer`, else `?token=`. */
export function sentToken(request: Request, query: URLSearchParams): string | undefined {
  const [, bearer] = /^Bearer +(\S+) *$/i.exec(request.headers.get('authorization') ?? '') ?? []
  return bearer ?? query.get('token') ?? undefined
}

/** Whether two tokens are the same, in a time that tells nothing of either. */
export function isSame(sent: string, token: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(hash(sent), hash(token))
}

/** Whether an address is this machine's own, which nobody else can reach. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i.test(host)
}

/** Whether a `Host` header names this machine: a name that somebody else has pointed here is refused (DNS rebinding). */
export function isLoopbackHost(header: string | null): boolean {
  return header !== null && isLoopback(header.replace(/:\d+$/, ''))
}

/** Whether a browser says that another site, or another origin, makes it ask. */
export function isCrossOrigin(request: Request): boolean {
  const site = request.headers.get('sec-fetch-site')
  if (site !== null && site !== 'same-origin' && site !== 'none') return true
  const origin = request.headers.get('origin')
  if (origin === null) return false
  const host = request.headers.get('host') ?? new URL(request.url).host
  return !URL.canParse(origin) || new URL(origin).host !== host
}
