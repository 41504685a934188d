/** The service as a process's own HTTP server: where it listens, what it bears with, and how it ends. */
import type { AddressInfo } from 'node:net'
import { isIP } from 'node:net'

import { createAdaptorServer, type HttpBindings } from '@hono/node-server'

import { codeOf, messageOf, RetentionError } from '../errors.ts'
import { createApp, type App, type AppOptions } from './app.ts'
import { checkToken, isLoopback, tokenMissing } from './token.ts'

/** How to serve. */
export interface ServerOptions extends Omit<AppOptions, 'access'> {
  /** 0: any that is free. */
  port: number
  host: string
  /** What requests must carry; may be left out on loopback alone. */
  token?: string | undefined
  /** Takes the last address of `X-Forwarded-For` for whoever asks. Default false. */
  trustProxy?: boolean
  /** Milliseconds within which a request's headers must have come. Default 10 000. */
  headersWithin?: number
}

/** A server that listens. */
export interface RunningServer {
  /** Such as `http://127.0.0.1:8080`. */
  readonly address: string
  readonly runs: App['runs']
  /**
   * Starts no more runs, lets the running step end within `grace` milliseconds and rolls it back then; closes all connections.
   */
  close(grace: number): Promise<void>
}

/**
 * Begins to listen.
 * @throws RetentionError `USAGE` where a token is needed, or is of no use, or the address cannot be listened on
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { port, host, token: given, trustProxy = false, headersWithin = 10_000, ...parts } = options
  const token = checkToken(given)
  if (token === undefined && !isLoopback(host)) throw tokenMissing(`on ${host}`)
  const app = createApp({ ...parts, access: token === undefined ? 'loopback' : { token } })
  const server = createAdaptorServer({
    overrideGlobalObjects: false,
    // It is given what belongs to HTTP/1, which is what is served.
    fetch: async (request, env) => app.fetch(request, { address: addressOf(env as HttpBindings, trustProxy) }),
    serverOptions: {
      maxHeaderSize: 8 * 1024,
      headersTimeout: headersWithin,
      requestTimeout: 20_000,
      keepAliveTimeout: 5000,
      connectionsCheckingInterval: Math.min(2000, headersWithin),
    },
  })
  if (!('closeAllConnections' in server)) throw new Error('not an HTTP/1 server')
  server.maxRequestsPerSocket = 10_000
  server.maxConnections = 1000
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(error, host, port)))
    server.listen(port, host, resolve)
  })
  // A server that listens on a port has an address of this form.
  const { port: bound } = server.address() as AddressInfo
  return {
    address: `http://${host.includes(':') ? `[${host.replaceAll(/[[\]]/g, '')}]` : host}:${bound}`,
    runs: app.runs,
    close: async (grace) => {
      await app.runs.stop(grace)
      const closed = new Promise((resolve) => server.close(resolve))
      // What is being answered may be answered, and streams tell how their run ended.
      const timer = setTimeout(() => server.closeAllConnections(), 1000)
      await closed
      clearTimeout(timer)
    },
  }
}

function addressOf({ incoming }: HttpBindings, trustProxy: boolean): string {
  const forwarded = String(incoming.headers['x-forwarded-for'] ?? '')
    .split(',')
    .at(-1)
    ?.trim()
  if (trustProxy && forwarded !== undefined && isIP(forwarded) !== 0) return forwarded
  return incoming.socket.remoteAddress ?? ''
}

function cannotListen(error: unknown, host: string, port: number): RetentionError {
  const hint =
    codeOf(error) === 'EADDRINUSE'
      ? 'Something listens there already: choose another --port, or 0 for any.'
      : 'Choose another --host or --port.'
  return new RetentionError('USAGE', `Cannot listen on ${host}:${port}: ${messageOf(error)}`, { hint, cause: error })
}
