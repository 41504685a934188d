/**
 * Reads rows as CSV in a thread of its own: while SQLite reads and writes lines there, this one stores them, deletes the
 * rows of the step before, and listens to signals.
 */
import { on } from 'node:events'
import path from 'node:path'
import { Worker } from 'node:worker_threads'

import { RetentionError, type ErrorCode } from '../../errors.ts'
import { Turns } from '../../turns.ts'
import type { CsvPiece, CsvQuery } from './pieces.ts'

/** What the thread is asked: to begin a reading in a file, to give its next piece, to end it early; to close the file. */
export type Question = { readonly id: number } & (
  | { readonly ask: 'read'; readonly file: string; readonly query: CsvQuery }
  /** With a buffer that is not needed here any more. */
  | { readonly ask: 'next'; readonly spare?: ArrayBuffer }
  | { readonly ask: 'end' }
  | { readonly ask: 'close' }
)

/** What it answers. */
export type Answer = { readonly id: number } & (
  | ({ readonly is: 'piece' } & CsvPiece)
  /** The SHA-256 of all bytes, in hexadecimal. */
  | { readonly is: 'end'; readonly sha256: string }
  | { readonly is: 'closed' }
  | { readonly is: 'error'; readonly code: ErrorCode; readonly message: string; readonly hint: string | undefined }
)

/**
 * How many pieces may be under way: most of a step, so that the thread has work while this one reads an archive back and
 * deletes. With 8 of them apply took a fifth more time.
 */
const ahead = 48

/** A thread that has nothing to do: starting one takes longer than reading a few thousand rows. */
let resting: Worker | undefined

/** How long a thread may take to close its file before it is ended instead. */
const closeMilliseconds = 1000

/** The reading thread of one database file, from when it is first needed. */
export class Reader {
  readonly #file: string
  readonly #between: () => void
  readonly #turns = new Turns()
  #worker: Worker | undefined
  #readings = 0

  /** @param between is called before each reading, when none is under way */
  constructor(file: string, between: () => void) {
    this.#file = file
    this.#between = between
  }

  /**
   * A query's rows, each piece valid until the next, in a snapshot that is taken when the first piece is asked for. One reading follows another.
   * @param onEnd is told the SHA-256 of all bytes, in hexadecimal, when they have been read
   * @param signal aborted, it ends the reading with an error at once
   */
  async *read(query: CsvQuery, onEnd: (sha256: string) => void, signal?: AbortSignal): AsyncGenerator<CsvPiece> {
    const endTurn = await this.#turns.take()
    try {
      this.#between()
      this.#readings += 1
      const question = { id: this.#readings, ask: 'read', file: this.#file, query } as const
      yield* readIn(this.#running(), question, onEnd, signal)
    } finally {
      endTurn()
    }
  }

  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    if (worker === undefined) return
    if (!(await hasClosed(worker)) || resting !== undefined) await worker.terminate()
    else resting = worker
  }

  #running(): Worker {
    if (this.#worker !== undefined) return this.#worker
    const worker = resting ?? start()
    resting = undefined
    // Asked again after its end, it would never answer.
    worker.removeAllListeners('exit').once('exit', () => {
      this.#worker = undefined
      if (resting === worker) resting = undefined
    })
    this.#worker = worker
    return worker
  }
}

function start(): Worker {
  // The same name before and after the build, but for its ending.
  const script = path.join(import.meta.dirname, `reader-thread${path.extname(import.meta.filename)}`)
  // What it makes is handed over, or garbage at once: it needs little memory.
  const worker = new Worker(script, { resourceLimits: { maxYoungGenerationSizeMb: 4 } })
  worker.unref()
  return worker
}

/** Whether a thread has closed its file, and so can read another. What it was asked before, it has answered by then. */
async function hasClosed(worker: Worker): Promise<boolean> {
  const question: Question = { id: 0, ask: 'close' }
  const giveUp = AbortSignal.timeout(closeMilliseconds)
  const answers = on(worker, 'message', { close: ['exit'], signal: giveUp })
  worker.ref()
  worker.postMessage(question)
  try {
    // An event's arguments come as an array.
    for await (const [answer] of answers as AsyncIterable<[Answer]>) {
      if (answer.id === question.id) return answer.is === 'closed'
    }
    return false
  } catch {
    return false
  } finally {
    worker.unref()
  }
}

async function* readIn(
  worker: Worker,
  reading: Question & { readonly ask: 'read' },
  onEnd: (sha256: string) => void,
  signal: AbortSignal | undefined,
): AsyncGenerator<CsvPiece> {
  const { id } = reading
  const ask = (question: Question, handedOver: ArrayBuffer[] = []): void => worker.postMessage(question, handedOver)
  const answers = on(worker, 'message', { close: ['exit'], ...(signal === undefined ? {} : { signal }) })
  // Only while it reads does it keep the process alive.
  worker.ref()
  try {
    ask(reading)
    for (let piece = 0; piece < ahead; piece += 1) ask({ id, ask: 'next' })
    // An event's arguments come as an array.
    for await (const [answer] of answers as AsyncIterable<[Answer]>) {
      if (answer.id !== id) continue
      if (answer.is === 'end') return onEnd(answer.sha256)
      if (answer.is === 'error') throw errorOf(answer)
      // Nobody has asked for it while it reads.
      if (answer.is === 'closed') break
      // What is handed over arrives as plain bytes.
      const { buffer, byteOffset, byteLength } = answer.bytes
      yield { bytes: Buffer.from(buffer, byteOffset, byteLength), numbers: answer.numbers }
      ask({ id, ask: 'next', spare: buffer }, [buffer])
    }
    throw new RetentionError('UNEXPECTED', 'The thread that reads rows has ended')
  } finally {
    ask({ id, ask: 'end' })
    worker.unref()
  }
}

function errorOf({ code, message, hint }: Answer & { is: 'error' }): RetentionError {
  return new RetentionError(code, message, hint === undefined ? {} : { hint })
}
