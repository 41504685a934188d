/**
 * Google Drive for tests: its interface as Google documents it, over HTTP, with folders, a shared drive, a bin and resumable
 * uploads. It is strict where Drive is, and fails when a test wants it to.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

/** A request as a test sees it. */
export interface DriveCall {
  /** What it is: `IDS`, `LIST`, `GET`, `MEDIA`, `BEGIN`, `CHUNK`, `ASK`, `CANCEL`, `CREATE`, `UPDATE`, `DELETE`. */
  readonly operation: string
  /** The name of the file that it is about, where that is known. */
  readonly name: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
}

/** What becomes of a request instead of its answer. */
export type DriveFault =
  /** An error of Drive's, in its words. */
  | { readonly status: number; readonly reason?: string; readonly message?: string }
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

/** A file of the service. */
interface StoredFile {
  readonly id: string
  name: string
  readonly mimeType: string
  parents: string[]
  trashed: boolean
  bytes?: Buffer
  readonly driveId?: string
  permissionIds?: string[]
}

interface Session {
  readonly id: string
  readonly metadata: { id: string; name: string; mimeType: string; parents: string[] }
  readonly fields: string
  received: Buffer[]
  length: number
  file?: StoredFile
}

interface Answer {
  readonly status: number
  readonly headers?: Record<string, string>
  readonly body?: object | Buffer
}

const folderType = 'application/vnd.google-apps.folder'
const granule = 256 * 1024

/** The token that the service takes from the start. */
export const driveToken = 'ya29.known-to-the-tests'

/** Starts the service. */
export async function startDrive(): Promise<TestDrive> {
  const drive = new TestDrive()
  await drive.start()
  return drive
}

export class TestDrive {
  endpoint = ''
  /** All requests so far, as `operation name`. */
  readonly log: string[] = []
  /** The tokens that it takes. */
  readonly tokens = new Set([driveToken])
  /** How many files it lists at a time, at most. */
  pageSize = 1000
  /** The index of names is behind: so many searches by name do not find what is new. */
  lag = 0
  /** On the shared drive, whether the account is its manager, or a content manager. */
  isManager = true
  /** Is asked what becomes of a request. */
  fault: ((call: DriveCall) => DriveFault | undefined) | undefined
  readonly #files = new Map<string, StoredFile>()
  readonly #sessions = new Map<string, Session>()
  readonly #ids = new Set<string>()
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

  /** Makes a folder. @returns its id */
  folder({ isShared = false, permissionIds = ['me'] } = {}): string {
    const id = newId()
    const drive = isShared ? { driveId: 'shared-drive' } : { permissionIds }
    this.#files.set(id, { id, name: 'folder', mimeType: folderType, parents: ['root'], trashed: false, ...drive })
    return id
  }

  /** Puts a file into a folder, as somebody else does. @returns its id */
  put(folder: string, name: string, bytes: string, mimeType = 'text/csv'): string {
    const id = newId()
    this.#files.set(id, { id, name, mimeType, parents: [folder], trashed: false, bytes: Buffer.from(bytes) })
    return id
  }

  /** Replaces a file's bytes, as somebody else does. */
  replace(folder: string, name: string, bytes: string): void {
    for (const file of this.#in(folder)) if (file.name === name) file.bytes = Buffer.from(bytes)
  }

  /** The names of the files in a folder, those in folders below as `folder/name`, sorted. */
  names(folder: string): string[] {
    const names = this.#in(folder).flatMap((file) =>
      file.mimeType === folderType ? this.names(file.id).map((name) => `${file.name}/${name}`) : [file.name],
    )
    return names.toSorted()
  }

