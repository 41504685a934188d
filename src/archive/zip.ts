/**
 * Zips of one file, encrypted with AES-256 as WinZip describes it (AE-2), and as 7-Zip and other programs read it. Written
 * and read as a stream, as large as it may be, by Node's own ciphers: zip.js, which encrypts in JavaScript, was measured at
 * a third of the speed, and to read it has to jump about in the file.
 *
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT · https://www.winzip.com/en/support/aes-encryption/
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'

import { RetentionError } from '../errors.ts'
import { decompressed, deflated, isDeflated } from './compress.ts'
import { codeBytes, keysOf, saltBytes, verifierBytes, type Cipher } from './zip-cipher.ts'

const signatures = {
  file: 0x04034b50,
  descriptor: 0x08074b50,
  directory: 0x02014b50,
  end: 0x06054b50,
  end64: 0x06064b50,
  locator64: 0x07064b50,
} as const

/** What is larger is written in the fields of zip64. */
const most32 = 0xffff_ffff

/** Encrypted, sizes behind the data, a name in UTF-8. */
const flags = 0x0001 | 0x0008 | 0x0800
const methodAes = 99
const versionAes = 51

/** Says that the data is deflated, encrypted with AES-256, and has no CRC, which would tell something of it. */
const aesExtra = Buffer.from([0x01, 0x99, 7, 0, 2, 0, 0x41, 0x45, 3, 8, 0])

/** A zip of a CSV. @param name the CSV's in it @param level of compression, 1 to 9 */
export async function* zipped(
  name: string,
  password: string,
  level: number,
  csv: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const salt = randomBytes(saltBytes)
  const { verifier, cipher } = await keysOf(password, salt)
  const entry = { name: Buffer.from(name), time: dosTime(new Date()) }
  const header = localHeader(entry)
  yield Buffer.concat([header, salt, verifier])
  const size = { plain: 0, packed: saltBytes + verifierBytes + codeBytes }
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of csv) {
      size.plain += chunk.length
      yield chunk
    }
  }
  for await (const chunk of deflated(level, counted())) {
    size.packed += chunk.length
    yield cipher.encrypt(chunk)
  }
  yield Buffer.concat([cipher.code(), ...ending(entry, header.length, size)])
}

/**
 * The CSV in a zip as `zipped` makes it.
 * @param passwords of which one is its own
 * @param file what to call it in messages
 * @throws RetentionError `KEY_WRONG`, `ARCHIVE_CHANGED`
 */
export async function* unzipped(
  zip: AsyncIterable<Buffer>,
  passwords: readonly string[],
  file: string,
): AsyncGenerator<Buffer> {
  yield* decompressed('deflate', decrypted(zip, passwords, file), file)
}

async function* decrypted(
  zip: AsyncIterable<Buffer>,
  passwords: readonly string[],
  file: string,
): AsyncGenerator<Buffer> {
  // What is not yet known to be data, or is known not to be.
  let rest: Buffer = Buffer.alloc(0)
  let end = 0
  let opened: { cipher: Cipher; nameBytes: number; start: number } | undefined
  for await (const chunk of zip) {
    rest = Buffer.concat([rest, chunk])
    end += chunk.length
    if (opened === undefined) {
      const start = dataStart(rest, file)
      if (start === undefined) continue
      const nameBytes = rest.readUInt16LE(26)
      const password = await passwordOf(rest, start, passwords)
      if (password === undefined) throw wrongPassword(file, passwords)
      const { cipher } = await keysOf(password, saltOf(rest, start))
      opened = { cipher, nameBytes, start }
      rest = rest.subarray(start)
    }
    const known = rest.length - longestEnding(opened.nameBytes)
    if (known <= 0) continue
    yield opened.cipher.decrypt(rest.subarray(0, known))
    rest = rest.subarray(known)
  }
  if (opened === undefined) throw malformed(file, 'it is too short')
  const { cipher, start } = opened
  // Where the data ends, only the directory behind it says.
  const data =
    start + packedSize(rest, end - rest.length, file) - saltBytes - verifierBytes - codeBytes - (end - rest.length)
  if (data < 0 || data + codeBytes > rest.length) throw malformed(file, 'its directory is not of it')
  yield cipher.decrypt(rest.subarray(0, data))
  if (!timingSafeEqual(cipher.code(), rest.subarray(data, data + codeBytes)))
    throw malformed(file, 'its authentication code is not that of its bytes')
}

