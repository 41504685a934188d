/** Work that must fail. */
import * as assert from 'uvu/assert'

/** Awaits work that fails with a code and a message. */
export async function fails(work: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as { code: string; message: string },
  )
  assert.is(error?.code, code, error?.message)
  assert.match(error?.message ?? '', message)
}
