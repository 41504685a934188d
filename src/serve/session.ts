/** A browser's session: a cookie that shows that its user has the token, and holds nothing of it. */
import { createHmac } from 'node:crypto'

import { isSame } from './token.ts'

const name = 'retention_session'

/** Seconds. */
const lifetime = 12 * 60 * 60

/** Whether a request has a session that was begun with this token, and has not ended. */
export function hasSession(request: Request, token: string, now: number): boolean {
  const [, ends = '', proof = ''] =
    new RegExp(`(?:^|; *)${name}=(\\d{10,11})\\.([\\w-]{43})(?:;|$)`).exec(request.headers.get('cookie') ?? '') ?? []
  return Number(ends) > now / 1000 && isSame(proof, proofOf(token, ends))
}

/** `Set-Cookie` that begins a session. @param path where the service stands, such as `/retention` or the empty text */
export function beginSession(request: Request, token: string, path: string, now: number): string {
  const ends = String(Math.floor(now / 1000) + lifetime)
  return cookie(request, `${ends}.${proofOf(token, ends)}`, path, lifetime)
}

/** `Set-Cookie` that ends it. */
export function endSession(request: Request, path: string): string {
  return cookie(request, '', path, 0)
}

function proofOf(token: string, ends: string): string {
  return createHmac('sha256', token).update(`retention session until ${ends}`).digest('base64url')
}

function cookie(request: Request, value: string, path: string, seconds: number): string {
  // Whoever forges the header keeps a cookie from themselves, no more.
  const isSecure = new URL(request.url).protocol === 'https:' || request.headers.get('x-forwarded-proto') === 'https'
  return `${name}=${value}; Path=${path || '/'}; Max-Age=${seconds}; HttpOnly; SameSite=Strict${isSecure ? '; Secure' : ''}`
}
