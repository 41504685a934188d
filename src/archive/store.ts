/** Stores archives and manifests on a target and reads them back whole. */
import { createHash, type Hash } from 'node:crypto'

import { RetentionError } from '../errors.ts'
import type { Target } from '../target/target.ts'
import { RecordCounter } from './csv.ts'

/** Bytes, piece by piece. */
type ByteSource = AsyncIterable<Buffer> | Iterable<Buffer>

/** The size and checksum of some bytes. */
export interface Digest {
  readonly bytes: number
  /** SHA-256, in hexadecimal. */
  readonly sha256: string
}

/** Bytes that were stored and read back. */
export interface Stored extends Digest {
  /** How many records they hold, taken as CSV. */
  readonly records: number
}

/** Counts and hashes the bytes that pass. */
export class Meter {
  readonly #hash: Hash = createHash('sha256')
  #bytes = 0

  update(chunk: Buffer): void {
    this.#hash.update(chunk)
    this.#bytes += chunk.length
  }

  /** Of all bytes so far. To be called once. */
  digest(): Digest {
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex') }
  }
}

/** A text's SHA-256, in hexadecimal. */
export function sha256Of(text: string): string {
  const meter = new Meter()
  meter.update(Buffer.from(text))
  return meter.digest().sha256
}

/** A stored file's bytes. It is opened when the first of them is asked for: where none ever is, nothing is left open. */
export async function* contents(target: Target, name: string): AsyncGenerator<Buffer> {
  yield* await target.read(name)
}

/** Bytes on their way through a meter. */
export async function* metered(meter: Meter, source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    meter.update(chunk)
    yield chunk
  }
}

/** So large that what each call of the disk and of the hash costs does not count. */
const blockBytes = 512 * 1024

/** Blocks that are in no use: each step would leave some as garbage. */
const free: Buffer[] = []

/** Lends a block for as long as some work takes. */
async function withBlock<T>(work: (block: Buffer) => Promise<T>): Promise<T> {
  const block = free.pop() ?? Buffer.allocUnsafeSlow(blockBytes)
  try {
    return await work(block)
  } finally {
    free.push(block)
  }
}

/** The same bytes in large blocks: SQLite's come in pieces of a few kilobytes. Each block is valid until the next. */
async function* inBlocks(source: ByteSource, block: Buffer): AsyncGenerator<Buffer> {
  let used = 0
  for await (const chunk of source) {
    if (chunk.length >= block.length) {
      if (used > 0) yield block.subarray(0, used)
      used = 0
      yield chunk
      continue
    }
    for (let at = 0; at < chunk.length;) {
      const copied = chunk.copy(block, used, at)
      at += copied
      used += copied
      if (used < block.length) continue
      yield block
      used = 0
    }
  }
  if (used > 0) yield block.subarray(0, used)
}

/**
 * Stores bytes under a name that must be free, and proves by reading it back that the target holds every byte.
 * @param recordsOf how many records they are, where that is known once they have come; else they are counted
 * @throws RetentionError `ARCHIVE_EXISTS`, or `ARCHIVE_CHANGED` when other bytes came back.
 */
export async function store(
  target: Target,
  name: string,
  source: ByteSource,
  recordsOf?: () => number,
): Promise<Stored> {
  const meter = new Meter()
  const draft = await target.create(name)
  try {
    await withBlock(async (block) => {
      for await (const bytes of inBlocks(source, block)) {
        meter.update(bytes)
        await draft.write(bytes)
      }
    })
    await draft.publish()
  } catch (error) {
    await draft.discard().catch(() => {})
    throw error
  }
  const written = meter.digest()
  try {
    const meterBack = new Meter()
    const counter = recordsOf === undefined ? new RecordCounter() : undefined
    await readThrough(target, name, (chunk) => {
      meterBack.update(chunk)
      counter?.update(chunk)
    })
    const back = meterBack.digest()
    if (back.sha256 === written.sha256) return { ...written, records: counter?.records ?? recordsOf?.() ?? 0 }
    throw new RetentionError(
      'ARCHIVE_CHANGED',
      `${target.locate(name)} was stored with ${written.bytes} bytes, but ${back.bytes} other bytes were read back`,
      { hint: 'Nothing was deleted. Check the disk.' },
    )
  } catch (error) {
    // It is no archive, and nobody knows of it yet.
    await target.withdraw(name).catch(() => {})
    throw error
  }
}

/** Stores a text as `store` does. */
export async function storeText(target: Target, name: string, text: string): Promise<Stored> {
  return store(target, name, [Buffer.from(text)])
}

/** Reads a stored archive whole: its size, checksum and number of records. */
export async function readWhole(target: Target, name: string): Promise<{ digest: Digest; records: number }> {
  const meter = new Meter()
  const counter = new RecordCounter()
  await readThrough(target, name, (chunk) => {
    meter.update(chunk)
    counter.update(chunk)
  })
  return { digest: meter.digest(), records: counter.records }
}

/** Reads a stored file to its end. @param look is shown each piece, valid until it returns */
async function readThrough(target: Target, name: string, look: (chunk: Buffer) => void): Promise<void> {
  await withBlock(async (block) => {
    for await (const chunk of await target.read(name, block)) look(chunk)
  })
}

/** A small stored file's text. @throws RetentionError `ARCHIVE_NOT_FOUND`, `ARCHIVE_CHANGED` when it is too large. */
export async function readText(target: Target, name: string): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of await target.read(name)) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > largestText) {
      throw new RetentionError('ARCHIVE_CHANGED', `${target.locate(name)} is larger than any manifest`)
    }
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** A manifest is a few kilobytes; tables with a thousand columns make it a few hundred. */
const largestText = 16 * 1024 * 1024
