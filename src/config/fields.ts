/** The kinds of value that config and policy fields share: durations, sizes, time zones, table names, targets. */
import ms, { type StringValue } from 'ms'
import * as v from 'valibot'

import { isTimezone, type Expiry } from '../cutoff.ts'
import { expireAfter } from './expiry.ts'
import { gdriveAddressAllowed, isGdrive, parseGdriveAddress } from './gdrive-address.ts'
import { isS3, parseS3Address, s3AddressAllowed } from './s3-address.ts'
import { sealingEntries, sealingFields, type Sealing, type SealingInput } from './sealing.ts'

/** A table as a policy or config names it; without a schema, the database's search path decides. */
export interface TableName {
  readonly schema: string | undefined
  readonly name: string
}

/** What a redaction puts into a column. */
export type SetValue = string | number | boolean | null

/** A length of time: milliseconds, or a number with a unit, such as `'500ms'`, `'2s'`, `'10m'`, `'30d'`. */
export type Duration = number | string

/** A duration in milliseconds; undefined where it is none. */
export function milliseconds(duration: Duration): number | undefined {
  if (typeof duration === 'number') return Number.isFinite(duration) && duration >= 0 ? duration : undefined
  if (!/^\d+(\.\d+)?\s*[a-z]+$/i.test(duration.trim())) return undefined
  // `ms` types its input as a template of units; it returns undefined for whatever does not fit.
  const parsed: number | undefined = ms(duration.trim() as StringValue)
  return parsed
}

/** A size: bytes, or a number with a unit, such as `'500kB'`, `'64MB'`, `'1GB'` (thousands) or `'64MiB'` (of 1024). */
export type Size = number | string

/** A size in bytes; undefined where it is none. */
export function bytes(written: Size): number | undefined {
  if (typeof written === 'number') return Number.isFinite(written) && written >= 0 ? written : undefined
  const [, amount, power = '', binary] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b$/i.exec(written.trim()) ?? []
  if (amount === undefined || (power === '' && binary !== '')) return undefined
  return Math.round(Number(amount) * (binary === '' ? 1000 : 1024) ** ' kmgt'.indexOf(power.toLowerCase() || ' '))
}

/**
 * Splits `schema.table`; a part with a dot of its own is written in double quotes, `"a.b"."c d"`, as in SQL.
 * Unlike in SQL, letters are taken as they stand, quoted or not. Undefined where the text is no table name.
 */
export function parseTableName(text: string): TableName | undefined {
  const part = /"((?:[^"]|"")+)"|([^".]+)/y
  const parts: string[] = []
  for (;;) {
    const match = part.exec(text)
    if (match === null) return undefined
    parts.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '')
    if (part.lastIndex === text.length) break
    if (text[part.lastIndex] !== '.') return undefined
    part.lastIndex += 1
  }
  const [first = '', second] = parts
  if (parts.length > 2 || parts.some((name) => name.includes('\0'))) return undefined
  return second === undefined ? { schema: undefined, name: first } : { schema: first, name: second }
}

