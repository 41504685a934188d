/**
 * A file on its way to Google Drive, in chunks that are sent while the next is written. Drive makes the file with the last
 * chunk, all of it at once: before that nobody sees anything, and in memory are two chunks at most.
 */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

import { RetentionError } from '../errors.ts'
import { statusOf } from './gdrive-errors.ts'
import { checksums, discardFile, fileOf, newId, onAllDrives, storedFields, type DriveFile } from './gdrive-files.ts'
import { ask, askOnce, jsonOf, Retries, textOf } from './gdrive-http.ts'

/** Drive takes multiples of 256 KiB, but for the last. Each is a request, and what a broken one costs. */
const chunkBytes = 8 * 1024 * 1024

/** Chunks' buffers that are in no use. */
const free: Buffer[] = []

/** Where a file is to go. */
export interface Destination {
  /** The folder's id. */
  readonly folder: string
  readonly name: string
  /** Its address, for people. */
  readonly location: string
}

/** An upload that was begun. */
interface Session {
  /** The id that its file gets. */
  readonly id: string
  /** Where its bytes are sent: whoever knows it may send some. */
  readonly address: string
}

/** Throws what requests to Drive fail with, besides its own `ARCHIVE_CHANGED`. */
export class DriveUpload {
  readonly #to: Destination
  readonly #stop = new AbortController()
  readonly #md5 = createHash('md5')
  readonly #sha256 = createHash('sha256')
  #session: Promise<Session> | undefined
  /** The chunk that is on its way. */
  #sending: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | undefined
  #buffer: Buffer = Buffer.alloc(0)
  #used = 0
  /** How many bytes come before the buffer's. */
  #start = 0
  /** Whether the file may be there. */
  #mayBeThere = false

  constructor(to: Destination) {
    this.#to = to
  }

