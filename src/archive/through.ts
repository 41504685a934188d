/** Bytes on their way through one of Node's transforms, such as a compressor. */
import type { Duplex } from 'node:stream'

/**
 * What comes out of a transform that bytes are put into. No piece is asked for before the last one has been taken: each
 * needs to be valid until the next only.
 * @throws also where the transform comes to an end before the bytes do
 */
export async function* through(transform: Duplex, source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let failure: unknown
  let isWhole = false
  const fed = feed(transform, source).then(
    (whole) => (isWhole = whole),
    (error: unknown) => {
      failure = error
      transform.destroy()
    },
  )
  try {
    // A transform gives buffers, unless it is told to give something else.
    for await (const chunk of transform as AsyncIterable<Buffer>) yield chunk
  } catch (error) {
    failure ??= error
  } finally {
    transform.destroy()
    // The source is at its end, or closed, before anybody goes on.
    await fed
  }
  if (failure !== undefined) throw failure
  if (!isWhole) throw new Error('something follows its end')
}

/** Returns whether the transform has taken all bytes. */
async function feed(transform: Duplex, source: AsyncIterable<Buffer>): Promise<boolean> {
  for await (const chunk of source) {
    await new Promise<void>((resolve) => {
      const taken = (): void => {
        transform.off('close', taken)
        resolve()
      }
      // One that has failed never answers; what it failed with, whoever reads it is told.
      transform.once('close', taken)
      transform.write(chunk, taken)
    })
    if (transform.destroyed) return false
  }
  transform.end()
  return true
}
