/** Who gets through to the routes: limits first, then what is too large, then the token or whatever takes its place. */
import { refusal } from './answers.ts'
import { Buckets, limitKey } from './limits.ts'
import { isCrossOrigin, isLoopbackHost, isSame, sentToken } from './token.ts'

/** Who may ask. */
export type Access =
  /** Whoever has the token. */
  | { readonly token: string }
  /** Whoever this says yes to; browsers only from the same origin where a run would start. */
  | { readonly authorize: (request: Request) => boolean | Promise<boolean> }
  /** Whoever is on this machine: for a server on loopback. */
  | 'loopback'

/** What refuses a request; undefined where it may go on. */
export type Gate = (
  request: Request,
  caller: { readonly address?: string | undefined },
) => Promise<Response | undefined>

/** Characters of path and query, and bytes of a body that nobody reads. */
const longestAddress = 2048
const largestBody = 1024

/**
 * A gate with limits of its own: 200 requests at once and 50 a second, and 10 wrong tokens a minute, for each address. Who has the
 * right token is counted apart and always let in: whoever shares an address with others, behind a proxy, must not be locked out
 * by them.
 */
export function gate(access: Access): Gate {
  const [trusted, strangers] = [new Buckets(200, 3000), new Buckets(200, 3000)]
  const wrongTokens = new Buckets(10, 10)
  return async (request, { address }) => {
    const url = new URL(request.url)
    const tooLarge = sizeRefusal(request, url)
    if (tooLarge !== undefined) return tooLarge
    if (url.pathname === '/healthz' || url.pathname === '/readyz') return undefined
    const who = limitKey(address ?? '')
    const token = access !== 'loopback' && 'token' in access ? access.token : undefined
    const sent = token === undefined ? undefined : sentToken(request, url.searchParams)
    const isRight = token !== undefined && sent !== undefined && isSame(sent, token)
    const wait = (isRight ? trusted : strangers).take(who)
    if (wait !== undefined) return tooMany('Too many requests', wait)
    if (access === 'loopback' && !isLoopbackHost(request.headers.get('host')))
      return refusal(403, {
        code: 'HOST_WRONG',
        message: 'Without a token, only requests to localhost are answered',
        hint: 'Set RETENTION_TOKEN to be reached by other names.',
      })
    if (isRight) return undefined
    if (token !== undefined) {
      const locked = sent === undefined ? undefined : wrongTokens.take(who)
      if (locked !== undefined) return tooMany('Too many wrong tokens', locked)
      return unauthorized(sent === undefined ? 'No token was sent' : 'The token is wrong')
    }
    if (access !== 'loopback' && 'authorize' in access && !(await access.authorize(request)))
      return refusal(403, { code: 'FORBIDDEN', message: 'You may not do this' })
    if (changes(url) && isCrossOrigin(request))
      return refusal(403, { code: 'CROSS_ORIGIN', message: 'Another site may not start a run' })
    return undefined
  }
}

function changes({ pathname }: URL): boolean {
  return pathname === '/run-cleanup'
}

function unauthorized(message: string): Response {
  const hint =
    'Send "Authorization: Bearer <token>", or ?token=<token>; it is what RETENTION_TOKEN was when the service started.'
  return refusal(401, { code: 'TOKEN_WRONG', message, hint }, { 'WWW-Authenticate': 'Bearer realm="retention"' })
}

function tooMany(message: string, seconds: number): Response {
  const hint = `Try again in ${seconds} s.`
  return refusal(429, { code: 'TOO_MANY_REQUESTS', message, hint }, { 'Retry-After': String(seconds) })
}

function sizeRefusal(request: Request, url: URL): Response | undefined {
  if (url.pathname.length + url.search.length > longestAddress)
    return refusal(414, { code: 'TOO_LONG', message: `The address is longer than ${longestAddress} characters` })
  const length = request.headers.get('content-length')
  if (length === null && request.headers.has('transfer-encoding'))
    return refusal(
      411,
      { code: 'LENGTH_REQUIRED', message: 'No request needs a body; send none' },
      { Connection: 'close' },
    )
  if (length !== null && !(Number(length) <= largestBody))
    return refusal(413, { code: 'TOO_LARGE', message: 'No request needs a body; send none' }, { Connection: 'close' })
  return undefined
}