  /** The names of what was put from a folder into the bin. */
  binned(folder: string): string[] {
    const files = [...this.#files.values()].filter(({ parents, trashed }) => trashed && parents.includes(folder))
    return files.map(({ name }) => name)
  }

  /** The bytes of the files of a name. */
  read(folder: string, name: string): Buffer[] {
    return this.#in(folder).flatMap((file) => (file.name === name && file.bytes !== undefined ? [file.bytes] : []))
  }

  /** How many uploads into a folder were begun, and neither finished nor given up. */
  unfinished(folder: string): number {
    const sessions = [...this.#sessions.values()].filter(({ metadata }) => metadata.parents.includes(folder))
    return sessions.filter(({ file }) => file === undefined).length
  }

  #in(folder: string): StoredFile[] {
    return [...this.#files.values()].filter(({ parents, trashed }) => parents.includes(folder) && !trashed)
  }

  async #hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', this.endpoint)
    const call = this.#callOf(request, url)
    this.log.push(`${call.operation} ${call.name}`.trim())
    const fault = this.fault?.(call)
    const session = this.#sessions.get(url.searchParams.get('upload_id') ?? '')
    const sent = await bodyOf(request, fault === 'cut')
    if (fault === 'hang') return
    if (fault === 'cut') {
      // What has arrived is kept, in whole granules.
      if (session !== undefined && call.operation === 'CHUNK')
        take(session, sent.subarray(0, Math.floor(sent.length / granule) * granule))
      return void response.destroy()
    }
    if (typeof fault === 'object' && 'status' in fault) return send(response, failure(fault))
    const { authorization = '' } = request.headers
    if (!this.tokens.has(authorization.replace(/^Bearer /, '')))
      return send(response, failure({ status: 401, reason: 'authError', message: 'Invalid Credentials' }))
    const body = fault === 'corrupt' ? Buffer.concat([sent.subarray(1), Buffer.from('?')]) : sent
    const most = typeof fault === 'object' && 'takes' in fault ? fault.takes : undefined
    const answer = this.#answer(call, url, request, body, most)
    if (fault === 'lose') return void response.destroy()
    if (typeof fault === 'object' && 'cutAfter' in fault && Buffer.isBuffer(answer.body)) {
      response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length })
      response.write(answer.body.subarray(0, fault.cutAfter), () => response.destroy())
      return
    }
    send(response, answer)
  }

  #callOf({ method = '', headers }: IncomingMessage, url: URL): DriveCall {
    const id = /^\/drive\/v3\/files\/([\w-]+)$/.exec(url.pathname)?.[1]
    const session = this.#sessions.get(url.searchParams.get('upload_id') ?? '')
    const asked = /name = '((?:[^'\\]|\\.)*)'/.exec(url.searchParams.get('q') ?? '')?.[1]
    const name = session?.metadata.name ?? this.#files.get(id ?? '')?.name ?? asked ?? ''
    return { operation: operationOf(method, url, id, headers), name, query: url.searchParams, headers }
  }

  #answer(call: DriveCall, url: URL, request: IncomingMessage, body: Buffer, most: number | undefined): Answer {
    const { operation, query } = call
    const fields = query.get('fields') ?? 'id,name,mimeType'
    const id = url.pathname.split('/').at(-1) ?? ''
    switch (operation) {
      case 'IDS': {
        const ids = Array.from({ length: Number(query.get('count') ?? 10) }, newId)
        for (const one of ids) this.#ids.add(one)
        return { status: 200, body: { ids } }
      }
      case 'LIST':
        return this.#list(query, fields)
      case 'BEGIN':
        return this.#begin(body, query, fields)
      case 'CHUNK':
      case 'ASK':
      case 'CANCEL':
        return this.#upload(query.get('upload_id') ?? '', operation, request, body, most)
      case 'CREATE': {
        const made = metadataOf(body)
        const problem = this.#problemWith(made, query)
        return problem ?? { status: 200, body: this.#shown(this.#make(made), fields) }
      }
    }
    const file = this.#files.get(id)
    const isSeen = file !== undefined && (file.driveId === undefined || query.get('supportsAllDrives') === 'true')
    if (!isSeen) return failure({ status: 404, reason: 'notFound', message: `File not found: ${id}.` })
    switch (operation) {
      case 'GET':
        return { status: 200, body: this.#shown(file, fields) }
      case 'MEDIA': {
        if (file.bytes === undefined) return failure({ status: 403, reason: 'fileNotDownloadable' })
        const from = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1]
        if (from === undefined) return { status: 200, body: file.bytes }
        const range = `bytes ${from}-${file.bytes.length - 1}/${file.bytes.length}`
        return { status: 206, headers: { 'content-range': range }, body: file.bytes.subarray(Number(from)) }
      }
      case 'UPDATE': {
        const { name, trashed } = JSON.parse(body.toString()) as { name?: string; trashed?: boolean }
        file.name = name ?? file.name
        file.trashed = trashed ?? file.trashed
        const [added, removed] = [query.get('addParents'), query.get('removeParents')]
        if (added !== null) file.parents = [...file.parents.filter((parent) => parent !== removed), added]
        return { status: 200, body: this.#shown(file, fields) }
      }
      case 'DELETE':
        if (file.driveId !== undefined && !this.isManager)
          return failure({ status: 403, reason: 'insufficientFilePermissions', message: 'Insufficient permissions' })
        this.#files.delete(id)
        return { status: 204 }
    }
    return failure({ status: 400, reason: 'badRequest', message: operation })
  }

  #list(query: URLSearchParams, fields: string): Answer {
    const conditions: string[] =
      (query.get('q') ?? '').match(/'[^']+' in parents|trashed = false|name = '(?:[^'\\]|\\.)*'/g) ?? []
    if (conditions.join(' and ') !== query.get('q') || !conditions.includes('trashed = false'))
      return failure({ status: 400, reason: 'invalid', message: `Invalid Value: ${query.get('q')}` })
    const folder = conditions.find((one) => one.endsWith('in parents'))?.slice(1, -"' in parents".length) ?? ''
    const quoted = conditions.find((one) => one.startsWith('name'))?.slice("name = '".length, -1)
    const name = quoted?.replaceAll(/\\(.)/g, '$1').toLowerCase()
    const isShared = this.#files.get(folder)?.driveId !== undefined
    const isWhole =
      !isShared ||
      (query.get('supportsAllDrives') === 'true' &&
        query.get('includeItemsFromAllDrives') === 'true' &&
        query.get('corpora') === 'drive' &&
        query.get('driveId') === this.#files.get(folder)?.driveId)
    let found = isWhole ? this.#in(folder).filter((file) => name === undefined || file.name.toLowerCase() === name) : []
    if (name !== undefined && found.length > 0 && this.lag > 0) {
      this.lag -= 1
      found = []
    }
    const start = Number(query.get('pageToken') ?? 0)
    const end = start + Math.min(this.pageSize, Number(query.get('pageSize') ?? 100))
    const inner = /files\(([^)]*)\)/.exec(fields)?.[1] ?? ''
    const files = found.slice(start, end).map((file) => this.#shown(file, inner))
    const next = end < found.length && fields.includes('nextPageToken') ? { nextPageToken: String(end) } : {}
    return { status: 200, body: { ...next, incompleteSearch: false, files } }
  }

  #begin(body: Buffer, query: URLSearchParams, fields: string): Answer {
    const metadata = metadataOf(body)
    const problem =
      query.get('uploadType') === 'resumable'
        ? this.#problemWith(metadata, query)
        : failure({ status: 400, reason: 'badRequest' })
    if (problem !== undefined) return problem
    const id = newId()
    this.#sessions.set(id, { id, metadata, fields, received: [], length: 0 })
    const location = `${this.endpoint}/upload/drive/v3/files?uploadType=resumable&upload_id=${id}`
    return { status: 200, headers: { location } }
  }

  #problemWith(metadata: Session['metadata'], query: URLSearchParams): Answer | undefined {
    const parent = this.#files.get(metadata.parents[0] ?? '')
    if (this.#files.has(metadata.id)) return failure({ status: 409, reason: 'fileIdInUse' })
    if (!this.#ids.has(metadata.id)) return failure({ status: 400, reason: 'invalid', message: 'not a generated id' })
    const isSeen = parent !== undefined && (parent.driveId === undefined || query.get('supportsAllDrives') === 'true')
    return isSeen ? undefined : failure({ status: 404, reason: 'notFound', message: 'File not found' })
  }

  #upload(key: string, operation: string, request: IncomingMessage, body: Buffer, most?: number): Answer {
    const session = this.#sessions.get(key)
    if (session === undefined) return failure({ status: 404, reason: 'notFound', message: 'no such upload' })
    if (operation === 'CANCEL') {
      this.#sessions.delete(key)
      return { status: 499 }
    }
    if (session.file !== undefined) return { status: 200, body: this.#shown(session.file, session.fields) }
    const [, start, end, total] =
      /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(request.headers['content-range'] ?? '') ?? []
    if (total === undefined || Number(request.headers['content-length']) !== body.length)
      return failure({ status: 400, reason: 'badRequest', message: 'no Content-Range' })
    if (start !== undefined) {
      const isRight =
        Number(start) === session.length &&
        Number(end) - Number(start) + 1 === body.length &&
        (total === '*' ? body.length % granule === 0 : Number(end) + 1 === Number(total))
      if (!isRight) return failure({ status: 400, reason: 'badRequest', message: 'wrong Content-Range' })
      take(session, most === undefined ? body : body.subarray(0, most))
    }
    if (Number(total) !== session.length) {
      const headers = session.length === 0 ? {} : { range: `bytes=0-${session.length - 1}` }
      return { status: 308, headers }
    }
    session.file = this.#make(session.metadata, Buffer.concat(session.received))
    session.received = []
    return { status: 200, body: this.#shown(session.file, session.fields) }
  }

  #make({ id, name, mimeType, parents }: Session['metadata'], bytes?: Buffer): StoredFile {
    const driveId = this.#files.get(parents[0] ?? '')?.driveId
    const file = {
      id,
      name,
      mimeType,
      parents,
      trashed: false,
      ...(bytes === undefined ? {} : { bytes }),
      ...(driveId === undefined ? {} : { driveId }),
    }
    this.#files.set(id, file)
    return file
  }

  /** What of a file was asked for, and no more. */
  #shown(file: StoredFile, fields: string): object {
    const { bytes, driveId, ...plain } = file
    const mayDelete = driveId === undefined || this.isManager
    const whole = {
      ...plain,
      ...(driveId === undefined ? {} : { driveId }),
      ...(bytes === undefined ? {} : { size: String(bytes.length), ...sumsOf(bytes) }),
      capabilities: {
        canDelete: mayDelete,
        canAddChildren: true,
        canTrashChildren: true,
        canDeleteChildren: mayDelete,
      },
    }
    const wanted = new Set(fields.split(','))
    return Object.fromEntries(Object.entries(whole).filter(([name]) => wanted.has(name)))
  }
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

/** The checksums of bytes; computed once. */
function sumsOf(bytes: Buffer): { md5Checksum: string; sha256Checksum: string } {
  const sum = (algorithm: string): string => createHash(algorithm).update(bytes).digest('hex')
  const sums = knownSums.get(bytes) ?? { md5Checksum: sum('md5'), sha256Checksum: sum('sha256') }
  knownSums.set(bytes, sums)
  return sums
}

const knownSums = new WeakMap<Buffer, { md5Checksum: string; sha256Checksum: string }>()

function take(session: Session, bytes: Buffer): void {
  session.received.push(bytes)
  session.length += bytes.length
}

function metadataOf(body: Buffer): Session['metadata'] {
  return JSON.parse(body.toString()) as Session['metadata']
}

function newId(): string {
  return `1${randomBytes(24).toString('base64url')}`
}

function failure({
  status,
  reason = 'error',
  message,
}: Exclude<DriveFault, string | { takes: number } | { cutAfter: number }>): Answer {
  const text = message ?? `made up by the tests: ${reason}`
  const body = { error: { code: status, message: text, errors: [{ domain: 'global', reason, message: text }] } }
  // So that no test waits.
  return { status, headers: { 'retry-after': '0' }, body }
}

function send(response: ServerResponse, { status, headers = {}, body }: Answer): void {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body === undefined ? '' : JSON.stringify(body))
  response.writeHead(status, { ...headers, 'content-length': bytes.length })
  response.end(bytes)
}
