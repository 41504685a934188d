/** Policies: their fields, their defaults, and how a folder of them is read. */
import { readdir } from 'node:fs/promises'
import path from 'node:path'

import * as v from 'valibot'

import { codeOf, RetentionError } from '../errors.ts'
import { expiryOf, lockMistake } from './expiry.ts'
import {
  pause,
  sizeWithin,
  tableName,
  target,
  targetFields,
  text,
  timezone,
  wholeNumber,
  type Duration,
  type SetValue,
  type Size,
  type TableName,
  type TargetConfig,
  type TargetInput,
} from './fields.ts'
import { loadFile } from './load-file.ts'
import { paceOf, type Pace } from './pace.ts'
import { action, contradictions, redactionMistakes, set } from './redaction.ts'
import { schedule, scheduleFields, type CheckedSchedule, type Schedule, type ScheduleInput } from './schedule.ts'
import { sealingMistake, sealingOf, type Sealing } from './sealing.ts'
import {
  throttle,
  throttleFields,
  throttleOf,
  type CheckedThrottle,
  type Throttle,
  type ThrottleInput,
} from './throttle.ts'
import { check, type Checked, type Mistake } from './validate.ts'

/** What a file in `policies/` exports. The file's name is the policy's name. */
export interface PolicyInput {
  /** The table, as `table` or `schema.table`. */
  table: string
  /** The column whose timestamp ages a row. */
  column: string
  /** How many days a row lives: a whole number, at least 1. */
  days: number
  /** Where this policy's archives go. Default: the config's `archive`. */
  archive?: string | TargetInput
  /** An SQL predicate; only rows that it is true for can be due. Default: all rows. */
  where?: string
  /**
   * What is done with due rows. `'archive'`, the default: they are archived and deleted. `'redact'`: they stay, and the columns
   * of `set` are archived and overwritten.
   */
  action?: 'archive' | 'redact'
  /**
   * With `redact`: the columns to overwrite, and what with. A row is due as long as one of them holds anything else. The
   * table must have a key. Required with `redact`, and only with it.
   */
  set?: Readonly<Record<string, string | number | boolean | null>>
  /**
   * Archives along what hangs on a row by foreign keys, at any depth: `'archive'` all of it, or only rows of these tables.
   * `batch` counts the table's own rows. Default: none, and a table is refused whose rows others would lose theirs with.
   */
  children?: 'archive' | readonly string[]
  /** The most rows that one step, and so one archive, takes: at most 1 000 000. Default 50 000; 5 000 where `gentle`. */
  batch?: number
  /**
   * About how much CSV one step makes: `'64MB'`, `'1GB'`, or bytes; 1 kB to 1 GB. Large rows make steps of fewer rows, and a
   * step that comes to a quarter more than this is undone and made in smaller ones; only a single row may be larger.
   * Default 256 MB; 4 MB where `gentle`.
   */
  batchBytes?: Size
  /**
   * How many steps' rows are taken side by side, each on a connection of its own: 1 to 8. On Postgres, from 2 on, one more step
   * may be on its way to the disk meanwhile, unless there is a `pause`. Default 2; 1 where `gentle`.
   */
  concurrency?: number
  /**
   * How long to rest after a step before the next one. With `concurrency`, each of the lanes rests on its own, while the
   * others may be at work. Default none; where `gentle`, three times as long as the step took; on SQLite, while others
   * write or where `gentle`, at least so long that the write lock is held for a small share of the time.
   */
  pause?: Duration
  /**
   * For tables that production uses at the same time: one step at a time, small, with rests in between, so that the load
   * is a bounded share; on SQLite the write lock is held for a few milliseconds at a time. `batch`, `batchBytes`,
   * `concurrency` and `pause` go before it. Takes several times as long. Default: the config's, which is false.
   */
  gentle?: boolean
  /** When apply waits for production; `false`: never. Default: the config's. */
  throttle?: ThrottleInput | false
  /** When it runs by itself, as `'0 9 * * MON'`; `false`: never. Default: the config's. */
  schedule?: string | ScheduleInput | false
  /** The time zone of its days and of its schedule. Default: the config's. */
  timezone?: string
  /** Refuses a run in which more rows than this are due, unless `--allow-large`. Default: no limit. */
  maxRows?: number
  /** Refuses a run in which more than this share of the table is due, unless `--allow-large`. Default: no limit. */
  maxPercent?: number
  /** The time zone of values that carry none. Default `UTC`. */
  columnTimezone?: string
  /**
   * Postgres: what is done with partitions that lie wholly before the cutoff. `'drop'`, the default: each is archived as a
   * whole and dropped, which takes the rights of its owner. `'rows'`: their rows are deleted, as all others.
   */
  partitions?: 'drop' | 'rows'
  /**
   * Cleans up after rows were archived: plain `VACUUM (ANALYZE)` on Postgres (never `VACUUM FULL`),
   * `PRAGMA incremental_vacuum` on SQLite. Default false: the report has the command.
   */
  reclaim?: boolean
}

