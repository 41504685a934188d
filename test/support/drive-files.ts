/** What Google Drive keeps, for tests: files in folders, on a shared drive and in the bin, and uploads that were begun. */
import { createHash, randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

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

/** A request, as far as its answer depends on it. */
interface DriveRequest {
  /** What it is, such as `LIST` or `CHUNK`. */
  readonly operation: string
  /** The id of the file that it is about. */
  readonly id: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** No more than so many bytes of a chunk are taken. */
  readonly most: number | undefined
}

/** An answer that is ready to be sent. */
export interface Answer {
  readonly status: number
  readonly headers?: Record<string, string>
  readonly body?: object | Buffer
}

/** An error of Drive's, in its words. */
export interface DriveProblem {
  readonly status: number
  readonly reason?: string
  readonly message?: string
}

const folderType = 'application/vnd.google-apps.folder'
/** Of what chunks are multiples. */
const granule = 256 * 1024

/** A service's files, and its answers. */
export class DriveFiles {
  endpoint = ''
  /** How many files it lists at a time, at most. */
  pageSize = 1000
  /** The index of names is behind: so many searches by name do not find what is new. */
  lag = 0
  /** On the shared drive, whether the account is its manager, or a content manager. */
  isManager = true
  /** Whether the account is let into the shared drive, or into folders of it alone. */
  isMember = true
  readonly #files = new Map<string, StoredFile>()
  readonly #sessions = new Map<string, Session>()
  readonly #ids = new Set<string>()

  /** Makes a folder. @returns its id */
  folder({ isShared = false, permissionIds = ['me'] } = {}): string {
    const id = newId()
    const drive = isShared ? { driveId: 'shared-drive' } : {}
    const folder = { id, name: 'folder', mimeType: folderType, parents: ['root'], trashed: false, permissionIds }
    this.#files.set(id, { ...folder, ...drive })
    return id
  }

  /** Puts a file into a folder, as somebody else does. @returns its id */
  put(folder: string, name: string, bytes: string, mimeType = 'text/csv'): string {
    const id = newId()
    const file = { id, name, mimeType, parents: [folder], trashed: false }
    // Documents of Google's own, and shortcuts, have no bytes.
    this.#files.set(
      id,
      mimeType.startsWith('application/vnd.google-apps.') ? file : { ...file, bytes: Buffer.from(bytes) },
    )
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
    return this.#in(folder, true).map(({ name }) => name)
  }

  /** Removes for good what was put from a folder into the bin. */
  emptyBin(folder: string): void {
    for (const { id } of this.#in(folder, true)) this.#files.delete(id)
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

  /** The name of the file that a request is about. */
  protected nameOf(id: string, query: URLSearchParams): string | undefined {
    return this.#sessions.get(query.get('upload_id') ?? '')?.metadata.name ?? this.#files.get(id)?.name
  }

  /** Keeps what has arrived of a chunk, in whole granules. */
  protected keep(query: URLSearchParams, arrived: Buffer): void {
    const session = this.#sessions.get(query.get('upload_id') ?? '')
    if (session !== undefined) take(session, arrived.subarray(0, Math.floor(arrived.length / granule) * granule))
  }

  #in(folder: string, isBin = false): StoredFile[] {
    return [...this.#files.values()].filter(({ parents, trashed }) => parents.includes(folder) && trashed === isBin)
  }

  /** What Drive answers. */
  protected answer(request: DriveRequest): Answer {
    const { operation, id, query, headers, body } = request
    const fields = query.get('fields') ?? 'id,name,mimeType'
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
        return this.#upload(request)
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
      case 'PERMISSIONS': {
        const ids = file.permissionIds ?? []
        const at = Number(query.get('pageToken') ?? 0)
        const permissions = ids.slice(at, at + 1).map((one) => ({ type: one.startsWith('anyone') ? 'anyone' : 'user' }))
        return { status: 200, body: { permissions, ...(at + 1 < ids.length ? { nextPageToken: `${at + 1}` } : {}) } }
      }
      case 'MEDIA': {
        if (file.bytes === undefined) return failure({ status: 403, reason: 'fileNotDownloadable' })
        const from = /^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1]
        if (from === undefined) return { status: 200, body: file.bytes }
        if (Number(from) >= file.bytes.length) return failure({ status: 416, reason: 'requestedRangeNotSatisfiable' })
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
      (query.get('q') ?? '').match(/'[^']+' in parents|trashed = (?:true|false)|name = '(?:[^'\\]|\\.)*'/g) ?? []
    const isBin = conditions.includes('trashed = true')
    if (conditions.join(' and ') !== query.get('q') || isBin === conditions.includes('trashed = false'))
      return failure({ status: 400, reason: 'invalid', message: `Invalid Value: ${query.get('q')}` })
    const folder = conditions.find((one) => one.endsWith('in parents'))?.slice(1, -"' in parents".length) ?? ''
    const quoted = conditions.find((one) => one.startsWith('name'))?.slice("name = '".length, -1)
    const name = quoted?.replaceAll(/\\(.)/g, '$1').toLowerCase()
    const driveId = this.#files.get(folder)?.driveId
    const isOfDrive = query.get('corpora') === 'drive'
    if (isOfDrive && !this.isMember)
      return failure({ status: 404, reason: 'notFound', message: `Shared drive not found: ${query.get('driveId')}` })
    const isWhole =
      driveId === undefined ||
      (query.get('supportsAllDrives') === 'true' &&
        query.get('includeItemsFromAllDrives') === 'true' &&
        (isOfDrive ? query.get('driveId') === driveId : !this.isMember))
    let found = isWhole
      ? this.#in(folder, isBin).filter((file) => name === undefined || file.name.toLowerCase() === name)
      : []
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

  #upload({ operation, query, headers, body, most }: DriveRequest): Answer {
    const key = query.get('upload_id') ?? ''
    const session = this.#sessions.get(key)
    if (session === undefined) return failure({ status: 404, reason: 'notFound', message: 'no such upload' })
    if (operation === 'CANCEL') {
      this.#sessions.delete(key)
      return { status: 499 }
    }
    if (session.file !== undefined) return { status: 200, body: this.#shown(session.file, session.fields) }
    const [, start, end, total] = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
    if (total === undefined || Number(headers['content-length']) !== body.length)
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
      const range = session.length === 0 ? {} : { range: `bytes=0-${session.length - 1}` }
      return { status: 308, headers: range }
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
    const { bytes, driveId, permissionIds, ...plain } = file
    const mayDelete = driveId === undefined || this.isManager
    const whole = {
      ...plain,
      ...(driveId === undefined ? { permissionIds } : { driveId }),
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

/** An error, as Drive answers it. */
export function failure({ status, reason = 'error', message }: DriveProblem): Answer {
  const text = message ?? `made up by the tests: ${reason}`
  const body = { error: { code: status, message: text, errors: [{ domain: 'global', reason, message: text }] } }
  // So that no test waits.
  return { status, headers: { 'retry-after': '0' }, body }
}
