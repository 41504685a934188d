/** The configuration: its fields, their defaults, and how it is found and read. */
import path from 'node:path'

import * as v from 'valibot'

import type { DatabaseInput } from './databases.ts'
import { RetentionError } from '../errors.ts'
import { expiryOf, lockMistake } from './expiry.ts'
import {
  timeout,
  tableName,
  target,
  targetFields,
  text,
  timezone,
  type Duration,
  type TableName,
  type TargetConfig,
  type TargetInput,
} from './fields.ts'
import { Keys, type AskForKey } from './keys.ts'
import { loadFile } from './load-file.ts'
import { noticeFields, notices, ping, type NoticeInput } from './notices.ts'
import { passwordVariable, sealingMistake, type EnvReference } from './sealing.ts'
import { schedule, scheduleFields, type CheckedSchedule, type ScheduleInput } from './schedule.ts'
import { throttle, throttleFields, type CheckedThrottle, type ThrottleInput } from './throttle.ts'
import { check, type Checked } from './validate.ts'

/** What `retention.config.ts` exports. Every field may be left out. */
export interface ConfigInput {
  /**
   * The database: `sqlite:./local.db` or `postgres://user:password@host/name`. A relative path starts at the
   * config's folder. Default: the environment's `DATABASE_URL`, and `sqlite:./local.db` where that is empty.
   */
  database?: string
  /**
   * Several databases with the same policies, by name: `{ eu: 'postgres://…', us: 'postgres://…' }`, in place of `database`.
   * Each has a ledger of its own. Default: one database alone.
   */
  databases?: Record<string, string | DatabaseInput | undefined>
  /** How many of several databases are worked on at the same time. Default 4. */
  parallel?: number
  /** The folder of the policies. Default `./policies`. */
  policies?: string
  /** Where archives go, unless a policy says otherwise. Default `./backups`. */
  archive?: string | TargetInput
  /** The IANA time zone whose midnights are the cutoffs. Default `UTC`. */
  timezone?: string
  /** The ledger's table, `table` or (Postgres) `schema.table`. Default `retention_ledger`. */
  ledger?: string
  /** How long a step waits for a lock before it steps back and tries again. Default `2s`. */
  lockTimeout?: Duration
  /** How long one statement of a step, or the pause between two, may take on Postgres. Default `10m`. */
  stepTimeout?: Duration
  /**
   * How long a step's transaction may wait for its archive to be stored and read back; past that the step is undone and made
   * smaller. Default no limit.
   */
  maxStepTime?: Duration
  /** Whether policies that do not say so themselves are gentle: see there. Default false. */
  gentle?: boolean
  /** When apply waits for production, in all policies; `false`: never. Default: see each field. */
  throttle?: ThrottleInput | false
  /**
   * The Postgres database whose queue `worker` takes its runs from: `postgres://…`. Default: the config's database, where it has one
   * alone and that is on Postgres.
   */
  queue?: string | undefined
  /** When policies run by themselves, as `'0 9 * * MON'`. Default never. */
  schedule?: string | ScheduleInput | false
  /** Who is told how a run of apply ended. Default nobody. */
  notices?: readonly NoticeInput[]
  /**
   * An address that is asked (GET) after each run with exit code 0, so that a service outside can tell when none comes. With
   * several databases it must have `{database}` in it. One that is itself a secret is `env('NAME')`. Default none.
   */
  ping?: string | EnvReference
}

/** A configuration, checked and with its defaults filled in. */
export interface Config {
  /** The file it came from, or what stands for it in messages. */
  readonly file: string
  /** Where relative paths start. */
  readonly folder: string
  /** Its name, where the config has several databases. */
  readonly name?: string
  /** The database's address. May hold a password: never shown. */
  readonly database: string
  /** The folder of the policies, absolute. */
  readonly policies: string
  readonly archive: TargetConfig
  readonly timezone: string
  readonly ledger: TableName
  /** Milliseconds. */
  readonly lockTimeout: number
  /** Milliseconds. */
  readonly stepTimeout: number
  /** Milliseconds. */
  readonly maxStepTime?: number | undefined
  readonly gentle: boolean
  /** As written; policies have it completed. */
  readonly throttle: CheckedThrottle | undefined
  /** May hold a password: never shown. */
  readonly queue?: string | undefined
  readonly schedule: CheckedSchedule | false
  readonly notices: readonly NoticeInput[]
  readonly ping?: string | EnvReference | undefined
  /** What sealed archives are opened with. */
  readonly keys: Keys
}

