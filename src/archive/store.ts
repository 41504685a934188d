/** Stores archives and manifests on a target, sealed or as they are, and reads them back whole. */
import { createHash, type Hash } from 'node:crypto'

import { RetentionError, type ErrorCode } from '../errors.ts'
import type { Target } from '../target/target.ts'
import { RecordCounter } from './csv.ts'
import { storedName, type Encoding } from './encoding.ts'
import { openerOf, type Keys, type Seal, type Sealer } from './seal.ts'

/** Bytes, piece by piece. */
type ByteSource = AsyncIterable<Buffer> | Iterable<Buffer>

/** The size and checksum of some bytes. */
export interface Digest {
  readonly bytes: number
  /** SHA-256, in hexadecimal. */
  readonly sha256: string
}

/** A CSV that was stored and read back; its size and checksum are those of the CSV. */
export interface Stored extends Digest {
  /** How many records it holds. */
  readonly records: number
  /** The name of the file that holds it. */
  readonly file: string
  readonly encoding: Encoding | null
  /** Of the bytes as they are stored. */
  readonly sealed: Digest
}

/** A file that holds a CSV. */
export interface CsvFile {
  readonly target: Target
  /** The file's name in the target. */
  readonly path: string
  /** Null: the CSV as it is. */
  readonly encoding: Encoding | null
  /** What it is opened with, where it is sealed. */
  readonly keys: Keys
}

/** What reading a file whole came to. */
export interface ReadFile {
  /** Of the bytes as they are stored. */
  readonly stored: Digest
  /** Of the CSV that they hold; or why it could not be read. */
  readonly csv: (Digest & { readonly records: number }) | RetentionError
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
 * Stores a CSV under a name that must be free, and proves by reading it back that the target holds every byte, and that
 * they are the CSV when the seal is undone.
 * @param name the CSV's; that of the file says as well how it is sealed
 * @param recordsOf how many records they are, where that is known once they have come; else they are counted
 * @param sealer how it is to be sealed; undefined: the CSV is stored as it is
 * @throws RetentionError `ARCHIVE_EXISTS`, or `ARCHIVE_CHANGED` when other bytes came back.
 */
export async function store(
  target: Target,
  name: string,
  source: ByteSource,
  recordsOf?: () => number,
  sealer?: Sealer,
): Promise<Stored> {
  const encoding = sealer?.encoding ?? null
  const file = storedName(name, encoding)
  const seal = sealer?.begin(name)
  const csv = new Meter()
  const stored = seal === undefined ? csv : new Meter()
  const draft = await target.create(file)
  try {
    await withBlock(async (block) => {
      const bytes = metered(csv, inBlocks(source, block))
      for await (const chunk of seal === undefined ? bytes : metered(stored, seal.close(bytes)))
        await draft.write(chunk)
    })
    await draft.publish()
  } catch (error) {
    await draft.discard().catch(() => {})
    throw error
  }
  const written = csv.digest()
  const sealed = seal === undefined ? written : stored.digest()
  try {
    const back = await readBack(target, file, seal, recordsOf === undefined)
    if (back.stored.sha256 !== sealed.sha256) throw notStored(target, file, sealed, back.stored)
    if (back.csv instanceof RetentionError) throw back.csv
    if (back.csv.sha256 !== written.sha256) throw notStored(target, file, written, back.csv)
    return { ...written, records: recordsOf?.() ?? back.csv.records, file, encoding, sealed }
  } catch (error) {
    // It is no archive, and nobody knows of it yet.
    await target.withdraw(file).catch(() => {})
    throw error
  }
}

function notStored(target: Target, file: string, written: Digest, back: Digest): RetentionError {
  return new RetentionError(
    'ARCHIVE_CHANGED',
    `${target.locate(file)} was stored with ${written.bytes} bytes, but ${back.bytes} other bytes were read back`,
    { hint: 'Nothing was deleted. Check the disk.' },
  )
}

/** Stores a text as `store` does. */
export async function storeText(target: Target, name: string, text: string): Promise<Stored> {
  return store(target, name, [Buffer.from(text)])
}

/** The CSV that a file holds. @throws RetentionError `KEY_MISSING`; while it is read, `KEY_WRONG` and `ARCHIVE_CHANGED` */
export async function readCsv({ target, path, encoding, keys }: CsvFile): Promise<AsyncIterable<Buffer>> {
  if (encoding === null) return opening(target, path)
  const open = await openerOf(encoding, target.locate(path), keys)
  return open(opening(target, path))
}

/** A file's bytes, opened with the first of them: what nobody begins to read needs not be closed. */
async function* opening(target: Target, file: string, into?: Buffer): AsyncGenerator<Buffer> {
  yield* await target.read(file, into)
}

/** Why a sealed file cannot be opened, whatever its bytes are. */
export const withoutKey: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['KEY_MISSING', 'KEY_WRONG', 'PACKAGE_MISSING'])

/** Reads a stored file whole. @throws RetentionError `ARCHIVE_NOT_FOUND`, and what the target does */
export async function readWhole({ target, path, encoding, keys }: CsvFile): Promise<ReadFile> {
  if (encoding === null) return readBack(target, path, undefined, true)
  try {
    const open = await openerOf(encoding, target.locate(path), keys)
    return await readBack(target, path, { open }, true)
  } catch (error) {
    if (!(error instanceof RetentionError) || !withoutKey.has(error.code)) throw error
    return { ...(await readBack(target, path, undefined, false)), csv: error }
  }
}

/** Reads a file whole, and undoes its sealing. @param counts whether its records are counted */
async function readBack(
  target: Target,
  file: string,
  seal: Pick<Seal, 'open'> | undefined,
  counts: boolean,
): Promise<ReadFile> {
  const [stored, csv] = [new Meter(), new Meter()]
  const counter = new RecordCounter()
  const look = (chunk: Buffer): void => {
    csv.update(chunk)
    if (counts) counter.update(chunk)
  }
  try {
    await withBlock(async (block) => {
      const bytes = opening(target, file, block)
      for await (const chunk of seal === undefined ? bytes : seal.open(metered(stored, bytes))) look(chunk)
    })
  } catch (error) {
    // Whether it is what was stored can be told all the same.
    if (seal === undefined || !(error instanceof RetentionError)) throw error
    return { ...(await readBack(target, file, undefined, false)), csv: error }
  }
  const read = { ...csv.digest(), records: counter.records }
  return { stored: seal === undefined ? read : stored.digest(), csv: read }
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
