/** Picks whole numbers out of CSV bytes as they pass, without parsing the rest. */

const [quote, comma, lineEnd] = [0x22, 0x2c, 0x0a]

/** Watches some columns of a CSV for whole numbers. The header is passed over. */
export class NumberPicker {
  readonly #isPicked: readonly boolean[]
  readonly #tell: (column: number, value: bigint | undefined) => void
  #isQuoted = false
  #isHeader = true
  #column = 0
  /** The part of a picked field that was in the bytes before. */
  #begun = ''

  /**
   * @param columns the places of the columns, counted from 0
   * @param tell is told of each field; undefined where it is no whole number, as NULL is none
   */
  constructor(columns: readonly number[], tell: (column: number, value: bigint | undefined) => void) {
    const last = Math.max(-1, ...columns)
    this.#isPicked = Array.from({ length: last + 1 }, (_, column) => columns.includes(column))
    this.#tell = tell
  }

  update(bytes: Buffer): void {
    const isPicked = this.#isPicked
    let isQuoted = this.#isQuoted
    let column = this.#column
    let from = 0
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at]
      // A doubled quote inside quotes closes and opens again at once.
      if (byte === quote) isQuoted = !isQuoted
      else if (!isQuoted && (byte === comma || byte === lineEnd)) {
        if (isPicked[column] === true) this.#pick(column, bytes.toString('latin1', from, at))
        column = byte === comma ? column + 1 : 0
        from = at + 1
        if (byte === lineEnd) this.#isHeader = false
      }
    }
    if (isPicked[column] === true) this.#begun += bytes.toString('latin1', from)
    this.#isQuoted = isQuoted
    this.#column = column
  }

  #pick(column: number, ending: string): void {
    const text = this.#begun + ending
    this.#begun = ''
    if (!this.#isHeader) this.#tell(column, /^-?\d+$/.test(text) ? BigInt(text) : undefined)
  }
}