/** Gives an editor the types of a configuration; returns it as it is. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config
}

const fields = [
  'database',
  'databases',
  'parallel',
  'policies',
  'archive',
  'timezone',
  'ledger',
  'lockTimeout',
  'stepTimeout',
  'maxStepTime',
  'gentle',
  'throttle',
  'queue',
  'schedule',
  'notices',
  'ping',
] as const

const queueAllowed = 'the address of a Postgres database, "postgres://user:password@host/name"'

const databaseAllowed = '"sqlite:./file.db" or "postgres://user:password@host/name"'

const ledgerAllowed = 'a name of letters, digits and "_", up to 40 bytes, or "schema.name"'

const schema = v.strictObject(
  {
    database: v.optional(
      v.pipe(
        text(databaseAllowed),
        v.check((value) => /^(sqlite|file|postgres|postgresql):/i.test(value), databaseAllowed),
        // A file has no user and no password: this is a server's address with the wrong beginning.
        v.check((value) => !/^(sqlite|file):\/\/[^/]*@/i.test(value), databaseAllowed),
        v.check(isUnambiguous, 'an address with "/", "?" and "#" in user and password written as %2F, %3F and %23'),
      ),
      () => process.env['DATABASE_URL'] || 'sqlite:./local.db',
    ),
    policies: v.optional(text('a folder, such as "./policies"'), './policies'),
    archive: v.optional(target, './backups'),
    timezone: v.optional(timezone, 'UTC'),
    ledger: v.optional(
      v.pipe(
        v.string(ledgerAllowed),
        v.check((value) => /^([\p{L}_][\p{L}\p{N}_]*\.)?[\p{L}_][\p{L}\p{N}_]*$/u.test(value), ledgerAllowed),
        // Room for the names of the ledger's other tables within Postgres's 63 bytes.
        v.check((value) => Buffer.byteLength(value.split('.').at(-1) ?? '') <= 40, ledgerAllowed),
        tableName,
      ),
      'retention_ledger',
    ),
    lockTimeout: v.optional(timeout, '2s'),
    stepTimeout: v.optional(timeout, '10m'),
    maxStepTime: v.optional(timeout),
    gentle: v.optional(v.boolean('true or false'), false),
    throttle: v.optional(throttle),
    queue: v.optional(
      v.pipe(
        text(queueAllowed),
        v.check((value) => /^postgres(ql)?:/i.test(value) && isUnambiguous(value), queueAllowed),
      ),
    ),
    schedule: v.optional(schedule, false),
    notices: v.optional(notices, []),
    ping: v.optional(ping),
  },
  'an object, as defineConfig({ database, policies, … }) makes it',
)

/** Whether an address means one thing only: else a part of its password may be taken for the host, and be shown as such. */
function isUnambiguous(address: string): boolean {
  if (!/^postgres/i.test(address)) return true
  const [, user, rest = ''] = /^\w+:\/\/(?:([^/?#]*)@)?(.*)$/s.exec(address) ?? []
  return !(user === undefined ? rest : rest.replace(/\?.*$/s, '')).includes('@')
}

/** Checks what a config file exports. @param ask for keys that are not in the environment */
export function checkConfig(input: unknown, file: string, folder: string, ask?: AskForKey): Checked<Config> {
  const checked = check(schema, input, file, [
    ...fields,
    ...targetFields,
    ...throttleFields,
    ...scheduleFields,
    ...noticeFields,
  ])
  if ('mistakes' in checked) return checked
  const { policies, throttle: given, ...rest } = checked.value
  const expiry = expiryOf(rest.archive, {}, rest.timezone)
  const mistake = sealingMistake(rest.archive, {}) ?? lockMistake(rest.archive, expiry)
  if (mistake !== undefined) return { mistakes: [{ file, text: mistake }] }
  const keys = new Keys(async () => [passwordVariable(rest.archive)], ask)
  const archive = expiry === undefined ? rest.archive : { ...rest.archive, expiry }
  return { value: { ...rest, archive, throttle: given, file, folder, policies: path.resolve(folder, policies), keys } }
}

/** A config file's content, not yet checked, and where it lies. */
export interface ConfigFile {
  readonly file: string
  readonly content: unknown
}

/**
 * Finds the config file from `from` upwards to the project's root (the nearest folder with a package.json), as
 * cosmiconfig does: `retention.config.ts`, `.retentionrc.json`, a `retention` field in package.json and so on.
 */
export async function findConfig(from: string): Promise<ConfigFile> {
  const { cosmiconfig, getDefaultSearchPlaces } = await import('cosmiconfig')
  const searchPlaces = [
    ...getDefaultSearchPlaces('retention'),
    ...['mts', 'cts', 'json', 'yaml', 'yml'].map((extension) => `retention.config.${extension}`),
  ]
  const loaders = Object.fromEntries([...extensions, 'noExt'].map((extension) => [extension, loadNearest]))
  const explorer = cosmiconfig('retention', {
    searchStrategy: 'project',
    searchPlaces,
    loaders,
    cache: false,
    ignoreEmptySearchPlaces: false,
  })
  const found = await explorer.search(from)
  if (found?.isEmpty === true) throw empty(found.filepath)
  if (found === null) {
    throw new RetentionError('CONFIG_NOT_FOUND', `No retention.config.ts in ${from} or above it`, {
      hint: 'Run "retention init" to write one, or name it with --config.',
    })
  }
  return { file: found.filepath, content: found.config }
}

/** A file that is there and holds nothing is a mistake in it; to look on above it could lead to another project's. */
async function loadNearest(file: string): Promise<unknown> {
  const content = await loadFile(file)
  if (content !== undefined && content !== null) return content
  throw empty(file)
}

function empty(file: string): RetentionError {
  return new RetentionError('CONFIG_INVALID', `${file}: exports nothing`, {
    hint: 'Export the configuration as the default export: export default defineConfig({ … }).',
  })
}

/** Reads the config file that somebody named. */
export async function readConfig(file: string): Promise<ConfigFile> {
  return { file, content: await loadFile(file) }
}

const extensions = ['.ts', '.mts', '.cts', '.js', '.mjs', '.cjs', '.json', '.yaml', '.yml']
