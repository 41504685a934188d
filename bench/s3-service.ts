/**
 * An S3 service that does as little as one can, as it shares its processors with what is measured beside it: objects are in
 * memory, and any signature will do. It checks the SHA-256 of all that it is sent, and overwrites nothing where it is asked
 * not to. That retention works with S3 is for the tests to prove, on another one. Says on which port it listens.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

interface Stored {
  readonly etag: string
  readonly chunks: readonly Buffer[]
  /** What the client wants to find there again. */
  readonly metadata: Readonly<Record<string, string>>
}

interface Upload extends Pick<Stored, 'metadata'> {
  readonly parts: Map<number, readonly Buffer[]>
}

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: readonly Buffer[]
}

const objects = new Map<string, Stored>()
const uploads = new Map<string, Upload>()

const server = createServer((request, response) => {
  answer(request).then(
    async (given) => send(request, response, given),
    () => response.destroy(),
  )
})
// It does not outlive the bench.
process.stdin.on('end', () => process.exit()).resume()
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`)
})

async function answer(request: IncomingMessage): Promise<Answer> {
  const { method = '', url = '', headers } = request
  const { pathname, searchParams: query } = new URL(url, 'http://localhost')
  const body = await receive(request)
  if (body === undefined) return failure(400, 'BadDigest')
  // The first part of the path is the bucket.
  const key = pathname.split('/').slice(2).join('/')
  if (key === '') return text('<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')
  const publish = (stored: Omit<Stored, 'etag'>): Answer => {
    if (headers['if-none-match'] === '*' && objects.has(key)) return failure(412, 'PreconditionFailed')
    const etag = `"${randomUUID()}"`
    objects.set(key, { ...stored, etag })
    return { ...text('<Result></Result>'), headers: { etag } }
  }
  const id = query.get('uploadId')
  const upload = uploads.get(id ?? '')
  if (id !== null && upload === undefined) return failure(404, 'NoSuchUpload')
  switch (method) {
    case 'GET':
    case 'HEAD': {
      const object = objects.get(key)
      if (object === undefined) return failure(404, 'NoSuchKey')
      return { status: 200, headers: { etag: object.etag, ...object.metadata }, body: object.chunks }
    }
    case 'PUT':
      if (upload === undefined) return publish({ chunks: body, metadata: metadataIn(headers) })
      upload.parts.set(Number(query.get('partNumber')), body)
      return { status: 200, headers: { etag: `"${randomUUID()}"` } }
    case 'POST': {
      if (upload !== undefined) {
        const parts = [...upload.parts].toSorted(([a], [b]) => a - b)
        return publish({ chunks: parts.flatMap(([, chunks]) => chunks), metadata: upload.metadata })
      }
      const created = randomUUID()
      uploads.set(created, { metadata: metadataIn(headers), parts: new Map() })
      return text(`<Result><UploadId>${created}</UploadId></Result>`)
    }
    case 'DELETE':
      if (id === null) objects.delete(key)
      else uploads.delete(id)
      return { status: 204 }
    default:
      return failure(501, 'NotImplemented')
  }
}

/** The bytes of a request; undefined where they are not those that its signature is over. */
async function receive(request: IncomingMessage): Promise<readonly Buffer[] | undefined> {
  const hash = createHash('sha256')
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) {
    hash.update(chunk)
    chunks.push(chunk)
  }
  return hash.digest('hex') === request.headers['x-amz-content-sha256'] ? chunks : undefined
}

async function send({ method }: IncomingMessage, response: ServerResponse, given: Answer): Promise<void> {
  const { status, headers = {}, body = [] } = given
  const length = body.reduce((sum, chunk) => sum + chunk.length, 0)
  response.writeHead(status, { 'content-length': length, ...headers })
  if (method !== 'HEAD')
    for (const chunk of body) {
      if (!response.write(chunk)) await new Promise((resolve) => response.once('drain', resolve))
    }
  response.end()
}

function text(xml: string): Answer {
  return { status: 200, body: [Buffer.from(xml)] }
}

function failure(status: number, code: string): Answer {
  return { status, body: [Buffer.from(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`)] }
}

function metadataIn(headers: IncomingMessage['headers']): Stored['metadata'] {
  const entries = Object.entries(headers).filter(([name]) => name.startsWith('x-amz-meta-'))
  return Object.fromEntries(entries.map(([name, value]) => [name, String(value)]))
}
