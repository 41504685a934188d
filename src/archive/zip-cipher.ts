/** The encryption of zips: AES-256 as WinZip describes it, by Node's own ciphers. */
import { createCipheriv, createHmac, pbkdf2, type Hmac } from 'node:crypto'
import { promisify } from 'node:util'

/** How long a salt is, what tells wrong passwords, and the code behind the data. */
export const [saltBytes, verifierBytes, codeBytes] = [16, 2, 10]

/** What a password and a salt come to. */
interface Keys {
  /** Tells most wrong passwords from the right one. */
  readonly verifier: Buffer
  readonly cipher: Cipher
}

/** The keys of a zip. @param salt random, and written into it */
export async function keysOf(password: string, salt: Buffer): Promise<Keys> {
  const keys = await promisify(pbkdf2)(password, salt, 1000, 64 + verifierBytes, 'sha1')
  return { verifier: keys.subarray(64), cipher: new Cipher(keys.subarray(0, 32), keys.subarray(32, 64)) }
}

/** AES-256 in counter mode, with a counter whose low byte comes first, and the code over what is encrypted. */
export class Cipher {
  readonly #ecb: ReturnType<typeof createCipheriv>
  readonly #code: Hmac
  readonly #counters = Buffer.alloc(64 * 1024)
  #blocks = 0
  #stream = Buffer.alloc(0)
  #used = 0
  /** What comes out, and the cipher's stream for it, used again and again: by words, as by bytes XOR took a third of the time. */
  #changed = new Uint32Array(0)
  #mask = new Uint32Array(0)

  constructor(key: Buffer, codeKey: Buffer) {
    this.#ecb = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false)
    this.#code = createHmac('sha1', codeKey)
  }

  /** What it returns is valid until the next call. */
  encrypt(bytes: Buffer): Buffer {
    const encrypted = this.#change(bytes)
    this.#code.update(encrypted)
    return encrypted
  }

  /** What it returns is valid until the next call. */
  decrypt(bytes: Buffer): Buffer {
    this.#code.update(bytes)
    return this.#change(bytes)
  }

  /** Of all that was encrypted or decrypted. To be called once. */
  code(): Buffer {
    return this.#code.digest().subarray(0, codeBytes)
  }

  #change(bytes: Buffer): Buffer {
    const words = Math.ceil(bytes.length / 4)
    if (this.#changed.length < words) [this.#changed, this.#mask] = [new Uint32Array(words), new Uint32Array(words)]
    const [changed, mask] = [this.#changed, this.#mask]
    const result = Buffer.from(changed.buffer, 0, bytes.length)
    bytes.copy(result)
    this.#streamInto(Buffer.from(mask.buffer, 0, bytes.length))
    for (let index = 0; index < words; index += 1) changed[index] = (changed[index] ?? 0) ^ (mask[index] ?? 0)
    return result
  }

  /** Fills a buffer with what comes next of the cipher's stream. */
  #streamInto(buffer: Buffer): void {
    for (let at = 0; at < buffer.length;) {
      if (this.#used === this.#stream.length) this.#more()
      const copied = this.#stream.copy(buffer, at, this.#used)
      at += copied
      this.#used += copied
    }
  }

  #more(): void {
    for (let at = 0; at < this.#counters.length; at += 16) {
      this.#blocks += 1
      this.#counters.writeUInt32LE(this.#blocks % 2 ** 32, at)
      this.#counters.writeUInt32LE(Math.floor(this.#blocks / 2 ** 32), at + 4)
    }
    this.#stream = this.#ecb.update(this.#counters)
    this.#used = 0
  }
}
