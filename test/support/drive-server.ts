/**
 * Google Drive for tests: its interface as Google documents it, over HTTP. It is strict where Drive is, and fails when a test
 * wants it to.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

import { DriveFiles, failure, type Answer, type DriveProblem } from './drive-files.ts'

/** A request as a test sees it. */
export interface DriveCall {
  /** What it is: `IDS`, `LIST`, `GET`, `PERMISSIONS`, `MEDIA`, `BEGIN`, `CHUNK`, `ASK`, `CANCEL`, `CREATE`, `UPDATE`, `DELETE`. */
  readonly operation: string
  /** The name of the file that it is about, where that is known. */
  readonly name: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
}

/** What becomes of a request instead of its answer. */
export type DriveFault =
  | DriveProblem
  /** The connection breaks: in the middle of the request, or once it is done, or once so many bytes of the answer are sent. */
  | 'cut'
  | 'lose'
  | { readonly cutAfter: number }
  /** There is no answer, ever. */
  | 'hang'
  /** A byte of what was sent is another when it arrives. */
  | 'corrupt'
  /** No more than so many bytes of a chunk are taken. */
  | { readonly takes: number }

/** The token that the service takes from the start. */
export const driveToken = 'ya29.known-to-the-tests'

/** Starts the service. */
export async function startDrive(): Promise<TestDrive> {
  const drive = new TestDrive()
  await drive.start()
  return drive
}

export class TestDrive extends DriveFiles {
  /** All requests so far, as `operation name`. */
  readonly log: string[] = []
  /** The tokens that it takes. */
  readonly tokens = new Set([driveToken])
  /** Is asked what becomes of a request. */
  fault: ((call: DriveCall) => DriveFault | undefined) | undefined
  readonly #server = createServer((request, response) => {
    request.on('error', () => {})
    this.#hear(request, response).catch((error: unknown) => {
      console.error(error)
      response.destroy()
    })
  })

  async start(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve)
    })
    const listening = this.#server.address()
    if (listening === null || typeof listening === 'string') throw new Error('no port')
    this.endpoint = `http://127.0.0.1:${listening.port}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => {
      this.#server.close(resolve)
    })
  }

  async #hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', this.endpoint)
    const call = this.#callOf(request, url)
    this.log.push(`${call.operation} ${call.name}`.trim())
    const fault = this.fault?.(call)
    const sent = await bodyOf(request, fault === 'cut')
    if (fault === 'hang') return
    if (fault === 'cut') {
      if (call.operation === 'CHUNK') this.keep(url.searchParams, sent)
      return void response.destroy()
    }
    if (typeof fault === 'object' && 'status' in fault) return send(response, failure(fault))
    const { authorization = '' } = request.headers
    if (!this.tokens.has(authorization.replace(/^Bearer /, '')))
      return send(response, failure({ status: 401, reason: 'authError', message: 'Invalid Credentials' }))
    const body = fault === 'corrupt' ? Buffer.concat([sent.subarray(1), Buffer.from('?')]) : sent
    const most = typeof fault === 'object' && 'takes' in fault ? fault.takes : undefined
    const answer = this.answer({ ...call, id: idOf(url) ?? '', body, most })
    if (fault === 'lose') return void response.destroy()
    if (typeof fault === 'object' && 'cutAfter' in fault && Buffer.isBuffer(answer.body)) {
      response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length })
      response.write(answer.body.subarray(0, fault.cutAfter), () => response.destroy())
      return
    }
    send(response, answer)
  }

  #callOf({ method = '', headers }: IncomingMessage, url: URL): DriveCall {
    const id = idOf(url)
    const asked = /name = '((?:[^'\\]|\\.)*)'/.exec(url.searchParams.get('q') ?? '')?.[1]
    const name = this.nameOf(id ?? '', url.searchParams) ?? asked ?? ''
    return { operation: operationOf(method, url, id, headers), name, query: url.searchParams, headers }
  }
}

/** The id of the file that a request is about. */
function idOf({ pathname }: URL): string | undefined {
  return /^\/drive\/v3\/files\/([\w-]+)(?:\/permissions)?$/.exec(pathname)?.[1]
}

function operationOf(
  method: string,
  { pathname, searchParams }: URL,
  id: string | undefined,
  headers: IncomingMessage['headers'],
): string {
  if (pathname === '/upload/drive/v3/files') {
    if (method === 'POST') return 'BEGIN'
    if (method === 'DELETE') return 'CANCEL'
    return headers['content-range']?.startsWith('bytes */') === true && !headers['content-range'].endsWith('/0')
      ? 'ASK'
      : 'CHUNK'
  }
  if (id === 'generateIds') return 'IDS'
  if (pathname === '/drive/v3/files') return method === 'POST' ? 'CREATE' : 'LIST'
  if (id === undefined) return 'UNKNOWN'
  if (pathname.endsWith('/permissions')) return method === 'GET' ? 'PERMISSIONS' : 'UNKNOWN'
  if (method === 'GET') return searchParams.get('alt') === 'media' ? 'MEDIA' : 'GET'
  return { PATCH: 'UPDATE', DELETE: 'DELETE' }[method] ?? 'UNKNOWN'
}

/** What was sent. @param breaks whether no more than the first half is waited for */
async function bodyOf(request: IncomingMessage, breaks: boolean): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  const enough = breaks ? Number(request.headers['content-length'] ?? 0) / 2 : Infinity
  for await (const chunk of request) {
    // Without an encoding, a stream of Node's gives buffers.
    const bytes = chunk as Buffer
    chunks.push(bytes)
    length += bytes.length
    if (length >= enough) break
  }
  return Buffer.concat(chunks)
}

function send(response: ServerResponse, { status, headers = {}, body }: Answer): void {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body === undefined ? '' : JSON.stringify(body))
  response.writeHead(status, { ...headers, 'content-length': bytes.length })
  response.end(bytes)
}
