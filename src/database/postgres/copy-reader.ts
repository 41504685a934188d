/**
 * Reads the bytes of a COPY … TO STDOUT off the connection, past pg, which would make an object of every row.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import type { Duplex } from 'node:stream'

import type { Connection, Submittable } from 'pg'

import { LendingSocket, readBytes } from './socket.ts'

/** Bytes are given on in blocks so large that what each call of the disk and of the hash costs does not count. */
const blockBytes = 512 * 1024

/** Blocks that nobody reads from any more; a new one for every step would be garbage of the largest kind. */
const free: Buffer[] = []

/**
 * How long to wait where there was less to read than there is room for, in milliseconds. A server sends 8 KB at a time: to
 * read every one of them costs both sides more than everything else that is done with the bytes.
 */
const gatherFor = 1

/** The messages of a COPY, by their first byte. All others are pg's. */
const [copyData, copyOutResponse, copyDone] = [0x64, 0x48, 0x63]
/** Messages that may come at any time and say nothing of the COPY: notice, notification, parameter status. */
const passedOver = new Set([0x4e, 0x41, 0x53])
/** The first byte, and how many bytes are to come, those four among them. */
const headerBytes = 5
const lineEnd = 0x0a

/** A COPY as a query for pg, which tells it of everything but the data by the methods called handle…. */
export class CopyReader implements Submittable {
  /** Rows by the server's own count; known after `end`. */
  rowCount = 0
  readonly text: string
  #stream: Duplex | undefined
  /** Lets pg read the connection again. */
  #giveBack: ((bytes: Buffer) => void) | undefined
  /** The message being read: its header as far as it has come, its first byte, and how many bytes are still to come. */
  readonly #header = Buffer.alloc(headerBytes)
  #headerLength = 0
  #code = 0
  #left = 0
  /** What is read in one go fits in behind a block that is not full yet. */
  #block = free.pop() ?? Buffer.allocUnsafeSlow(blockBytes + readBytes)
  #used = 0
  #lines = 0
  #hasAll = false
  #isOver = false
  #failure: unknown
  #wake: (() => void) | undefined

  constructor(text: string) {
    this.text = text
  }

  /** Rows as they came: the server sends one message for each, and one for the header, and each is a line. */
  get records(): number {
    return Math.max(0, this.#lines - 1)
  }

  /** The bytes in blocks, each valid until the next is asked for. @throws what pg does, or the reason of the signal */
  async *blocks(signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
    const wake = (): void => this.#wake?.()
    signal?.addEventListener('abort', wake)
    try {
      for (;;) {
        signal?.throwIfAborted()
        if (this.#failure !== undefined) throw this.#failure
        if (this.#isFull || (this.#hasAll && this.#used > 0)) {
          yield this.#block.subarray(0, this.#used)
          this.#used = 0
          if (!this.#hasAll) this.#stream?.resume()
        } else if (this.#hasAll) return
        else await this.#change()
      }
    } finally {
      signal?.removeEventListener('abort', wake)
      // Where it was broken off, more may still be read into it.
      if (this.#hasAll) free.push(this.#block)
    }
  }

  /** Waits for what the server says after the last byte. @throws what pg does */
  async end(): Promise<void> {
    while (!this.#isOver && this.#failure === undefined) await this.#change()
    if (this.#failure !== undefined) throw this.#failure
  }

  /** pg's to call. Returns what keeps it from beginning: thrown, pg would wait for its end for ever. */
  submit(connection: Connection): Error | undefined {
    const { stream } = connection
    const [parse] = stream.listeners('data') as ((bytes: Buffer) => void)[]
    if (parse === undefined || stream.listenerCount('data') > 1)
      return new Error('pg reads its connections in a new way')
    const take = (bytes: Buffer): void => this.#take(bytes)
    stream.off('data', parse)
    // Encrypted, it is a stream of TLS.
    if (stream instanceof LendingSocket) stream.borrower = take
    else stream.on('data', take)
    this.#stream = stream
    this.#giveBack = (bytes) => {
      if (stream instanceof LendingSocket) stream.borrower = undefined
      else stream.off('data', take)
      stream.on('data', parse)
      parse(bytes)
    }
    connection.query(this.text)
    return undefined
  }

  /** pg's to call. */
  handleError(error: unknown): void {
    this.#failure ??= error
    this.#wake?.()
  }

  /** pg's to call. */
  handleCommandComplete({ text }: { readonly text: string }): void {
    this.rowCount = Number(/^COPY (\d+)/.exec(text)?.[1])
  }

  /** pg's to call. */
  handleReadyForQuery(): void {
    this.#isOver = true
    this.#wake?.()
  }

  get #isFull(): boolean {
    return this.#used >= blockBytes
  }

  async #change(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  #take(bytes: Buffer): void {
    if (this.#used + bytes.length > this.#block.length)
      this.#block = Buffer.concat([this.#block.subarray(0, this.#used)], 2 * (this.#used + bytes.length))
    let at = 0
    while (at < bytes.length) {
      if (this.#left === 0) {
        at = this.#takeHeader(bytes, at)
        if (this.#headerLength > 0) break
        if (this.#code !== copyData && this.#code !== copyOutResponse && !passedOver.has(this.#code)) {
          this.#finish(bytes.subarray(at))
          return
        }
      }
      const end = Math.min(bytes.length, at + this.#left)
      this.#left -= end - at
      if (this.#code === copyData) {
        this.#used += bytes.copy(this.#block, this.#used, at, end)
        if (this.#left === 0 && bytes[end - 1] === lineEnd) this.#lines += 1
      }
      at = end
    }
    if (this.#isFull) {
      this.#stream?.pause()
      this.#wake?.()
    } else if (this.#stream instanceof LendingSocket && bytes.length < readBytes) {
      const stream = this.#stream.pause()
      setTimeout(() => stream.resume(), gatherFor)
    }
  }

  /** Reads a message's header, or as much of it as is there. Returns where what follows begins. */
  #takeHeader(bytes: Buffer, from: number): number {
    if (this.#headerLength === 0 && from + headerBytes <= bytes.length) {
      this.#code = bytes[from] ?? 0
      this.#left = bytes.readUInt32BE(from + 1) - (headerBytes - 1)
      return from + headerBytes
    }
    const copied = bytes.copy(this.#header, this.#headerLength, from)
    this.#headerLength += copied
    if (this.#headerLength === headerBytes) {
      this.#headerLength = 0
      this.#takeHeader(this.#header, 0)
    }
    return from + copied
  }

  /** At the first message that is not for us: the data has ended, or an error has come. It and all after it are pg's. */
  #finish(rest: Buffer): void {
    this.#hasAll = this.#code === copyDone
    const header = Buffer.alloc(headerBytes)
    header.writeUInt8(this.#code)
    header.writeUInt32BE(this.#left + headerBytes - 1, 1)
    this.#giveBack?.(Buffer.concat([header, rest]))
    this.#wake?.()
  }
}