  /** Stops whatever is under way. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** Takes the next bytes; the chunk is the caller's again. */
  async write(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      if (this.#used === this.#buffer.length) await this.#nextBuffer()
      const end = Math.min(chunk.length, at + this.#buffer.length - this.#used)
      const piece = chunk.subarray(at, end)
      this.#md5.update(piece)
      this.#sha256.update(piece)
      piece.copy(this.#buffer, this.#used)
      this.#used += piece.length
      at = end
    }
  }

  /** Sends what is left: with that the file is there. */
  async finish(): Promise<DriveFile> {
    const session = await this.#begun()
    await this.#sent()
    this.#mayBeThere = true
    const file = await this.#transfer(session, this.#buffer.subarray(0, this.#used), this.#start, true)
    if (file === undefined) throw new Error('Drive has all bytes, and makes no file of them')
    const size = this.#start + this.#used
    const isSame =
      Number(file.size) === size &&
      [undefined, this.#md5.digest('hex')].includes(file.md5Checksum) &&
      [undefined, this.#sha256.digest('hex')].includes(file.sha256Checksum)
    if (!isSame) throw new RetentionError('ARCHIVE_CHANGED', `${this.#to.location} is not what was sent`)
    this.#release(this.#buffer)
    return file
  }

  /** Gives the file up, also where it may be there. */
  async discard(): Promise<void> {
    this.#stop.abort()
    await this.#sending
    const session = await this.#session?.catch(() => undefined)
    if (session === undefined) return
    // Drive forgets a session after a week by itself; of one that is over it says that with an error.
    await askOnce({ method: 'DELETE', to: session.address }).then(textOf, () => {})
    if (this.#mayBeThere) await discardFile(session.id)
  }

  /** Sends what is in the buffer on its way, where it holds a whole chunk, and takes an empty one. */
  async #nextBuffer(): Promise<void> {
    if (this.#used > 0) {
      const session = await this.#begun()
      // One is sent while the next is filled: Drive takes them one after the other.
      await this.#sent()
      this.#sending = this.#send(session, this.#buffer, this.#start)
      this.#start += this.#used
    }
    this.#buffer = free.pop() ?? Buffer.allocUnsafeSlow(chunkBytes)
    this.#used = 0
  }

  async #sent(): Promise<void> {
    await this.#sending
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Sends a chunk that is not the last. Never throws: that it failed, the next one tells. */
  async #send(session: Session, chunk: Buffer, start: number): Promise<void> {
    try {
      await this.#transfer(session, chunk, start, false)
      this.#release(chunk)
    } catch (error) {
      this.#failure ??= { error }
    }
  }

  async #begun(): Promise<Session> {
    this.#session ??= this.#begin()
    return this.#session
  }

  async #begin(): Promise<Session> {
    const id = await newId()
    const { name, folder } = this.#to
    // Of a type that Drive neither shows nor reads: the words of texts go into its search.
    const mimeType = 'application/octet-stream'
    const request = {
      method: 'POST',
      to: '/upload/drive/v3/files',
      query: { ...onAllDrives, uploadType: 'resumable', fields: storedFields },
      headers: { 'content-type': 'application/json; charset=UTF-8', 'x-upload-content-type': mimeType },
      body: Buffer.from(JSON.stringify({ id, name, parents: [folder], mimeType })),
      signal: this.signal,
    } as const
    const address = await ask(request, async (answer) => {
      await textOf(answer)
      return answer.headers.location
    })
    if (address === undefined) throw new Error('Drive gave no address to send the file to')
    return { id, address }
  }

  /**
   * Sends a chunk; where the way breaks, Drive is asked how far it has come, and gets the rest.
   * @returns the file, where it was the last
   */
  async #transfer(session: Session, chunk: Buffer, start: number, isLast: boolean): Promise<DriveFile | undefined> {
    const end = start + chunk.length
    const retries = new Retries(this.signal)
    let at = start
    for (let mustAsk = false; ;) {
      try {
        const rest = mustAsk ? undefined : chunk.subarray(at - start)
        const answer = await this.#put(session.address, rest, at, isLast ? end : undefined)
        if (answer.statusCode !== 308) return await jsonOf<DriveFile>(answer)
        await textOf(answer)
        const received = receivedOf(answer)
        if (received < start || received > end) throw lost(this.#to.location, received, start, end)
        if (received === end && !isLast) return undefined
        if (received > at) retries.reset()
        // It may have all bytes, and not be done with them.
        else if (!mustAsk) throw new Error(`Drive takes no more than ${received} of ${end} bytes`)
        at = received
        mustAsk = false
      } catch (error) {
        if (isOver(error)) {
          // Perhaps as it is done, and only the answer that said so was lost.
          const file = isLast ? await fileOf(session.id, checksums) : undefined
          if (file !== undefined) return file
          throw ended(this.#to.location)
        }
        await retries.wait(error)
        mustAsk = true
      }
    }
  }

  /** @param rest undefined: Drive is asked how far it has come @param total the file's size, where that is known */
  async #put(address: string, rest: Buffer | undefined, at: number, total?: number): Promise<IncomingMessage> {
    const range = rest === undefined || rest.length === 0 ? '*' : `${at}-${at + rest.length - 1}`
    return askOnce({
      method: 'PUT',
      to: address,
      headers: { 'content-range': `bytes ${range}/${total ?? '*'}` },
      ...(rest === undefined ? {} : { body: rest }),
      signal: this.signal,
    })
  }

  #release(buffer: Buffer): void {
    if (buffer.length === chunkBytes) free.push(buffer)
  }
}

/** How many bytes Drive has, by its answer to a chunk. */
function receivedOf(answer: IncomingMessage): number {
  const [, last] = /^bytes=0-(\d+)$/.exec(answer.headers.range ?? '') ?? []
  return last === undefined ? 0 : Number(last) + 1
}

/** Whether Drive takes nothing more for an upload: it is done, or given up. */
function isOver(error: unknown): boolean {
  return [404, 409, 410].includes(statusOf(error) ?? 0)
}

function ended(location: string): RetentionError {
  return new RetentionError('TARGET_UNUSABLE', `Google Drive has ended the upload of ${location} before it was done`, {
    hint: 'The next run begins it anew.',
  })
}

function lost(location: string, received: number, start: number, end: number): RetentionError {
  return new RetentionError(
    'TARGET_UNUSABLE',
    `Google Drive has lost a part of ${location}: it has ${received} bytes of it, after ${start} to ${end} were sent`,
  )
}
