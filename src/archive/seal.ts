/** Sealing: from a CSV to the bytes that are stored, and back. */
import { ageOpen, ageSeal } from './age.ts'
import { compressed, decompressed, defaultLevel, type Compression } from './compress.ts'
import type { Encoding } from './encoding.ts'
import { unzipped, zipped } from './zip.ts'

/** How archives are to be stored. */
export interface SealingOrder {
  readonly compress: Compression | { readonly gzip: number } | { readonly zstd: number } | false
  readonly encrypt:
    | { readonly zip: { readonly password: string; readonly level?: number | undefined } }
    | { readonly age: readonly string[] }
    | false
}

/** Where the keys of sealed archives come from; each is asked for only when it is needed. */
export interface Keys {
  /** All that are known: archives may have been sealed with different ones. @throws RetentionError `KEY_MISSING` */
  zipPasswords(): Promise<readonly string[]>
  /** @throws RetentionError `KEY_MISSING` */
  ageIdentities(): Promise<readonly string[]>
}

/** Bytes into other bytes, piece by piece: each is valid until the next. */
type Change = (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>

/** The sealing of one file, and its undoing by the process that has sealed it. */
export interface Seal {
  readonly close: Change
  readonly open: Change
}

/** Seals archives. */
export interface Sealer {
  readonly encoding: Encoding
  /** @param name the name of the CSV */
  begin(name: string): Seal
}

/**
 * What seals archives as they are to be; undefined where they are to be stored as they are.
 * @throws RetentionError `PACKAGE_MISSING`, `CONFIG_INVALID`
 */
export async function sealerOf({ compress, encrypt }: SealingOrder): Promise<Sealer | undefined> {
  if (encrypt === false) return compress === false ? undefined : compressing(compress)
  if ('zip' in encrypt) {
    const { password, level = defaultLevel } = encrypt.zip
    return {
      encoding: 'zip',
      begin: (name) => ({
        close: (csv) => zipped(name, password, level, csv),
        open: (stored) => unzipped(stored, [password], name),
      }),
    }
  }
  const sealTo = await ageSeal(encrypt.age)
  if (compress === false) return { encoding: 'age', begin: sealTo }
  const inner = compressing(compress)
  return {
    encoding: inner.encoding === 'gzip' ? 'gzip+age' : 'zstd+age',
    begin: (name) => {
      const [compression, seal] = [inner.begin(name), sealTo(name)]
      return {
        close: (csv) => seal.close(compression.close(csv)),
        open: (stored) => compression.open(seal.open(stored)),
      }
    },
  }
}

function compressing(compress: Exclude<SealingOrder['compress'], false>): Sealer {
  const [method, level]: [Compression, number] =
    typeof compress === 'string'
      ? [compress, defaultLevel]
      : 'gzip' in compress
        ? ['gzip', compress.gzip]
        : ['zstd', compress.zstd]
  return {
    encoding: method,
    begin: (name) => ({
      close: (csv) => compressed(method, level, csv),
      open: (stored) => decompressed(method, stored, name),
    }),
  }
}

/**
 * What undoes the sealing of a stored file.
 * @param file what to call it in messages
 * @throws RetentionError `KEY_MISSING`, `KEY_WRONG`, `PACKAGE_MISSING`; and while it reads, `KEY_WRONG`, `ARCHIVE_CHANGED`
 */
export async function openerOf(encoding: Encoding, file: string, keys: Keys): Promise<Change> {
  switch (encoding) {
    case 'gzip':
    case 'zstd':
      return (stored) => decompressed(encoding, stored, file)
    case 'zip': {
      const passwords = await keys.zipPasswords()
      return (stored) => unzipped(stored, passwords, file)
    }
    case 'age':
      return ageOpen(await keys.ageIdentities(), file)
    case 'gzip+age':
    case 'zstd+age': {
      const open = await ageOpen(await keys.ageIdentities(), file)
      return (stored) => decompressed(encoding === 'gzip+age' ? 'gzip' : 'zstd', open(stored), file)
    }
  }
}
