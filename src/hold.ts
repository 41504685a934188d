/** `hold add`, `hold list` and `hold release`: legal holds, under which rows and archives stay whatever their age. */
import { sql } from 'kysely'

import { archiveOf } from './archive/name.ts'
import { formatTableName, milliseconds, parseTableName, type TableName } from './config/fields.ts'
import type { Policy } from './config/policy.ts'
import { loadConfig, loadProject, nowOption, type ProjectOptions } from './config/project.ts'
import { didYouMean } from './config/validate.ts'
import { countRows } from './plan/cut.ts'
import { dayAfter } from './cutoff.ts'
import type { Database, Db, Table } from './database/database.ts'
import { openDatabase } from './database/open.ts'
import { heldPredicate, unknownPredicate, wherePredicate } from './database/where.ts'
import { hasCode, RetentionError } from './errors.ts'
import type { Hold } from './ledger/hold.ts'
import type { NewLegalHold } from './ledger/holds.ts'
import { Ledger, type LedgerEntry } from './ledger/ledger.ts'
import { fileNameOf } from './target/open.ts'
import type { AddedHold, HoldList, ListedHold, ReleasedHold } from './report.ts'

/** What `addHold` can be told. */
export interface AddHoldOptions extends ProjectOptions {
  /** What is held: a policy, which stands for its table, or a table. Either this or `archive`. */
  on?: string
  /** An archive, by its name: it is held as a whole. */
  archive?: string
  /** An SQL predicate: only rows for which it is true or unknown (NULL) are held. Default: all rows of the table. */
  where?: string
  /** Why, in the user's own words; kept, and shown wherever the hold is. */
  reason: string
  /**
   * When it ends: a day (which is held to its end, in the config's time zone), an instant such as
   * `2027-01-31T12:00:00Z`, or a duration such as `90d`. Default: when it is released.
   */
  until?: string
  /** Who wants it, as it is to be recorded. Default: the user of this process, at this host. */
  by?: string
  /** The time that it is placed at. Default: the clock. */
  now?: Date
}

/** What `listHolds` can be told. */
export interface ListHoldsOptions extends ProjectOptions {
  /** Also those that have ended or were released. Default false. */
  all?: boolean
  /** The time that tells which have ended. Default: the clock. */
  now?: Date
}

/** What `releaseHold` can be told. */
export interface ReleaseHoldOptions extends ProjectOptions {
  /** The hold's id, or how it begins: at least four letters that no other hold in force begins with. */
  id: string
  /** Why. Default: none is recorded. */
  reason?: string
  /** Who releases it, as it is to be recorded. Default: the user of this process, at this host. */
  by?: string
  /** The time that it is released at. Default: the clock. */
  now?: Date
}

/**
 * Places a legal hold. When this returns, no step is under way that could still take a row which it is on.
 * @throws RetentionError `USAGE`, `POLICY_UNKNOWN`, `ARCHIVE_NOT_FOUND`, or when it cannot begin; nothing is held then.
 */
export async function addHold(options: AddHoldOptions): Promise<AddedHold> {
  const now = nowOption(options.now)
  const said = saidBy(options)
  const { config, policies } = await loadProject(options, 'config')
  const until = untilOption(options.until, now, config.timezone)
  const database = await openDatabase(config, 'write')
  try {
    const order = { ...said, until, now }
    return said.archive === null
      ? await holdRows(database, config.ledger, await findHeld(database, policies, said.on), order)
      : await holdArchive(database, config.ledger, said.archive, order)
  } finally {
    await database.close()
  }
}

/**
 * Lists holds: of restores and legal ones, the oldest first.
 * @throws RetentionError when it cannot begin
 */
export async function listHolds(options: ListHoldsOptions = {}): Promise<HoldList> {
  const now = nowOption(options.now)
  const config = await loadConfig(options)
  const database = await openDatabase(config, 'read')
  try {
    const ledger = await Ledger.forReading(database, config.ledger)
    const holds = (await database.read((db) => ledger.holds.all(db))).map((hold) => listed(hold, now))
    return { holds: options.all === true ? holds : holds.filter(({ state }) => state === 'in-force') }
  } finally {
    await database.close()
  }
}

/**
 * Releases a hold, a legal one or one of a restore: what it kept is due again. It stays on record.
 * @throws RetentionError `HOLD_UNKNOWN`, `USAGE`, or when it cannot begin
 */
