/** Reads a file of Google Drive to its end, also over connections that break. */
import type { IncomingMessage } from 'node:http'

import { RetentionError } from '../errors.ts'
import { isFlagged } from './gdrive-errors.ts'
import { fileOf, onAllDrives, type DriveFile } from './gdrive-files.ts'
import { askOnce, Retries } from './gdrive-http.ts'

/**
 * A file's bytes. Where the connection breaks, they go on from where they have come to, of the same bytes or not at all.
 * @param location its address, for people
 * @throws RetentionError `ARCHIVE_CHANGED` where it was replaced meanwhile; and what requests to Drive fail with
 */
export async function* download(file: DriveFile, location: string): AsyncGenerator<Buffer> {
  const length = Number(file.size)
  const retries = new Retries()
  for (let at = 0; ;) {
    try {
      if (at > 0 && (await fileOf(file.id))?.md5Checksum !== file.md5Checksum)
        throw new RetentionError('ARCHIVE_CHANGED', `${location} was replaced while it was read`)
      for await (const chunk of await bytesFrom(file.id, at)) {
        // Without an encoding, a stream of Node's gives buffers.
        const bytes = chunk as Buffer
        at += bytes.length
        retries.reset()
        yield bytes
      }
      if (at >= length) return
      throw new Error(`the connection ended after ${at} of ${length} bytes`)
    } catch (error) {
      // Only the end of the answer was lost.
      if (at > 0 && at >= length) return
      await retries.wait(error)
    }
  }
}

async function bytesFrom(id: string, at: number): Promise<IncomingMessage> {
  const headers = at === 0 ? {} : { range: `bytes=${at}-` }
  const query = { ...onAllDrives, alt: 'media' }
  const request = { method: 'GET', to: `/drive/v3/files/${id}`, query, headers } as const
  const answer = await askOnce(request).catch((error: unknown) => {
    if (!isFlagged(error)) throw error
    // Whether it is what was stored, its checksum tells.
    return askOnce({ ...request, query: { ...query, acknowledgeAbuse: 'true' } })
  })
  if (at === 0 || answer.statusCode === 206) return answer
  answer.destroy()
  throw new Error('Drive began anew in the middle of a file')
}