function saltOf(head: Buffer, start: number): Buffer {
  return head.subarray(start - saltBytes - verifierBytes, start - verifierBytes)
}

/** The password that a zip was sealed with, as far as its first bytes tell. @param start where its data begins */
async function passwordOf(head: Buffer, start: number, passwords: readonly string[]): Promise<string | undefined> {
  const fitting: { password: string; cipher: Cipher }[] = []
  for (const password of passwords) {
    const { verifier, cipher } = await keysOf(password, saltOf(head, start))
    if (verifier.equals(head.subarray(start - verifierBytes, start))) fitting.push({ password, cipher })
  }
  // One wrong password in 65 536 has the same verifier. What it makes of the data is not compressed.
  const right =
    fitting.length > 1 ? fitting.find(({ cipher }) => isDeflated(cipher.decrypt(head.subarray(start)))) : undefined
  return (right ?? fitting[0])?.password
}

interface Entry {
  readonly name: Buffer
  readonly time: { readonly time: number; readonly date: number }
}

function localHeader({ name, time }: Entry): Buffer {
  const fields = Buffer.alloc(30)
  fields.writeUInt32LE(signatures.file, 0)
  fields.writeUInt16LE(versionAes, 4)
  fields.writeUInt16LE(flags, 6)
  fields.writeUInt16LE(methodAes, 8)
  fields.writeUInt16LE(time.time, 10)
  fields.writeUInt16LE(time.date, 12)
  fields.writeUInt16LE(name.length, 26)
  fields.writeUInt16LE(aesExtra.length, 28)
  return Buffer.concat([fields, name, aesExtra])
}

/** What follows the data: its sizes, the directory, and the end. @param header the length of the local header */
function ending(entry: Entry, header: number, { plain, packed }: { plain: number; packed: number }): Buffer[] {
  const is64 = plain > most32 || header + packed + longestEnding(entry.name.length) > most32
  const descriptor = Buffer.alloc(is64 ? 24 : 16)
  descriptor.writeUInt32LE(signatures.descriptor, 0)
  if (is64) {
    descriptor.writeBigUInt64LE(BigInt(packed), 8)
    descriptor.writeBigUInt64LE(BigInt(plain), 16)
  } else {
    descriptor.writeUInt32LE(packed, 8)
    descriptor.writeUInt32LE(plain, 12)
  }
  const at = header + packed + descriptor.length
  const directory = directoryEntry(entry, plain, packed, is64)
  return [descriptor, directory, ...(is64 ? ends64(at, directory.length) : []), endOf(at, directory.length, is64)]
}

function directoryEntry({ name, time }: Entry, plain: number, packed: number, is64: boolean): Buffer {
  const extra64 = Buffer.alloc(is64 ? 20 : 0)
  if (is64) {
    extra64.writeUInt16LE(0x0001, 0)
    extra64.writeUInt16LE(16, 2)
    extra64.writeBigUInt64LE(BigInt(plain), 4)
    extra64.writeBigUInt64LE(BigInt(packed), 12)
  }
  const fields = Buffer.alloc(46)
  fields.writeUInt32LE(signatures.directory, 0)
  // Made on Unix: for the file's mode below.
  fields.writeUInt16LE((3 << 8) | versionAes, 4)
  fields.writeUInt16LE(versionAes, 6)
  fields.writeUInt16LE(flags, 8)
  fields.writeUInt16LE(methodAes, 10)
  fields.writeUInt16LE(time.time, 12)
  fields.writeUInt16LE(time.date, 14)
  fields.writeUInt32LE(is64 ? most32 : packed, 20)
  fields.writeUInt32LE(is64 ? most32 : plain, 24)
  fields.writeUInt16LE(name.length, 28)
  fields.writeUInt16LE(extra64.length + aesExtra.length, 30)
  // Whoever unpacks it gets a file for themselves alone.
  fields.writeUInt32LE(0o100600 * 2 ** 16, 38)
  return Buffer.concat([fields, name, extra64, aesExtra])
}