export async function releaseHold(options: ReleaseHoldOptions): Promise<ReleasedHold> {
  const now = nowOption(options.now)
  const by = wordsOption('by', options.by)
  const reason = wordsOption('reason', options.reason)
  if (typeof options.id !== 'string' || !/^[0-9a-f-]{4,36}$/i.test(options.id)) {
    const text = `The hold is ${JSON.stringify(options.id)}; allowed: its id, or at least its first four letters`
    throw new RetentionError('USAGE', text, { hint: 'See "retention hold list".' })
  }
  const config = await loadConfig(options)
  const database = await openDatabase(config, 'write')
  try {
    const ledger = await Ledger.forWriting(database, config.ledger)
    const id = findId(options.id.toLowerCase(), await database.read((db) => ledger.holds.all(db)))
    const hold = await database.write((db) => ledger.holds.release(db, id, { by, reason, now }))
    if (hold !== undefined) return { hold }
    throw new RetentionError('HOLD_UNKNOWN', `Hold ${id} has been released by somebody else`)
  } finally {
    await database.close()
  }
}

/** What was said of a hold, checked as far as no database is needed. */
interface Said extends Pick<NewLegalHold, 'where' | 'reason' | 'by' | 'archive'> {
  readonly on: string
}

type HoldOrder = Omit<NewLegalHold, 'table' | 'policy'>

function saidBy(options: AddHoldOptions): Said {
  const on = wordsOption('on', options.on)
  const file = wordsOption('archive', options.archive)
  const where = wordsOption('where', options.where)
  const reason = wordsOption('reason', options.reason)
  if ((on === undefined) === (file === undefined))
    throw new RetentionError('USAGE', 'Name what is to be held: a policy or a table, or else --archive')
  if (file !== undefined && where !== undefined)
    throw new RetentionError('USAGE', '--where goes with a policy or a table; an archive is held as a whole')
  if (reason === undefined) throw new RetentionError('USAGE', '--reason is missing: why is it held?')
  const name = file === undefined ? null : fileNameOf(file)
  return {
    on: on ?? '',
    archive: name === null ? null : archiveOf(name),
    where: where ?? null,
    reason,
    by: wordsOption('by', options.by),
  }
}

/** A text, which must hold something if it is given. */
function wordsOption(name: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  if (typeof text === 'string' && text.trim() !== '' && !text.includes('\0')) return text
  throw new RetentionError('USAGE', `"${name}" is ${JSON.stringify(text)}; allowed: a text that is not empty`)
}

function untilOption(until: string | undefined, now: Date, timezone: string): Date | null {
  if (until === undefined) return null
  const instant = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/i.test(until) ? until : undefined
  const length = milliseconds(until)
  const written = instant ?? dayAfter(until, timezone)
  const time = written === undefined ? now.getTime() + (length ?? NaN) : Date.parse(written)
  if (Number.isNaN(time)) {
    const allowed = 'a day such as "2027-01-31", an instant such as "2027-01-31T12:00:00Z", or a duration such as "90d"'
    throw new RetentionError('USAGE', `--until is "${until}"; allowed: ${allowed}`)
  }
  if (time <= now.getTime()) throw new RetentionError('USAGE', `--until is "${until}", which is past`)
  // Later years are written with a sign, and sort before all others.
  if (time < Date.parse('9999-12-31')) return new Date(time)
  throw new RetentionError('USAGE', `--until is "${until}", which is past the year 9999; left out, it holds for ever`)
}

/** A table that is to be held, and the policy by whose name. */
interface Held {
  readonly policy: string | null
  readonly name: TableName
}

/** What a word stands for: a policy, or a table. @throws RetentionError `POLICY_UNKNOWN`, `USAGE` */
async function findHeld(database: Database, policies: readonly Policy[], on: string): Promise<Held> {
  const policy = policies.find(({ name }) => name === on)
  const written = parseTableName(on)
  return database.read(async (db) => {
    const named = written === undefined ? undefined : await database.findTable(db, written)
    const table = policy === undefined ? named : await database.findTable(db, policy.table)
    if (table === undefined) {
      const text =
        policy === undefined
          ? `"${on}" is neither a policy nor a table${didYouMean(on, [...policies.map(({ name }) => name), ...policies.map((one) => formatTableName(one.table))])}`
          : `Policy "${on}" is on "${formatTableName(policy.table)}", and there is no such table`
      throw new RetentionError('POLICY_UNKNOWN', text)
    }
    // Who means the one would let the other's rows go.
    if (named !== undefined && formatTableName(named.name) !== formatTableName(table.name)) {
      throw new RetentionError(
        'USAGE',
        `"${on}" is a policy on ${formatTableName(table.name)}, and a table of its own: which is meant?`,
        {
          hint: `Name the table that is to be held: ${formatTableName(table.name)}, or ${formatTableName({ ...named.name, schema: named.name.schema ?? 'main' })}.`,
        },
      )
    }
    return { policy: policy?.name ?? null, name: table.name }
  })
}

