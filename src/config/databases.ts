/** Several databases under one config: which there are, and what the config says for each of them. */
import * as v from 'valibot'

import { RetentionError } from '../errors.ts'
import { target, text, wholeNumber, type TargetConfig, type TargetInput } from './fields.ts'
import { isGdrive } from './gdrive-address.ts'
import { isS3 } from './s3-address.ts'
import { check, didYouMean, type Checked } from './validate.ts'

/** One of several databases. */
export interface DatabaseInput {
  /** Its address, as of the config's `database`. Undefined, as a missing variable of the environment is, is a mistake. */
  database: string | undefined
  /** Where its archives go. Default: a folder of its name within the config's `archive`. */
  archive?: string | TargetInput
}

/** Databases that are worked on at the same time, unless `parallel` says otherwise. */
const usualParallel = 4

const namesAllowed = 'names of letters, digits, "_" and "-", each with an address or { database, archive }'
const addressAllowed =
  'an address, "sqlite:./file.db" or "postgres://user:password@host/name", or { database, archive }'
const schema = v.looseObject({
  databases: v.pipe(
    v.record(
      v.pipe(v.string(), v.regex(/^[a-z0-9][\w-]{0,39}$/i, namesAllowed)),
      v.union(
        [text(addressAllowed), v.strictObject({ database: text(addressAllowed), archive: v.optional(target) })],
        addressAllowed,
      ),
      namesAllowed,
    ),
    v.check((databases) => Object.keys(databases).length > 0, namesAllowed),
  ),
  database: v.undefined('nothing, where "databases" has the addresses'),
  parallel: v.optional(wholeNumber(1, 100), usualParallel),
})

/** The databases of a config that has several. */
export interface Databases {
  readonly names: readonly string[]
  /** How many are worked on at the same time. */
  readonly parallel: number
  /** The config as it is for one of them, not yet checked; and whether its archives go into a folder of its name. */
  readonly configFor: (name: string) => { readonly content: unknown; readonly hasFolder: boolean }
}

/** The databases that a config file's content names; undefined where it has one database alone. */
export function databasesOf(content: unknown, file: string): Checked<Databases> | undefined {
  if (typeof content !== 'object' || content === null || !('databases' in content)) return undefined
  const checked = check(schema, { database: undefined, ...content }, file, ['databases', 'parallel'])
  if ('mistakes' in checked) return checked
  const { databases, parallel, ...shared } = checked.value
  // Of the archive, what was written counts: its defaults are filled in with the rest. That it is such a record has been checked.
  const written = new Map(Object.entries(content.databases as Record<string, object>))
  return {
    value: {
      names: Object.keys(databases),
      parallel,
      configFor: (name) => {
        const entry = databases[name]
        if (typeof entry === 'string') return { content: { ...shared, database: entry }, hasFolder: true }
        if (entry?.archive === undefined) return { content: { ...shared, database: entry?.database }, hasFolder: true }
        return { content: { ...shared, ...written.get(name) }, hasFolder: false }
      },
    },
  }
}

/**
 * A config's content with some address for each database that has none here, and the names of those: to look at all else by.
 * One database alone goes without a name.
 */
export function withAddresses(content: unknown): { content: unknown; missing: readonly (string | undefined)[] } {
  if (!isRecord(content)) return { content, missing: [] }
  const isMissing = (address: unknown): boolean => address === undefined || address === ''
  const { database, databases } = content
  if (!isRecord(databases))
    return database === ''
      ? { content: { ...content, database: nowhere }, missing: [undefined] }
      : { content, missing: [] }
  const missing: string[] = []
  const complete = Object.entries(databases).map(([name, entry]): [string, unknown] => {
    const isWithout = isMissing(isRecord(entry) ? entry['database'] : entry)
    if (!isWithout) return [name, entry]
    missing.push(name)
    return [name, isRecord(entry) ? { ...entry, database: nowhere } : nowhere]
  })
  return { content: { ...content, databases: Object.fromEntries(complete) }, missing }
}

/** Is never opened. */
const nowhere = 'sqlite:./nowhere.db'

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The database that a call is about, by its name; undefined where the config has one alone.
 * @param names those of the config, where it has several
 * @throws RetentionError `USAGE` where none of several is named, or one that is not there
 */
export function databaseNamed(name: string | undefined, names: readonly string[] | undefined): string | undefined {
  if (names === undefined) {
    if (name === undefined) return undefined
    throw new RetentionError('USAGE', `The config has one database alone, and none called "${name}"`)
  }
  const hint = `The config has: ${names.join(', ')}.`
  if (name === undefined) throw new RetentionError('USAGE', 'The config has several databases: name one', { hint })
  if (names.includes(name)) return name
  throw new RetentionError('USAGE', `No database is called ${JSON.stringify(name)}${didYouMean(name, names)}`, { hint })
}

/** Where the archives of one of several databases go: a folder of its name, so that no two have files of the same name. */
export function folderFor(database: string, archive: TargetConfig): TargetConfig {
  const [, place = '', query = ''] = isS3(archive.to) ? (/^([^?]*)(.*)$/s.exec(archive.to) ?? []) : ['', archive.to]
  return { ...archive, to: `${place.replace(/\/+$/, '')}/${database}${query}` }
}

/** What is wrong with an archive that several databases share; undefined where each can have a folder in it. */
export function sharedMistake({ to }: TargetConfig): string | undefined {
  if (!isGdrive(to)) return undefined
  return `several databases would share a Google Drive folder; allowed: an "archive" of its own for each of "databases"`
}