/** `schema.table` for people and for the ledger; parts that need it are quoted so that it can be read back. */
export function formatTableName(table: TableName): string {
  const part = (name: string): string => (/[".]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name)
  return table.schema === undefined ? part(table.name) : `${part(table.schema)}.${part(table.name)}`
}

/** A non-empty text. */
export const text = (allowed: string) =>
  v.pipe(
    v.string(allowed),
    v.check((value) => value.trim() !== '', allowed),
  )

/** A whole number from `least` to `most`. */
export const wholeNumber = (least: number, most: number) => {
  const allowed = `a whole number, at least ${least}${most === Infinity ? '' : ` and at most ${most}`}`
  return v.pipe(
    v.number(allowed),
    v.check((value) => Number.isSafeInteger(value) && value >= least && value <= most, allowed),
  )
}

const durationAllowed = 'a duration, such as 500 (milliseconds), "2s", "10m" or "30d"'

/** A duration, turned into milliseconds. */
const duration = v.pipe(
  v.union([v.number(), v.string()], durationAllowed),
  v.check((value) => milliseconds(value) !== undefined, durationAllowed),
  v.transform((value) => milliseconds(value) ?? 0),
)

const longest = 24 * 24 * 60 * 60 * 1000
const pauseAllowed = 'a duration up to "24d"'

/** A rest, turned into milliseconds: no timer holds longer. */
export const pause = v.pipe(
  duration,
  v.check((value) => value <= longest, pauseAllowed),
)

const timeoutAllowed = 'a duration from "1ms" to "24d"'

/** A time limit, turned into milliseconds. Databases take 0 for none, and no more than 31 bits hold. */
export const timeout = v.pipe(
  duration,
  v.transform((value) => Math.round(value)),
  v.check((value) => value >= 1 && value <= longest, timeoutAllowed),
)

/** A size of at least `least` and at most `most` bytes, turned into bytes. @param allowed the same in words */
export const sizeWithin = (least: number, most: number, allowed: string) =>
  v.pipe(
    v.union([v.number(), v.string()], allowed),
    v.check((value) => (bytes(value) ?? 0) >= least && (bytes(value) ?? 0) <= most, allowed),
    v.transform((value) => bytes(value) ?? 0),
  )

/** A size of at least a byte. */
export const size = sizeWithin(1, Infinity, 'a size, such as 1000000 (bytes), "500kB", "64MB" or "1GB"')

/** The name of a time zone. */
export const timezone = v.pipe(
  v.string('an IANA time zone, such as "UTC" or "Asia/Seoul"'),
  v.check(isTimezone, 'an IANA time zone, such as "UTC" or "Asia/Seoul"'),
)

/** A table name, taken apart. */
export const tableName = v.pipe(
  text('a table, as "table" or "schema.table"'),
  v.check((value) => parseTableName(value) !== undefined, 'a table, as "table" or "schema.table"'),
  v.transform((value) => parseTableName(value) ?? { schema: undefined, name: value }),
)

/** Where archives go, as a config or policy writes it. */
export interface TargetInput extends SealingInput {
  /**
   * A folder, where a relative path starts at the config's folder; or a folder of a bucket on S3,
   * `s3://bucket/prefix?region=…&endpoint=…`; or one of Google Drive, `gdrive://folder-id`.
   */
  to: string
  /**
   * Says that the folder outlives the process, where the environment suggests otherwise (CI, Kubernetes and the
   * like). Default false. An address always does.
   */
  durable?: boolean
  /** Whether archives begin with a UTF-8 byte order mark, so that spreadsheets show every script right. Default true. */
  bom?: boolean
  /**
   * How long archives are kept: `'7 years'`, `'18 months'`, `'2 weeks'`, `'90 days'`; from the day on which the rows were archived,
   * in the config's time zone. `prune` removes those that are older. In a policy, `'never'` sets the config's aside. Default: the
   * config's, which is that they are kept for ever.
   */
  expireAfter?: string
  /** On S3: the storage class, such as `STANDARD_IA`. Default: the bucket's. */
  storageClass?: string
  /** On S3: the id, alias or ARN of the KMS key that the service encrypts with (SSE-KMS). Default: as the bucket does. */
  sseKmsKey?: string
  /**
   * On S3: nobody can remove or replace an archive for so many days, or where those are left out, until it expires. The bucket
   * must have Object Lock. Default: none.
   */
  objectLock?: ObjectLock
}

/** For how long the service keeps an archive, whoever wants to remove it. */
export interface ObjectLock {
  /** `GOVERNANCE`: but for those with a special right. `COMPLIANCE`: whoever it is. */
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE'
  /** Default: until the archive expires, by `expireAfter`. */
  readonly days?: number | undefined
}

/** A target with its defaults filled in. */
export interface TargetConfig extends Sealing {
  readonly to: string
  readonly durable: boolean
  readonly bom: boolean
  /** As written. */
  readonly expireAfter?: string | undefined
  /** What that comes to, with the config's; undefined: archives never expire. */
  readonly expiry?: Expiry | undefined
  readonly storageClass?: string | undefined
  readonly sseKmsKey?: string | undefined
  readonly objectLock?: ObjectLock | undefined
}

const onlyOnS3 = ['storageClass', 'sseKmsKey', 'objectLock'] as const

/** The fields of a target. */
export const targetFields = ['to', 'durable', 'bom', 'expireAfter', ...sealingFields, ...onlyOnS3] as const

const targetAllowed = `a folder, such as "./backups", an address on S3 or Google Drive, or { ${targetFields.join(', ')} }`
const place = v.pipe(
  text('a folder, such as "./backups", or an address on S3 or Google Drive'),
  v.check(
    (to) => isS3(to) || isGdrive(to) || !/^[a-z][a-z0-9+.-]+:\/\//i.test(to),
    'a folder, or an address that begins with s3:// or gdrive://',
  ),
  v.check((to) => !isS3(to) || parseS3Address(to) !== undefined, s3AddressAllowed),
  v.check((to) => !isGdrive(to) || parseGdriveAddress(to) !== undefined, gdriveAddressAllowed),
)

const storageClassAllowed =
  'a class of the service that can be read at once, such as "STANDARD_IA": archives are read back'

/** A target: a folder's path, an address, or an object. */
export const target = v.lazy((input) =>
  typeof input === 'object' && input !== null
    ? v.pipe(
        v.strictObject(
          {
            to: place,
            durable: v.optional(v.boolean('true or false'), false),
            bom: v.optional(v.boolean('true or false'), true),
            expireAfter: v.optional(expireAfter),
            ...sealingEntries,
            storageClass: v.optional(
              v.pipe(
                v.string(storageClassAllowed),
                v.check(
                  (name) => /^[A-Z_]+$/.test(name) && !/^(GLACIER|DEEP_ARCHIVE)$/.test(name),
                  storageClassAllowed,
                ),
              ),
            ),
            sseKmsKey: v.optional(text('the id, alias or ARN of a KMS key')),
            objectLock: v.optional(
              v.strictObject(
                {
                  mode: v.picklist(['GOVERNANCE', 'COMPLIANCE'], '"GOVERNANCE" or "COMPLIANCE"'),
                  days: v.optional(wholeNumber(1, 36_500)),
                },
                '{ mode, days }, or { mode } beside "expireAfter"',
              ),
            ),
          },
          targetAllowed,
        ),
        v.check(
          (checked) => isS3(checked.to) || onlyOnS3.every((field) => checked[field] === undefined),
          `a folder without ${onlyOnS3.join(', ')}, which are for S3`,
        ),
      )
    : v.pipe(
        v.string(targetAllowed),
        place,
        v.transform((to): TargetConfig => ({ to, durable: false, bom: true })),
      ),
)