async function holdRows(
  database: Database,
  ledgerName: TableName,
  { policy, name }: Held,
  order: HoldOrder,
): Promise<AddedHold> {
  // Counted first: what cannot be asked of every row would stop every policy on the table.
  const counted = await database.read(async (db) => {
    const table = await checkedTable(database, db, name, order.where)
    const where = order.where === null ? wherePredicate(undefined) : heldPredicate(order.where)
    return {
      rows: await countRows(db, { table, where }).catch((error: unknown) => {
        if (order.where === null || !hasCode(error, 'DATABASE_FAILED')) throw error
        const text = `--where is ${JSON.stringify(order.where)}, which fails on a row of ${formatTableName(table.name)}: ${error.message}`
        throw new RetentionError('USAGE', text, { cause: error })
      }),
      unknown: order.where === null ? 0 : await countRows(db, { table, where: unknownPredicate(order.where) }),
    }
  })
  const ledger = await Ledger.forWriting(database, ledgerName)
  const hold = await database.apart([name], async (db) => {
    const table = formatTableName((await checkedTable(database, db, name, order.where)).name)
    return ledger.holds.placeLegal(db, { ...order, table, policy })
  })
  const archives = await database.read(async (db) => {
    const entries = (await ledger.entries(db)).filter(({ state }) => state !== 'pruned')
    const held = await ledger.holds.onArchives(db, entries, order.now)
    return [...held].filter(([, holds]) => holds.some(({ id }) => id === hold.id)).map(([archive]) => archive)
  })
  return { hold, ...counted, archives }
}

async function checkedTable(database: Database, db: Db, name: TableName, where: string | null): Promise<Table> {
  const table = await database.findTable(db, name)
  if (table === undefined) throw new RetentionError('POLICY_UNKNOWN', `There is no table "${formatTableName(name)}"`)
  // Who may not read the table is told so, and not that the predicate is at fault.
  if (where !== null) await countRows(db, { table, where: sql<boolean>`(1 = 0)` })
  const error = where === null ? undefined : await database.predicateError(db, where, table)
  if (error === undefined) return table
  const text = `--where is ${JSON.stringify(where)}, which is not a predicate on ${formatTableName(table.name)}: ${error}`
  throw new RetentionError('USAGE', text)
}

async function holdArchive(
  database: Database,
  ledgerName: TableName,
  archive: string,
  order: HoldOrder,
): Promise<AddedHold> {
  const before = await Ledger.forReading(database, ledgerName)
  const { table } = await database.read((db) => storedEntry(before, db, archive))
  const ledger = await Ledger.forWriting(database, ledgerName)
  return database.apart([parseTableName(table) ?? { schema: undefined, name: table }], async (db) => {
    const { policy, rows } = await storedEntry(ledger, db, archive)
    const hold = await ledger.holds.placeLegal(db, { ...order, table, policy, archive })
    return { hold, rows, unknown: 0, archives: [archive] }
  })
}

/** @throws RetentionError `ARCHIVE_NOT_FOUND` */
async function storedEntry(ledger: Ledger, db: Db, archive: string): Promise<LedgerEntry> {
  const entry = await ledger.find(db, archive)
  if (entry !== undefined && entry.state !== 'pruned') return entry
  const text = entry === undefined ? `The ledger knows no archive ${archive}` : `${archive} has been pruned`
  throw new RetentionError('ARCHIVE_NOT_FOUND', text, { hint: 'See "retention status --archives".' })
}

function listed(hold: Hold, now: Date): ListedHold {
  if (hold.releasedAt !== null) return { ...hold, state: 'released' }
  const isOver = hold.until !== null && Date.parse(hold.until) <= now.getTime()
  return { ...hold, state: isOver ? 'ended' : 'in-force' }
}

/** The id of the one hold that has not been released and begins so. @throws RetentionError `HOLD_UNKNOWN`, `USAGE` */
function findId(prefix: string, holds: readonly Hold[]): string {
  const found = holds.filter(({ id }) => id.startsWith(prefix))
  const open = found.filter(({ releasedAt }) => releasedAt === null)
  const [hold] = open
  if (open.length > 1) {
    const ids = open.map(({ id }) => id).join(', ')
    throw new RetentionError('USAGE', `${open.length} holds begin with ${prefix}: ${ids}`)
  }
  if (hold !== undefined) return hold.id
  const released = found.at(-1)
  const text =
    released === undefined
      ? `There is no hold ${prefix}`
      : `Hold ${released.id} was released at ${released.releasedAt} by ${released.releasedBy}`
  throw new RetentionError('HOLD_UNKNOWN', text, { hint: 'See "retention hold list --all".' })
}
