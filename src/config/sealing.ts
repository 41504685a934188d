/** How archives are compressed and encrypted: `compress` and `encrypt` of a target. */
import * as v from 'valibot'

/** What stands for the value of an environment variable, which is read only where it is needed. */
export interface EnvReference {
  readonly env: string
}

/**
 * Stands for the value of an environment variable, wherever a configuration needs a secret.
 * @param name the variable's name, such as `RETENTION_ZIP_PASSWORD`
 */
export function env(name: string): EnvReference {
  return { env: name }
}

/**
 * A method, or a method with its level: a higher one makes smaller archives, and takes longer. gzip 1 to 9, zstd 1 to 19;
 * 1 by default.
 */
export type Compress = 'gzip' | 'zstd' | { readonly gzip: number } | { readonly zstd: number }

/** A zip that a password opens, or a file that only the owners of some keys can open. */
export type Encrypt = EncryptZip | EncryptAge

/** AES-256, in a zip that common programs open. */
interface EncryptZip {
  readonly zip: {
    /** `env('RETENTION_ZIP_PASSWORD')`: never the password itself. */
    readonly password: EnvReference
    /** How hard it is compressed, 1 to 9. Default 1. */
    readonly level?: number | undefined
  }
}

/** As https://age-encryption.org has it. */
interface EncryptAge {
  /** Public keys, `age1…`: whoever has the private key of one of them can open it, and nobody else. */
  readonly age: readonly string[]
}

/** How archives are to be stored, as a config or policy writes it. */
export interface SealingInput {
  /** Default false. A zip is compressed by itself. A policy that does not say so does as the config does. */
  compress?: Compress | false
  /** Default false. A policy that does not say so does as the config does. */
  encrypt?: Encrypt | false
}

/** How archives are to be stored; what is undefined is not said. */
export interface Sealing {
  readonly compress?: Compress | false | undefined
  readonly encrypt?: Encrypt | false | undefined
}

const level = (most: number) => {
  const allowed = `a whole number from 1 to ${most}`
  return v.pipe(
    v.number(allowed),
    v.check((value) => Number.isInteger(value) && value >= 1 && value <= most, allowed),
  )
}

const compressAllowed = '"gzip", "zstd", { gzip: 1 to 9 }, { zstd: 1 to 19 } or false'
const encryptAllowed = "{ zip: { password: env('NAME') } }, { age: ['age1…'] } or false"
const passwordAllowed = "env('RETENTION_ZIP_PASSWORD'): the name of an environment variable, never the password itself"
const recipientAllowed = 'a public key, such as "age1…", and never a private one'

const zip = v.strictObject(
  {
    password: v.strictObject(
      {
        env: v.pipe(
          v.string(passwordAllowed),
          v.check((name) => /^[a-z_][a-z0-9_]*$/i.test(name), passwordAllowed),
        ),
      },
      passwordAllowed,
    ),
    level: v.optional(level(9)),
  },
  encryptAllowed,
)

const age = v.pipe(
  v.array(
    v.pipe(
      v.string(recipientAllowed),
      v.check((key) => /^age1[a-z0-9]+$/.test(key), recipientAllowed),
    ),
    'a list of public keys',
  ),
  v.minLength(1, 'a list of public keys'),
)

/** The fields of a target that say how archives are stored. */
export const sealingEntries = {
  compress: v.optional(
    v.union(
      [
        v.picklist(['gzip', 'zstd']),
        v.literal(false),
        v.strictObject({ gzip: level(9) }),
        v.strictObject({ zstd: level(19) }),
      ],
      compressAllowed,
    ),
  ),
  encrypt: v.optional(
    v.lazy((input): v.GenericSchema<unknown, Encrypt | false> => {
      if (input === false) return v.literal(false)
      const hasZip = typeof input === 'object' && input !== null && 'zip' in input
      return hasZip ? v.strictObject({ zip }, encryptAllowed) : v.strictObject({ age }, encryptAllowed)
    }),
  ),
} as const

/** Their names. */
export const sealingFields = ['compress', 'encrypt'] as const

function isZip(encrypt: Sealing['encrypt']): encrypt is EncryptZip {
  return encrypt !== undefined && encrypt !== false && 'zip' in encrypt
}

/** How a policy's archives are stored: as it says itself, and else as the config says. */
export function sealingOf(own: Sealing | undefined, config: Sealing): Sealing {
  const encrypt = own?.encrypt ?? config.encrypt
  const compress = own?.compress ?? config.compress
  // The config's compression is for what is no zip.
  return { encrypt, compress: isZip(encrypt) && own?.compress === undefined ? false : compress }
}

/**
 * What is wrong with how archives would be stored; undefined where nothing is. A zip within another compression is neither
 * smaller, nor opened by anybody.
 */
export function sealingMistake(own: Sealing | undefined, config: Sealing): string | undefined {
  const { encrypt, compress = false } = sealingOf(own, config)
  if (!isZip(encrypt) || compress === false) return undefined
  return 'field "archive.compress" is given where archives are zips; allowed: false, as a zip is compressed by its own "level"'
}

/** The environment variable that a target's password is in; undefined where it needs none. */
export function passwordVariable({ encrypt }: Sealing): string | undefined {
  return isZip(encrypt) ? encrypt.zip.password.env : undefined
}
