/** Compression of archives, by Node's own zlib: at work in a thread beside, with what it holds at a time bounded. */
import type { Duplex } from 'node:stream'
import zlib from 'node:zlib'

import { messageOf, RetentionError } from '../errors.ts'
import { through } from './through.ts'

/** What compresses archives. */
export type Compression = 'gzip' | 'zstd'

/** Smaller ones cost a tenth of the whole time on SQLite; larger ones only memory. */
const chunkSize = 128 * 1024

/** The level where none is said: for both, what follows costs more time than the disk it saves. */
export const defaultLevel = 1

/** Compresses bytes; each piece needs to be valid until the next only. */
export function compressed(method: Compression, level: number, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  return through(compressor(method, level), bytes)
}

/**
 * Undoes it.
 * @param file what to call it in messages
 * @throws RetentionError `ARCHIVE_CHANGED`
 */
export function decompressed(
  method: Compression | 'deflate',
  bytes: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<Buffer> {
  return decompressing(decompressor(method), bytes, file)
}

/** Deflates bytes, as the inside of a zip is. */
export function deflated(level: number, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  return through(zlib.createDeflateRaw({ level, chunkSize }), bytes)
}

/** Whether bytes begin as deflated ones do. */
export function isDeflated(bytes: Buffer): boolean {
  try {
    zlib.inflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH })
    return true
  } catch {
    return false
  }
}

async function* decompressing(transform: Duplex, bytes: AsyncIterable<Buffer>, file: string): AsyncGenerator<Buffer> {
  try {
    yield* through(transform, bytes)
  } catch (error) {
    if (error instanceof RetentionError) throw error
    throw new RetentionError('ARCHIVE_CHANGED', `${file} cannot be decompressed: ${messageOf(error)}`, { cause: error })
  }
}

function compressor(method: Compression, level: number): Duplex {
  if (method === 'gzip') return zlib.createGzip({ level, chunkSize })
  const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag } = zlib.constants
  // With a checksum, `zstd -t` can tell whether a file is whole.
  return zlib.createZstdCompress({ chunkSize, params: { [ZSTD_c_compressionLevel]: level, [ZSTD_c_checksumFlag]: 1 } })
}

function decompressor(method: Compression | 'deflate'): Duplex {
  switch (method) {
    case 'gzip':
      return zlib.createGunzip({ chunkSize })
    case 'zstd':
      return zlib.createZstdDecompress({ chunkSize })
    case 'deflate':
      return zlib.createInflateRaw({ chunkSize })
  }
}
