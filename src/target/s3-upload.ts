/**
 * A file on its way to S3: small ones in one request, larger ones in parts that are sent while they are written. Nobody
 * sees it before `publish`, and in memory are two parts at most.
 *
 * The SDK's own uploader (lib-storage) is not used: it computes no checksum of the kind that is wanted here, and does not
 * say what has become of an upload whose last answer was lost.
 */
import { createHash, randomUUID, type Hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import type { CompletedPart, PutObjectCommandInput, S3 } from '@aws-sdk/client-s3'

import { RetentionError } from '../errors.ts'
import { isRefused, nameOf, statusOf } from './s3-errors.ts'
import type { Draft } from './target.ts'

/** What a service takes as a part, at least; only the last may be smaller. */
const smallestPart = 5 * 1024 * 1024
/** How many parts a file may have. */
const mostParts = 10_000

/** The name of the mark that an upload leaves on its object, by which it knows it again. */
const markName = 'retention-upload'

/** Parts' buffers that are in no use. */
const free: Buffer[] = []

/** The size of the n-th part, in bytes. The first half is enough for 26 GB, all are for 351 GB. */
export function partSize(number: number): number {
  return smallestPart * 2 ** Math.max(0, Math.floor((number - 1) / 1000) - 4)
}

/** What an object gets along. */
export type ObjectSettings = Pick<
  PutObjectCommandInput,
  'StorageClass' | 'ServerSideEncryption' | 'SSEKMSKeyId' | 'ObjectLockMode' | 'ObjectLockRetainUntilDate'
>

/** Where a file is to go. */
export interface Destination {
  readonly s3: S3
  readonly Bucket: string
  readonly Key: string
  /** Its address, for people. */
  readonly location: string
  readonly settings: ObjectSettings
}

/** How often publishing is tried where the SDK does not try again, and how long is waited first, in milliseconds. */
const tries = 5
const firstWait = 100

/** Throws the SDK's errors as they are, besides its own `ARCHIVE_EXISTS`. */
export class S3Upload implements Draft {
  readonly #to: Destination
  readonly #mark = randomUUID()
  readonly #stop = new AbortController()
  readonly #parts: CompletedPart[] = []
  /** The part that is on its way. */
  #sending: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | undefined
  #number = 1
  #buffer: Buffer = Buffer.alloc(0)
  #used = 0
  #hash: Hash = createHash('sha256')
  #uploadId: Promise<string> | undefined
  /** Whether the object may be there. */
  #mayBePublished = false
  #isDone = false

  constructor(to: Destination) {
    this.#to = to
  }

  async write(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      if (this.#used === this.#buffer.length) await this.#nextBuffer()
      const end = Math.min(chunk.length, at + this.#buffer.length - this.#used)
      const piece = chunk.subarray(at, end)
      // Hashed as it comes: it is in the processor's cache then.
      this.#hash.update(piece)
      piece.copy(this.#buffer, this.#used)
      this.#used += piece.length
      at = end
    }
  }

  async publish(): Promise<void> {
    if (this.#uploadId === undefined) await this.#put()
    else await this.#complete(await this.#uploadId)
    this.#isDone = true
  }

  async discard(): Promise<void> {
    if (this.#isDone) return
    this.#stop.abort()
    await this.#sending
    const { s3, Bucket, Key } = this.#to
    const UploadId = await this.#uploadId?.catch(() => undefined)
    if (UploadId !== undefined) await s3.abortMultipartUpload({ Bucket, Key, UploadId }).catch(ignoreNoUpload)
    if (this.#mayBePublished && (await this.#isOurs())) await s3.deleteObject({ Bucket, Key })
    this.#isDone = true
  }

  /** Sends what is in the buffer on its way, where it holds a whole part, and takes an empty one. */
  async #nextBuffer(): Promise<void> {
    if (this.#used > 0) await this.#sendPart()
    const size = partSize(this.#number)
    this.#buffer = (size === smallestPart ? free.pop() : undefined) ?? Buffer.allocUnsafeSlow(size)
    this.#used = 0
    this.#hash = createHash('sha256')
  }

  async #sendPart(): Promise<void> {
    if (this.#number > mostParts) {
      throw new RetentionError(
        'TARGET_UNUSABLE',
        `${this.#to.location} is too large: it has more than ${mostParts} parts`,
        {
          hint: "Archive its partition by rows, with partitions: 'rows' in the policy.",
        },
      )
    }
    this.#uploadId ??= this.#begin()
    const UploadId = await this.#uploadId
    // One is sent while the next is filled: with more, steps side by side would take too much memory.
    await this.#sending
    if (this.#failure !== undefined) throw this.#failure.error
    const part = { PartNumber: this.#number, ChecksumSHA256: this.#hash.digest('base64') }
    this.#sending = this.#send(UploadId, part, this.#buffer, this.#used)
    this.#number += 1
  }

  /** Sends a part. Never throws: that it failed, the next one tells. */
  async #send(UploadId: string, part: CompletedPart, buffer: Buffer, used: number): Promise<void> {
    const { s3, Bucket, Key } = this.#to
    const input = { Bucket, Key, UploadId, PartNumber: part.PartNumber, ChecksumSHA256: part.ChecksumSHA256 }
    try {
      const Body = buffer.subarray(0, used)
      const { ETag } = await s3.uploadPart({ ...input, Body }, { abortSignal: this.#stop.signal })
      this.#parts.push({ ...part, ETag })
      this.#release(buffer)
    } catch (error) {
      this.#failure ??= { error }
    }
  }

  async #begin(): Promise<string> {
    const { s3, Bucket, Key, settings } = this.#to
    const input = {
      Bucket,
      Key,
      ...settings,
      Metadata: { [markName]: this.#mark },
      ChecksumAlgorithm: 'SHA256',
    } as const
    const { UploadId } = await s3.createMultipartUpload(input, { abortSignal: this.#stop.signal })
    if (UploadId === undefined) throw new Error('the service gave no UploadId')
    return UploadId
  }

  async #put(): Promise<void> {
    const { s3, Bucket, Key, settings } = this.#to
    const Body = this.#buffer.subarray(0, this.#used)
    const ChecksumSHA256 = this.#hash.digest('base64')
    const Metadata = { [markName]: this.#mark }
    const input = { Bucket, Key, ...settings, Metadata, Body, ChecksumSHA256, IfNoneMatch: '*' }
    await this.#exclusively(() => s3.putObject(input, { abortSignal: this.#stop.signal }))
    this.#release(this.#buffer)
  }

  async #complete(UploadId: string): Promise<void> {
    await this.#sendPart()
    await this.#sending
    if (this.#failure !== undefined) throw this.#failure.error
    const { s3, Bucket, Key } = this.#to
    const input = { Bucket, Key, UploadId, MultipartUpload: { Parts: this.#parts }, IfNoneMatch: '*' }
    await this.#exclusively(async () => {
      const { ChecksumSHA256 } = await s3.completeMultipartUpload(input, { abortSignal: this.#stop.signal })
      if (ChecksumSHA256 === undefined || ChecksumSHA256 === compositeOf(this.#parts)) return
      throw new RetentionError(
        'ARCHIVE_CHANGED',
        `${this.#to.location} was not put together from the parts that were sent`,
      )
    })
  }

  /**
   * Makes the request by which the object appears. Where its answer was lost, it may have appeared all the same, and what
   * is in the way when the request is made again is our own.
   */
  async #exclusively(request: () => Promise<unknown>): Promise<void> {
    this.#mayBePublished = true
    for (let attempt = 1; ; attempt += 1) {
      try {
        await request()
        return
      } catch (error) {
        if (this.#stop.signal.aborted || error instanceof RetentionError) throw error
        const isTaken = [409, 412].includes(statusOf(error) ?? 0)
        // Completed by an earlier attempt, an upload is gone.
        const isGone = nameOf(error) === 'NoSuchUpload'
        if ((isTaken || isGone || !isRefused(error)) && (await this.#isOurs())) return
        // S3 may answer that all is well, and then that it is not: not every version of the SDK takes that for its failure.
        const isLate = nameOf(error) === 'InternalError' && isRefused(error)
        if ((isLate || statusOf(error) === 409) && attempt < tries) {
          await sleep(firstWait * 2 ** (attempt - 1) * (0.5 + Math.random()))
          continue
        }
        if (!isTaken) throw error
        const { location } = this.#to
        throw new RetentionError('ARCHIVE_EXISTS', `${location} is in the way; it is left as it is`)
      }
    }
  }

  /** Whether the object of that name is the one of this upload. */
  async #isOurs(): Promise<boolean> {
    const { s3, Bucket, Key } = this.#to
    return s3.headObject({ Bucket, Key }).then(
      ({ Metadata }) => Metadata?.[markName] === this.#mark,
      (error: unknown) => {
        if (statusOf(error) === 404) return false
        throw error
      },
    )
  }

  #release(buffer: Buffer): void {
    if (buffer.length === smallestPart) free.push(buffer)
  }
}

/** The checksum of an object of several parts: that of their checksums. */
function compositeOf(parts: readonly CompletedPart[]): string {
  const hash = createHash('sha256')
  for (const { ChecksumSHA256 = '' } of parts) hash.update(Buffer.from(ChecksumSHA256, 'base64'))
  return `${hash.digest('base64')}-${parts.length}`
}

/** Forgets that there is no such upload: it is over. */
export function ignoreNoUpload(error: unknown): void {
  if (nameOf(error) !== 'NoSuchUpload' && statusOf(error) !== 404) throw error
}
