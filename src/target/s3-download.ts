/** Reads an object to its end, also over connections that break. */
import { setTimeout as sleep } from 'node:timers/promises'

import type { GetObjectCommandOutput, S3 } from '@aws-sdk/client-s3'

import { isRefused } from './s3-errors.ts'

/** How often a download may break without a byte in between, and how long is waited first, in milliseconds. */
const mostBreaks = 4
const firstWait = 100

/**
 * An object's bytes. Where the connection breaks, they go on from where they have come to, of the same version of the
 * object or not at all.
 * @param first the answer to the first request
 * @param isLent whether each chunk is needed until the next is asked for only
 * @throws the SDK's errors
 */
export async function* download(
  s3: S3,
  object: { readonly Bucket: string; readonly Key: string },
  first: GetObjectCommandOutput,
  isLent: boolean,
): AsyncGenerator<Buffer> {
  const length = first.ContentLength ?? 0
  let at = 0
  let breaks = 0
  for (let answer = first; ;) {
    try {
      for await (const chunk of bytesOf(answer)) {
        at += chunk.length
        breaks = 0
        yield chunk
        if (isLent) free(chunk)
      }
      if (at >= length) return
      throw new Error(`the connection ended after ${at} of ${length} bytes`)
    } catch (error) {
      breaks += 1
      if (isRefused(error) || breaks > mostBreaks) throw error
      await sleep(firstWait * 2 ** (breaks - 1) * (0.5 + Math.random()))
    }
    answer = await s3.getObject({ ...object, Range: `bytes=${at}-`, IfMatch: first.ETag })
  }
}

/** Frees a chunk's memory: as garbage, tens of megabytes come together before they are collected. */
function free({ buffer, length }: Buffer): void {
  // Of a larger buffer, others may have a part.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0)
}

/** The bytes of one answer. Whoever stops before its end closes the connection. */
function bytesOf({ Body }: GetObjectCommandOutput): AsyncIterable<Buffer> {
  // On Node it is a stream of buffers, whatever its type says of other places.
  return Body as unknown as AsyncIterable<Buffer>
}
