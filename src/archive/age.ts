/** Archives sealed to public keys, as https://age-encryption.org has it: by the package that its author keeps. */
import { messageOf, RetentionError } from '../errors.ts'
import type { Seal } from './seal.ts'

/**
 * Seals to public keys: a new seal for each file.
 * @throws RetentionError `PACKAGE_MISSING`, `CONFIG_INVALID` where one is no public key
 */
export async function ageSeal(recipients: readonly string[]): Promise<(file: string) => Seal> {
  const { Encrypter, Decrypter } = await loadAge()
  const withRecipients = (): InstanceType<typeof Encrypter> => {
    const encrypter = new Encrypter()
    for (const recipient of recipients) encrypter.addRecipient(recipient)
    return encrypter
  }
  try {
    withRecipients()
  } catch (error) {
    throw new RetentionError('CONFIG_INVALID', 'archive.encrypt.age has what is no public key of age', {
      hint: 'Public keys are what age-keygen prints, "age1…".',
      cause: error,
    })
  }
  return (file) => {
    // Kept for as long as the file is read back, and no longer: who seals to others' keys cannot open it afterwards. It
    // is handed out as if it were one more recipient, of whom nothing is written into the file.
    let fileKey: Uint8Array | undefined
    const encrypter = withRecipients()
    encrypter.addRecipient({
      wrapFileKey: (key) => {
        fileKey = Uint8Array.from(key)
        return []
      },
    })
    return {
      close: (bytes) => changed(bytes, (stream) => encrypter.encrypt(stream)),
      open: (sealed) => {
        const decrypter = new Decrypter()
        decrypter.addIdentity({ unwrapFileKey: () => fileKey ?? null })
        return opened(decrypter, sealed, file)
      },
    }
  }
}

/**
 * Opens what was sealed to one of some private keys.
 * @param file what to call it in messages
 * @throws RetentionError `PACKAGE_MISSING`, `KEY_WRONG`; and while it reads, `KEY_WRONG`, `ARCHIVE_CHANGED`
 */
export async function ageOpen(identities: readonly string[], file: string): Promise<Seal['open']> {
  const { Decrypter } = await loadAge()
  const decrypter = new Decrypter()
  try {
    for (const identity of identities) decrypter.addIdentity(identity)
  } catch {
    // What is wrong with a private key is told without it.
    throw new RetentionError('KEY_WRONG', 'What was given as private key of age is none', {
      hint: 'Private keys are "AGE-SECRET-KEY-1…", as age-keygen writes them.',
    })
  }
  return (sealed) => opened(decrypter, sealed, file)
}

async function loadAge(): Promise<typeof import('age-encryption')> {
  try {
    return await import('age-encryption')
  } catch (error) {
    throw new RetentionError('PACKAGE_MISSING', `Archives sealed with age need a package: ${messageOf(error)}`, {
      hint: 'npm install age-encryption',
      cause: error,
    })
  }
}

async function* opened(
  decrypter: { decrypt(file: ReadableStream): Promise<ReadableStream<Uint8Array>> },
  sealed: AsyncIterable<Buffer>,
  file: string,
): AsyncGenerator<Buffer> {
  try {
    yield* changed(sealed, (stream) => decrypter.decrypt(stream))
  } catch (error) {
    if (error instanceof RetentionError) throw error
    const message = messageOf(error)
    if (message.includes('no identity matched'))
      throw new RetentionError('KEY_WRONG', `${file} was sealed to other keys than the one that was given`, {
        hint: 'Nothing has been changed.',
      })
    throw new RetentionError('ARCHIVE_CHANGED', `${file} cannot be unsealed: ${message}`, { cause: error })
  }
}

/** What comes of bytes that go through a stream. */
async function* changed(
  bytes: AsyncIterable<Buffer>,
  change: (stream: ReadableStream<Uint8Array>) => Promise<ReadableStream<Uint8Array>>,
): AsyncGenerator<Buffer> {
  const source = copies(bytes)
  try {
    for await (const chunk of await change(ReadableStream.from(source)))
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  } finally {
    // A stream that has failed leaves its source open.
    await source.return(undefined)
  }
}

/** Pieces of which each stays valid, as streams keep some waiting. */
async function* copies(bytes: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of bytes) yield Uint8Array.from(chunk)
}
