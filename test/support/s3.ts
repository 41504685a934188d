/**
 * An S3 service for tests: a real one over HTTP, and a proxy before it that checks signatures and checksums, answers as S3
 * does where that server is lax, and fails when a test wants it to.
 */
import { createHash, createHmac } from 'node:crypto'
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, request as httpRequest, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'

import S3rver from '@20minutes/s3rver'

/** A request as a test sees it. */
interface S3Request {
  /** What it is, such as `PUT`, `UPLOAD PART`, `COMPLETE`, `LIST`. */
  readonly operation: string
  readonly key: string
  readonly headers: IncomingHttpHeaders
  readonly query: URLSearchParams
  readonly method: string
  readonly url: string
}

/** What becomes of a request instead of its answer. */
export type Fault =
  /** An error of S3's, in its words. */
  | {
      readonly status: number
      readonly code: string
      readonly message?: string
      readonly headers?: Record<string, string>
    }
  /** The connection breaks: in the middle of the request, or once it is done, or once so many bytes of the answer are sent. */
  | 'cut'
  | 'lose'
  | { readonly cutAfter: number }
  /** There is no answer, ever. */
  | 'hang'
  /** A byte of the request is another when it arrives. */
  | 'corrupt'
  /** Nobody heeds `If-None-Match`. */
  | 'overwrite'

/** A running service with one bucket. */
export interface TestS3 {
  readonly endpoint: string
  readonly bucket: string
  /** The address of a folder of the bucket, as a config writes it. */
  address(folder: string): string
  /** The keys of all objects, sorted. */
  keys(): string[]
  read(key: string): Buffer
  /** The keys of uploads that were begun and not completed. */
  uploads(): string[]
  /** All requests so far, as `operation key`. */
  readonly log: string[]
  /** How many objects it lists at a time, at most. */
  pageSize: number
  /** Is asked what becomes of a request. */
  fault: ((request: S3Request) => Fault | undefined) | undefined
  stop(): Promise<void>
}

