/** A CSV without some of its records: whatever is kept stays as it is, byte for byte. */

const [quote, lineEnd] = [0x22, 0x0a]

/**
 * Leaves records out of CSV bytes.
 * @param numbers which, counted from 1 under the header, in their order
 */
export async function* withoutRecords(csv: AsyncIterable<Buffer>, numbers: Uint32Array): AsyncGenerator<Buffer> {
  let isQuoted = false
  let record = 0
  let next = 0
  for await (const chunk of csv) {
    // Where the bytes begin that are to be kept.
    let from = record === numbers[next] ? -1 : 0
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at]
      // A doubled quote inside quotes closes and opens again at once.
      if (byte === quote) isQuoted = !isQuoted
      if (byte !== lineEnd || isQuoted) continue
      const wasLeftOut = record === numbers[next]
      record += 1
      if (wasLeftOut) next += 1
      const isLeftOut = record === numbers[next]
      if (wasLeftOut && !isLeftOut) from = at + 1
      if (!wasLeftOut && isLeftOut) {
        yield chunk.subarray(from, at + 1)
        from = -1
      }
    }
    if (from !== -1 && from < chunk.length) yield chunk.subarray(from)
  }
}
