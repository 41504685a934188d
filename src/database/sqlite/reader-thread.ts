/** The thread that reads rows as CSV, on a connection and in a snapshot of its own; reader.ts asks it. */
import { createHash, type Hash } from 'node:crypto'
import { constants, setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'

import type Sqlite from 'better-sqlite3'

import { messageOf, RetentionError } from '../../errors.ts'
import { attempt, open } from './driver.ts'
import { csvPieces, type CsvPiece, type CsvQuery } from './pieces.ts'
import type { Answer, Question } from './reader.ts'

giveWay()
let raw: Sqlite.Database | undefined
let reading: Reading | undefined
const spares: ArrayBuffer[] = []

interface Reading {
  readonly id: number
  readonly pieces: Iterator<CsvPiece>
  readonly hash: Hash
}

parentPort?.on('message', (question: Question) => {
  try {
    if (question.ask === 'close') close()
    if (question.ask === 'read') begin(question.id, question.file, question.query)
    // What is still asked of a reading that has ended needs no answer.
    if (question.id !== reading?.id) return
    if (question.ask === 'next') next(reading, question.spare)
    if (question.ask === 'end') end()
  } catch (error) {
    end()
    const { code, hint } = error instanceof RetentionError ? error : { code: 'UNEXPECTED' as const, hint: undefined }
    answer({ is: 'error', id: question.id, code, message: messageOf(error), hint })
  }
})

/**
 * Leaves the processor to whoever else wants it, such as those that use the database meanwhile. On Linux alone, where a
 * priority is a thread's and not the whole process's. https://man7.org/linux/man-pages/man2/setpriority.2.html
 */
function giveWay(): void {
  if (process.platform !== 'linux') return
  try {
    setPriority(constants.priority.PRIORITY_LOW)
  } catch {
    // Where that is forbidden, it works as all others do.
  }
}

function begin(id: number, file: string, query: CsvQuery): void {
  end()
  // What fails in opening it is told, and tried again by the next reading.
  const opened = (raw ??= open(file, true))
  attempt(() => opened.exec('begin'))
  reading = { id, pieces: csvPieces(opened, query, takeBuffer), hash: createHash('sha256') }
}

/** Pieces differ in size: a buffer that most of them fit into can be used again. */
const bufferBytes = 320 * 1024

/** A buffer that has come back, if it is large enough: new ones all the time would keep the garbage collector busy. */
function takeBuffer(bytes: number): Buffer<ArrayBuffer> {
  const spare = spares.pop()
  return spare !== undefined && spare.byteLength >= bytes
    ? Buffer.from(spare)
    : Buffer.allocUnsafeSlow(Math.max(bytes, bufferBytes))
}

function next({ id, pieces, hash }: Reading, spare: ArrayBuffer | undefined): void {
  if (spare !== undefined) spares.push(spare)
  const { done, value } = pieces.next()
  if (done === true) {
    end()
    answer({ is: 'end', id, sha256: hash.digest('hex') })
    return
  }
  const { bytes, numbers } = value
  hash.update(bytes)
  answer({ is: 'piece', id, bytes, numbers }, [bytes.buffer, numbers.buffer])
}

/** Ends the snapshot: as long as it lasts, SQLite cannot take the changes since out of its write-ahead log. */
function end(): void {
  reading?.pieces.return?.()
  reading = undefined
  if (raw?.inTransaction === true) raw.exec('rollback')
}

/** Leaves the file, and what was kept for reading it. */
function close(): void {
  end()
  raw?.close()
  raw = undefined
  spares.length = 0
  answer({ is: 'closed', id: 0 })
}

function answer(what: Answer, handedOver: ArrayBuffer[] = []): void {
  parentPort?.postMessage(what, handedOver)
}