/** A policy, checked and with its defaults filled in. */
export interface Policy extends Pace {
  readonly name: string
  readonly file: string
  readonly table: TableName
  readonly column: string
  readonly days: number
  readonly archive: TargetConfig | undefined
  readonly where: string | undefined
  readonly action: 'archive' | 'redact'
  /** What columns of due rows are overwritten with; undefined where the rows go. */
  readonly set: Readonly<Record<string, SetValue>> | undefined
  /** Whose rows are archived along; undefined: none. */
  readonly children: 'archive' | readonly TableName[] | undefined
  readonly throttle: Throttle
  /** Undefined: it never runs by itself. */
  readonly schedule: Schedule | undefined
  readonly timezone: string
  readonly maxRows: number | undefined
  readonly maxPercent: number | undefined
  readonly columnTimezone: string
  /** Undefined where nothing is said of it: as `drop`, where there are any. */
  readonly partitions: 'drop' | 'rows' | undefined
  readonly reclaim: boolean
}

/** Gives an editor the types of a policy; returns it as it is. */
export function definePolicy(policy: PolicyInput): PolicyInput {
  return policy
}

const fields = [
  'table',
  'column',
  'days',
  'archive',
  'where',
  'action',
  'set',
  'children',
  'batch',
  'batchBytes',
  'concurrency',
  'pause',
  'gentle',
  'throttle',
  'schedule',
  'timezone',
  'maxRows',
  'maxPercent',
  'columnTimezone',
  'partitions',
  'reclaim',
] as const

const percentAllowed = 'a number above 0 and at most 100'

const schema = v.strictObject(
  {
    table: tableName,
    column: text('the name of a column'),
    days: wholeNumber(1, 100_000),
    archive: v.optional(target),
    where: v.optional(text('an SQL predicate, such as "status = \'closed\'"')),
    action,
    set: v.optional(set),
    children: v.optional(
      v.union([v.literal('archive'), v.pipe(v.array(tableName), v.minLength(1))], `'archive', or a list of tables`),
    ),
    batch: v.optional(wholeNumber(1, 1_000_000)),
    batchBytes: v.optional(sizeWithin(1e3, 1e9, 'a size from "1kB" to "1GB", such as "64MB"')),
    concurrency: v.optional(wholeNumber(1, 8)),
    pause: v.optional(pause),
    gentle: v.optional(v.boolean('true or false')),
    throttle: v.optional(throttle),
    schedule: v.optional(schedule),
    timezone: v.optional(timezone),
    maxRows: v.optional(wholeNumber(1, Infinity)),
    maxPercent: v.optional(
      v.pipe(
        v.number(percentAllowed),
        v.check((share) => share > 0 && share <= 100, percentAllowed),
      ),
    ),
    columnTimezone: v.optional(timezone, 'UTC'),
    partitions: v.optional(v.picklist(['drop', 'rows'], '"drop" or "rows"')),
    reclaim: v.optional(v.boolean('true or false'), false),
  },
  'an object with table, column and days, as definePolicy({ … }) makes it, as the default export',
)

/** What a policy leaves to the config. */
export interface PolicyDefaults {
  readonly gentle: boolean
  readonly throttle: CheckedThrottle | undefined
  readonly archive: Sealing & Pick<TargetConfig, 'expireAfter'>
  readonly timezone: string
  readonly schedule: CheckedSchedule | false
}