function ends64(at: number, bytes: number): Buffer[] {
  const end = Buffer.alloc(56)
  end.writeUInt32LE(signatures.end64, 0)
  end.writeBigUInt64LE(44n, 4)
  end.writeUInt16LE((3 << 8) | versionAes, 12)
  end.writeUInt16LE(versionAes, 14)
  end.writeBigUInt64LE(1n, 24)
  end.writeBigUInt64LE(1n, 32)
  end.writeBigUInt64LE(BigInt(bytes), 40)
  end.writeBigUInt64LE(BigInt(at), 48)
  const locator = Buffer.alloc(20)
  locator.writeUInt32LE(signatures.locator64, 0)
  locator.writeBigUInt64LE(BigInt(at + bytes), 8)
  locator.writeUInt32LE(1, 16)
  return [end, locator]
}

function endOf(at: number, bytes: number, is64: boolean): Buffer {
  const end = Buffer.alloc(22)
  end.writeUInt32LE(signatures.end, 0)
  end.writeUInt16LE(1, 8)
  end.writeUInt16LE(1, 10)
  end.writeUInt32LE(bytes, 12)
  end.writeUInt32LE(is64 ? most32 : at, 16)
  return end
}

/** As much as can follow the data. */
function longestEnding(nameBytes: number): number {
  return codeBytes + 24 + 46 + nameBytes + 20 + aesExtra.length + 56 + 20 + 22
}

/** Where the data begins, behind salt and verifier; undefined where more bytes are needed to tell. */
function dataStart(head: Buffer, file: string): number | undefined {
  if (head.length < 30) return undefined
  const isOurs = head.readUInt32LE(0) === signatures.file && head.readUInt16LE(8) === methodAes
  if (!isOurs) throw malformed(file, 'it is no zip of retention')
  const start = 30 + head.readUInt16LE(26) + head.readUInt16LE(28) + saltBytes + verifierBytes
  return head.length < start ? undefined : start
}

/** The size of the data, as the directory has it. @param from where in the file the last of its bytes begin */
function packedSize(tail: Buffer, from: number, file: string): number {
  const end = tail.length - 22
  if (end < 0 || tail.readUInt32LE(end) !== signatures.end) throw malformed(file, 'it has no end')
  const offset = tail.readUInt32LE(end + 16)
  const is64 = offset === most32
  const locator = end - 20
  const end64 = locator - 56
  if (is64 && end64 < 0) throw malformed(file, 'it has no end')
  const at = (is64 ? Number(tail.readBigUInt64LE(end64 + 48)) : offset) - from
  if (at < 0 || at + 46 > end || tail.readUInt32LE(at) !== signatures.directory)
    throw malformed(file, 'it has no directory')
  const extra = at + 46 + tail.readUInt16LE(at + 28)
  if (!is64) return tail.readUInt32LE(at + 20)
  if (extra + 20 > end) throw malformed(file, 'it has no directory')
  return Number(tail.readBigUInt64LE(extra + 12))
}

function dosTime(now: Date): Entry['time'] {
  return {
    time: (now.getUTCHours() << 11) | (now.getUTCMinutes() << 5) | (now.getUTCSeconds() >> 1),
    date: ((now.getUTCFullYear() - 1980) << 9) | ((now.getUTCMonth() + 1) << 5) | now.getUTCDate(),
  }
}

function wrongPassword(file: string, passwords: readonly string[]): RetentionError {
  const what = passwords.length === 1 ? 'The password is not' : `None of ${passwords.length} passwords is`
  return new RetentionError('KEY_WRONG', `${what} the one that ${file} was sealed with`, {
    hint: 'Nothing has been changed.',
  })
}

function malformed(file: string, what: string): RetentionError {
  return new RetentionError('ARCHIVE_CHANGED', `${file} cannot be unsealed: ${what}`)
}