/** The one account that the server knows. */
export const credentials = { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' }

const bucket = 'archives'
const objectSuffix = '._S3rver_object'

/** Starts a service. */
export async function startS3(): Promise<TestS3> {
  const directory = mkdtempSync(path.join(tmpdir(), 'retention-s3-'))
  const options = { address: '127.0.0.1', port: 0, silent: true, directory, vhostBuckets: false }
  const upstream = new S3rver({ ...options, configureBuckets: [{ name: bucket }] })
  const { port } = await upstream.run()
  const service = new Service(directory, port)
  const server = createServer((incoming, response) => {
    incoming.on('error', () => {})
    const { method = '', url = '', headers } = incoming
    const request = requestOf(method, url, headers)
    const fault = service.hear(request)
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (fault === 'cut') incoming.destroy()
    })
    incoming.on('end', () => {
      service.answer(request, fault, Buffer.concat(chunks), response).catch(() => response.destroy())
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const listening = server.address()
  if (listening === null || typeof listening === 'string') throw new Error('no port')
  const endpoint = `http://127.0.0.1:${listening.port}`
  return Object.assign(service, {
    endpoint,
    bucket,
    address: (folder: string) => `s3://${bucket}/${folder}?endpoint=${endpoint}`,
    stop: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => {
        server.close(resolve)
      })
      await upstream.close()
      rmSync(directory, { recursive: true, force: true })
    },
  })
}

/** An answer that is ready to be sent. */
interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

class Service {
  readonly log: string[] = []
  fault: ((request: S3Request) => Fault | undefined) | undefined
  pageSize = 1000
  readonly #root: string
  readonly #port: number
  /** Objects that are just being made: until they are, nobody sees them. */
  readonly #pending = new Set<string>()
  /** The checksums of parts, by upload and number. */
  readonly #partSums = new Map<string, string>()

  constructor(directory: string, port: number) {
    this.#root = path.join(directory, bucket)
    this.#port = port
  }

  keys(): string[] {
    return globSync(`**/*${objectSuffix}`, { cwd: this.#root })
      .map((file) => file.slice(0, -objectSuffix.length))
      .toSorted()
  }

  read(key: string): Buffer {
    return readFileSync(this.#file(key))
  }

  uploads(): string[] {
    return this.#uploadIds().map((id) => this.#keyOf(id))
  }

  /** Keeps a request in mind; says what is to become of it. */
  hear(request: S3Request): Fault | undefined {
    this.log.push(`${request.operation} ${request.key}`)
    return this.fault?.(request)
  }

  async answer(request: S3Request, fault: Fault | undefined, sent: Buffer, response: ServerResponse): Promise<void> {
    if (fault === 'hang') return
    if (fault === 'cut') return void response.destroy()
    if (typeof fault === 'object' && 'status' in fault) {
      return send(response, failure(fault.status, fault.code, fault.message, fault.headers))
    }
    if (fault === 'overwrite') delete request.headers['if-none-match']
    const body = fault === 'corrupt' ? Buffer.concat([sent.subarray(1), Buffer.from('?')]) : sent
    const answer =
      fault === 'overwrite' || isSigned(request)
        ? await this.#judge(request, body, (to) => this.#forward(request, body, to))
        : failure(403, 'SignatureDoesNotMatch')
    if (fault === 'lose') return void response.destroy()
    if (typeof fault === 'object') {
      // Its length is told, and not kept.
      response.writeHead(answer.status, answer.headers)
      response.write(answer.body.subarray(0, fault.cutAfter), () => response.destroy())
      return
    }
    send(response, answer)
  }

  /** What S3 says that the server behind does not. */
  async #judge(request: S3Request, body: Buffer, forward: (to?: string) => Promise<Answer>): Promise<Answer> {
    const { operation, key, headers, query } = request
    const sha256 = createHash('sha256').update(body).digest()
    if (headers['x-amz-content-sha256'] !== sha256.toString('hex')) return failure(400, 'XAmzContentSHA256Mismatch')
    const sum = headers['x-amz-checksum-sha256']
    if (sum !== undefined && sum !== sha256.toString('base64')) return failure(400, 'BadDigest')
    const uploadId = query.get('uploadId')
    if (uploadId !== null && !this.#uploadIds().includes(uploadId)) return failure(404, 'NoSuchUpload')
    const isThere = !this.#pending.has(key) && existsSync(this.#file(key))
    switch (operation) {
      case 'PUT':
      case 'COMPLETE': {
        if (headers['if-none-match'] === '*' && this.#pending.has(key))
          return failure(409, 'ConditionalRequestConflict')
        if (headers['if-none-match'] === '*' && isThere) return failure(412, 'PreconditionFailed')
        const composite = operation === 'COMPLETE' ? this.#composite(uploadId, body.toString()) : ''
        if (composite === undefined) return failure(400, 'InvalidPart')
        this.#pending.add(key)
        try {
          const answer = await forward()
          if (operation === 'PUT' || answer.status !== 200) return answer
          const told = `<ChecksumSHA256>${composite}</ChecksumSHA256></CompleteMultipartUploadResult>`
          const text = answer.body.toString().replace('</CompleteMultipartUploadResult>', told)
          return { status: 200, headers: {}, body: Buffer.from(text) }
        } finally {
          this.#pending.delete(key)
        }
      }
      case 'UPLOAD PART':
        this.#partSums.set(`${uploadId} ${query.get('partNumber')}`, String(sum))
        return forward()
      case 'GET':
      case 'HEAD': {
        if (this.#pending.has(key)) return failure(404, 'NoSuchKey')
        const answer = await forward()
        const wanted = headers['if-match']
        return wanted === undefined || wanted === answer.headers.etag ? answer : failure(412, 'PreconditionFailed')
      }
      case 'ABORT':
        rmSync(path.join(this.#uploadsFolder, String(uploadId)), { recursive: true, force: true })
        return { status: 204, headers: {}, body: Buffer.alloc(0) }
      case 'LIST':
        return this.#list(request, forward)
      case 'LIST UPLOADS':
        return this.#listUploads(query)
      default:
        return forward()
    }
  }

  /** What S3 calls the checksum of an object of parts; undefined where a part is not what was uploaded. */
  #composite(uploadId: string | null, xml: string): string | undefined {
    const hash = createHash('sha256')
    const parts = [...xml.matchAll(/<Part>.*?<\/Part>/gs)].map(([part]) => part)
    for (const part of parts) {
      const said = /<ChecksumSHA256>(.*?)<\/ChecksumSHA256>/.exec(part)?.[1] ?? ''
      const number = /<PartNumber>(\d+)<\/PartNumber>/.exec(part)?.[1] ?? ''
      if (said !== this.#partSums.get(`${uploadId} ${number}`)) return undefined
      hash.update(Buffer.from(said, 'base64'))
    }
    return `${hash.digest('base64')}-${parts.length}`
  }

  /** In pages: the server cannot make the tokens that lead from one to the next. */
  async #list({ query, url }: S3Request, forward: (to: string) => Promise<Answer>): Promise<Answer> {
    const asked = new URLSearchParams({ 'list-type': '2', delimiter: '/', prefix: query.get('prefix') ?? '' })
    asked.set('start-after', Buffer.from(query.get('continuation-token') ?? '', 'base64url').toString())
    const answer = await forward(`${url.replace(/\?.*$/, '')}?${asked.toString()}`)
    const objects = [...answer.body.toString().matchAll(/<Contents>.*?<Key>(.*?)<\/Key>.*?<\/Contents>/gs)]
    const page = objects.slice(0, Math.min(this.pageSize, Number(query.get('max-keys') ?? 1000)))
    const last = page.length < objects.length ? page.at(-1)?.[1] : undefined
    const next =
      last === undefined
        ? ''
        : `<NextContinuationToken>${Buffer.from(last).toString('base64url')}</NextContinuationToken>`
    const xml = `<ListBucketResult><IsTruncated>${last !== undefined}</IsTruncated>${page.map(([text]) => text).join('')}${next}</ListBucketResult>`
    return { ...answer, headers: {}, body: answer.status === 200 ? Buffer.from(xml) : answer.body }
  }

  /** As MinIO does, it takes a prefix for a whole key. */
  #listUploads(query: URLSearchParams): Answer {
    const prefix = query.get('prefix') ?? ''
    const uploads = this.#uploadIds()
      .map((id) => ({ id, key: this.#keyOf(id) }))
      .filter(({ key }) => prefix === '' || key === prefix)
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
      .filter(({ id }) => id > (query.get('upload-id-marker') ?? ''))
    const page = uploads.slice(0, this.pageSize)
    const { id: last, key: lastKey } = page.at(-1) ?? {}
    const xml = `<ListMultipartUploadsResult><IsTruncated>${page.length < uploads.length}</IsTruncated>
      <NextKeyMarker>${lastKey}</NextKeyMarker><NextUploadIdMarker>${last}</NextUploadIdMarker>
      ${page.map(({ id, key }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`).join('')}
      </ListMultipartUploadsResult>`
    return { status: 200, headers: {}, body: Buffer.from(xml) }
  }

  #forward({ method, url, headers }: S3Request, body: Buffer, to = url): Promise<Answer> {
    return new Promise((resolve, reject) => {
      // The whole body is there: the server need not be asked whether it wants it. Of signatures it has an idea of its own.
      const { expect: _, authorization: __, ...sent } = headers
      const upstream = httpRequest(
        { host: '127.0.0.1', port: this.#port, method, path: to, headers: sent },
        (answer) => {
          const chunks: Buffer[] = []
          answer.on('data', (chunk: Buffer) => chunks.push(chunk))
          answer.on('error', reject)
          answer.on('end', () =>
            resolve({ status: answer.statusCode ?? 500, headers: answer.headers, body: Buffer.concat(chunks) }),
          )
        },
      )
      upstream.on('error', reject)
      upstream.end(body)
    })
  }

  #file(key: string): string {
    return path.join(this.#root, `${key}${objectSuffix}`)
  }

  get #uploadsFolder(): string {
    return path.join(this.#root, '._S3rver_uploads')
  }

  #uploadIds(): string[] {
    if (!existsSync(this.#uploadsFolder)) return []
    // A part that comes after its upload was given up makes the folder again, but no upload.
    return readdirSync(this.#uploadsFolder).filter((id) => existsSync(path.join(this.#uploadsFolder, id, 'key')))
  }

  #keyOf(uploadId: string): string {
    return readFileSync(path.join(this.#uploadsFolder, uploadId, 'key'), 'utf8')
  }
}

/** Whether a request is signed by the one account, as AWS describes it (Signature Version 4, in a header). */
function isSigned({ method, url, headers }: S3Request): boolean {
  const [, scope = '', names = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=S3RVER\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      headers.authorization ?? '',
    ) ?? []
  const [route = '', query = ''] = url.split('?')
  const parameters = query.split('&').filter((one) => one !== '')
  const canonical = [
    method,
    route,
    parameters
      .map((one) => (one.includes('=') ? one : `${one}=`))
      .toSorted()
      .join('&'),
    ...names.split(';').map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    names,
    headers['x-amz-content-sha256'],
  ].join('\n')
  const digest = createHash('sha256').update(canonical).digest('hex')
  const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, digest].join('\n')
  const keyed = (key: string | Buffer, value: string): Buffer => createHmac('sha256', key).update(value).digest()
  const key = scope.split('/').reduce<string | Buffer>(keyed, `AWS4${credentials.AWS_SECRET_ACCESS_KEY}`)
  return keyed(key, text).toString('hex') === signature
}

function requestOf(method: string, url: string, headers: IncomingHttpHeaders): S3Request {
  const { pathname, searchParams: query } = new URL(url, 'http://x')
  const key = decodeURIComponent(pathname).replace(/^\/[^/]*\/?/, '')
  return { operation: operationOf(method, key, query), key, headers, query, method, url }
}

function operationOf(method: string, key: string, query: URLSearchParams): string {
  if (key === '') return query.has('uploads') ? 'LIST UPLOADS' : 'LIST'
  if (method === 'POST') return query.has('uploads') ? 'CREATE UPLOAD' : 'COMPLETE'
  if (query.has('uploadId')) return method === 'DELETE' ? 'ABORT' : 'UPLOAD PART'
  return method
}

function failure(status: number, code: string, message = `made up by the tests: ${code}`, headers = {}): Answer {
  const body = Buffer.from(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`)
  return { status, headers: { 'content-type': 'application/xml', ...headers }, body }
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, headers)
  response.end(body)
}
