/** The service inside another application: as a Fetch handler, and as a Node middleware. */
import type { IncomingMessage, ServerResponse } from 'node:http'

import { getRequestListener } from '@hono/node-server'

import type { ProjectOptions } from '../config/project.ts'
import { RetentionError } from '../errors.ts'
import { refusal } from './answers.ts'
import { createApp, type App } from './app.ts'
import type { Access } from './gate.ts'
import { checkToken, tokenMissing } from './token.ts'

/** How the service stands in another application. */
export interface MountOptions extends ProjectOptions {
  /** What requests must carry: `Authorization: Bearer`, or `?token=`. Default: `RETENTION_TOKEN`. */
  token?: string
  /** Says who may ask, in the token's place; from browsers, only the same origin may start runs. */
  authorize?: (request: Request) => boolean | Promise<boolean>
  /** The path that the application is mounted at, such as `/retention`. Default: the middleware's `req.baseUrl`, else none. */
  basePath?: string
}

/**
 * The service as a Fetch handler: for `app.mount` of Hono, or route handlers of Next.
 * @throws RetentionError `USAGE` where there is neither a token nor `authorize`
 */
export function retentionHandler(options: MountOptions = {}): (request: Request) => Promise<Response> {
  const { app, basePath } = mounted(options)
  return async (request) => {
    const url = new URL(request.url)
    // Some take the prefix away, others do not.
    if (basePath === '' || !(url.pathname === basePath || url.pathname.startsWith(`${basePath}/`)))
      return app.fetch(request, { basePath })
    url.pathname = url.pathname.slice(basePath.length) || '/'
    return app.fetch(new Request(url, { method: request.method, headers: request.headers, signal: request.signal }), {
      basePath,
    })
  }
}

/** A request as Express and its like pass it on, which take the prefix off `url`. */
type MountedRequest = IncomingMessage & {
  readonly baseUrl?: string
  readonly originalUrl?: string
  /** Who asks, with Express' own "trust proxy". */
  readonly ip?: string | undefined
}

/**
 * The service as a middleware of Express, Connect, Fastify (by `@fastify/middie`) or plain `node:http`. What it does not know goes
 * on to `next`, or is answered with 404 where there is none.
 * @throws RetentionError `USAGE` where there is neither a token nor `authorize`
 */
export function retentionMiddleware(
  options: MountOptions = {},
): (request: MountedRequest, response: ServerResponse, next?: (error?: unknown) => void) => void {
  const { app, basePath } = mounted(options)
  return (request, response, next) => {
    const path = pathWithin(basePath, request)
    if (next !== undefined && (path === undefined || !app.has(path))) {
      next()
      return
    }
    const address = request.ip ?? request.socket.remoteAddress
    const listener = getRequestListener(
      async (incoming) => {
        if (path === undefined) return nothingHere()
        const url = new URL(incoming.url)
        const caller = { address, basePath: basePath === '' ? (request.baseUrl ?? '') : basePath }
        if (url.pathname === path) return app.fetch(incoming, caller)
        url.pathname = path
        return app.fetch(
          new Request(url, { method: incoming.method, headers: incoming.headers, signal: incoming.signal }),
          caller,
        )
      },
      { overrideGlobalObjects: false },
    )
    listener(request, response).catch(next ?? (() => response.destroy()))
  }
}

/** The path of a request below the prefix; undefined where it lies elsewhere. */
function pathWithin(
  prefix: string,
  { url = '/', originalUrl = url, baseUrl = '' }: MountedRequest,
): string | undefined {
  const [path = '/'] = url.split('?')
  const isTakenOff = prefix === '' || baseUrl !== '' || originalUrl !== url
  if (prefix !== '' && (path === prefix || path.startsWith(`${prefix}/`))) return path.slice(prefix.length) || '/'
  return isTakenOff ? path : undefined
}

function nothingHere(): Response {
  return refusal(404, { code: 'NOT_FOUND', message: 'There is nothing here' })
}

function mounted({ token: given, authorize, basePath = '', ...project }: MountOptions): {
  app: App
  basePath: string
} {
  if (basePath !== '' && !/^(\/[\w.~-]+)+$/.test(basePath))
    throw new RetentionError('USAGE', `"basePath" is ${JSON.stringify(basePath)}; allowed: a path such as "/retention"`)
  return { app: createApp({ ...project, access: accessOf(given, authorize) }), basePath }
}

function accessOf(given: string | undefined, authorize: MountOptions['authorize']): Access {
  if (authorize !== undefined) return { authorize }
  const { RETENTION_TOKEN: fromEnvironment } = process.env
  const token = checkToken(given ?? fromEnvironment)
  if (token === undefined) throw tokenMissing('inside another application; "authorize" may take its place')
  return { token }
}