/** Checks what a policy file exports. */
function checkPolicy(input: unknown, file: string, defaults: PolicyDefaults): Checked<Policy> {
  const name = policyName(file)
  const checked = check(schema, input, file, [...fields, ...targetFields, ...throttleFields, ...scheduleFields])
  const named: Mistake[] =
    namePattern.test(name) && Buffer.byteLength(name) <= longestName
      ? []
      : [
          {
            file,
            text: `the file's name is the policy's name; allowed: letters, digits, "_", "-" and ".", up to ${longestName} bytes`,
          },
        ]
  if ('mistakes' in checked) return { mistakes: [...named, ...checked.mistakes] }
  const sealing = sealingMistake(checked.value.archive, defaults.archive)
  if (sealing !== undefined) named.push({ file, text: sealing })
  const zone = checked.value.timezone ?? defaults.timezone
  const times = checked.value.schedule ?? defaults.schedule
  const expiry = expiryOf(checked.value.archive ?? {}, defaults.archive, zone)
  const lock = lockMistake(checked.value.archive ?? {}, expiry)
  if (lock !== undefined) named.push({ file, text: lock })
  if (named.length > 0) return { mistakes: named }
  const unfit = redactionMistakes(checked.value)
  if (unfit.length > 0) return { mistakes: unfit.map((mistake): Mistake => ({ file, text: mistake })) }
  const { table, column, days, columnTimezone, archive, where, children, maxRows, maxPercent, ...own } = checked.value
  const { batch, batchBytes, concurrency, pause: rest, gentle = defaults.gentle, partitions, reclaim } = own
  return {
    value: {
      name,
      file,
      table,
      column,
      days,
      columnTimezone,
      partitions,
      reclaim,
      archive: archive === undefined ? undefined : { ...archive, ...sealingOf(archive, defaults.archive), expiry },
      where,
      action: own.action,
      set: own.set,
      children,
      maxRows,
      maxPercent,
      ...paceOf({ gentle, batch, batchBytes, concurrency, pause: rest }),
      schedule: times === false ? undefined : { ...times, timezone: zone },
      timezone: zone,
      throttle: throttleOf(defaults.throttle, own.throttle),
    },
  }
}

/** A folder's policies in the order of their names, and what is wrong with the others. */
export async function readPolicies(
  folder: string,
  defaults: PolicyDefaults,
): Promise<{ policies: Policy[]; mistakes: Mistake[] }> {
  return checkPolicies(await policyFiles(folder), loadFile, defaults)
}

/** Checks policies of some files, each of which `load` gives the content of. */
export async function checkPolicies(
  files: readonly string[],
  load: (file: string) => Promise<unknown>,
  defaults: PolicyDefaults,
): Promise<{ policies: Policy[]; mistakes: Mistake[] }> {
  const policies: Policy[] = []
  const mistakes: Mistake[] = []
  for (const file of files) {
    const content = await load(file).then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    )
    if ('error' in content) {
      if (!(content.error instanceof RetentionError)) throw content.error
      mistakes.push({ file, text: content.error.message.replace(`${file}: `, '') })
      continue
    }
    const checked = checkPolicy(content.value, file, defaults)
    if ('value' in checked) policies.push(checked.value)
    else mistakes.push(...checked.mistakes)
  }
  return { policies, mistakes: [...duplicates(files), ...mistakes, ...contradictions(policies)] }
}

const extensions = /\.([cm]?[jt]s|json|ya?ml)$/
const namePattern = /^[\p{L}\p{N}_][\p{L}\p{N}_.-]*$/u
/** Leaves room, in a file name of 255 bytes, for cutoff, number and the manifest's ending. */
const longestName = 150

export function policyName(file: string): string {
  return path.basename(file).replace(extensions, '')
}

/** The files of a folder that are policies by their names, sorted. */
export async function policyFiles(folder: string): Promise<string[]> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error
    throw new RetentionError('CONFIG_INVALID', `The policies folder ${folder} does not exist`, {
      hint: 'Run "retention init" to write a policy, or set "policies" in the config.',
      cause: error,
    })
  }
  return names
    .filter((name) => extensions.test(name) && !name.startsWith('.') && !/\.d\.[cm]?ts$/.test(name))
    .toSorted()
    .map((name) => path.join(folder, name))
}

/** Two files of one name would share archives; letter case is no difference, as on some disks it is none. */
function duplicates(files: readonly string[]): Mistake[] {
  const first = new Map<string, string>()
  const mistakes: Mistake[] = []
  for (const file of files) {
    const name = policyName(file).toLowerCase()
    const other = first.get(name)
    if (other === undefined) first.set(name, file)
    else
      mistakes.push({ file, text: `duplicate policy "${policyName(file)}": ${path.basename(other)} has that name too` })
  }
  return mistakes
}
