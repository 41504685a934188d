/** Reads the CSV of SQLite's archives back into rows: a strict parser of exactly the form that csv.ts describes. */
import { isAscii } from 'node:buffer'

import { RetentionError } from '../errors.ts'
import { byteOrderMark, InvalidText, type Cell } from './csv.ts'

/** Bytes are looked at in pieces of this size: larger ones make strings that are costly to keep and to free. */
const pieceBytes = 16 * 1024

const [quote, comma, lineEnd] = [0x22, 0x2c, 0x0a]

/**
 * Reads CSV bytes back into rows, some at a time; the header row comes first, as text cells. A byte order mark is passed
 * over.
 * @throws RetentionError `ARCHIVE_CHANGED` where the bytes are no such CSV
 */
export async function* parseRows(csv: AsyncIterable<Buffer>): AsyncGenerator<Cell[][]> {
  const parser = new RowParser()
  for await (const chunk of csv) {
    for (let at = 0; at < chunk.length; at += pieceBytes) {
      const rows = parser.parse(chunk.subarray(at, at + pieceBytes))
      if (rows.length > 0) yield rows
    }
  }
  const rows = parser.end()
  if (rows.length > 0) yield rows
}

class RowParser {
  /** Bytes that are not yet known to be whole records, in their pieces. */
  #pieces: Buffer[] = []
  #bytes = 0
  /** A long record is looked at again only when twice as much of it is there: else its length would count squared. */
  #tryAt = byteOrderMark.length
  #isFirst = true
  #width = 0

  /** Takes more bytes; gives the rows that are whole now. */
  parse(more: Buffer): Cell[][] {
    this.#pieces.push(more)
    this.#bytes += more.length
    if (this.#bytes < this.#tryAt) return []
    let bytes = Buffer.concat(this.#pieces)
    if (this.#isFirst && bytes.subarray(0, byteOrderMark.length).equals(byteOrderMark))
      bytes = bytes.subarray(byteOrderMark.length)
    this.#isFirst = false
    const { rows, end } = wholeRecords(bytes)
    this.#pieces = [bytes.subarray(end)]
    this.#bytes = bytes.length - end
    this.#tryAt = end === 0 ? 2 * bytes.length : 0
    this.#width ||= rows[0]?.length ?? 0
    for (const row of rows) if (row.length !== this.#width) throw malformed('its records differ in length')
    return rows
  }

  /** The last rows. @throws RetentionError `ARCHIVE_CHANGED` where there is more than whole records */
  end(): Cell[][] {
    this.#tryAt = 0
    const rows = this.parse(Buffer.alloc(0))
    if (this.#bytes > 0) throw malformed('it ends in the middle of a record')
    return rows
  }
}

/** The whole records that bytes begin with, and where they end. */
function wholeRecords(bytes: Buffer): { rows: Cell[][]; end: number } {
  // One character a byte: what is looked for are ASCII's own, and text that is ASCII alone is right as it is.
  const text = bytes.toString('latin1')
  const rows: Cell[][] = []
  let row: Cell[] = []
  let end = 0
  for (let at = 0; at < text.length; at += 1) {
    if (text.charCodeAt(at) === quote) {
      const close = closingQuote(text, at)
      // The last one may be the first half of a doubled one.
      if (close === -1 || close === text.length - 1) break
      const inside = text.slice(at + 1, close)
      row.push(inside.includes('"') ? inside.replaceAll('""', '"') : inside)
      at = close + 1
    } else {
      const close = endOfUnquoted(text, at)
      if (close === -1) break
      row.push(readUnquoted(text.slice(at, close)))
      at = close
    }
    const after = text.charCodeAt(at)
    if (after === lineEnd) {
      rows.push(isAscii(bytes.subarray(end, at)) ? row : row.map(decoded))
      row = []
      end = at + 1
    } else if (after !== comma) throw malformed('something follows a closing quote')
  }
  return { rows, end }
}

/** A cell whose text has one character for each byte of its UTF-8, as it is. */
function decoded(cell: Cell): Cell {
  return typeof cell === 'string' ? Buffer.from(cell, 'latin1').toString('utf8') : cell
}

/** Where the quoted field that begins at a quote ends; -1 where its end is not there yet. */
function closingQuote(text: string, open: number): number {
  let close = text.indexOf('"', open + 1)
  while (close !== -1 && text.charCodeAt(close + 1) === quote) close = text.indexOf('"', close + 2)
  return close
}

function endOfUnquoted(text: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === comma || code === lineEnd) return at
    if (code === quote) throw malformed('there is a quote in a field that does not begin with one')
  }
  return -1
}

function readUnquoted(value: string): Cell {
  if (value === '') return null
  // As numbers, which are exact up to 2^53, they are read faster.
  if (/^-?\d+$/.test(value)) return BigInt(value.length < 16 ? Number(value) : value)
  if (/^\\x([0-9a-f]{2})*$/.test(value)) return Buffer.from(value.slice(2), 'hex')
  if (/^\\t([0-9a-f]{2})*$/.test(value)) return new InvalidText(Buffer.from(value.slice(2), 'hex'))
  if (/^-?(Infinity|\d+(\.\d+)?(e[+-]?\d+)?)$/.test(value)) return Number(value)
  throw malformed(`the field ${JSON.stringify(value)} is neither quoted text nor a number`)
}

function malformed(what: string): RetentionError {
  return new RetentionError('ARCHIVE_CHANGED', `The archive is not the CSV it should be: ${what}`)
}
