/** `erase`: removes rows from a policy's archives, for good. Which archives, what they hold of it, and what is told. */
import { randomUUID } from 'node:crypto'
import path from 'node:path'

import { needsKey } from '../archive/encoding.ts'
import { manifestName, policyOfArchive } from '../archive/name.ts'
import { formatTableName, parseTableName, type TableName } from '../config/fields.ts'
import { loadProject, nowOption, textOption, type Project, type ProjectOptions } from '../config/project.ts'
import { countRows } from '../plan/cut.ts'
import type { Database, Finding } from '../database/database.ts'
import { openDatabase } from '../database/open.ts'
import { wherePredicate } from '../database/where.ts'
import { chooseInArchive, type ArchiveChoice } from './erase-choice.ts'
import { eraseInArchive, holdsOn, type EraseOrder } from './erase-runner.ts'
import { leftAmong, oldFiles, pendingPlaces, stillThere } from '../stored/old-files.ts'
import { finishRemovals } from '../stored/removal.ts'
import { asRetentionError, hasCode, messageOf, RetentionError } from '../errors.ts'
import { findRecorded, targetOfEntry, type FoundArchive } from '../stored/find-archive.ts'
import { ownName } from '../ledger/hold.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { listFiles, unknownAmong } from '../stored/orphans.ts'
import { checkPolicy, locked, lockedError } from '../stored/policy-archives.ts'
import { reported, type ErasedArchiveReport, type EraseReport } from '../report.ts'
import { policySealer } from '../sealing.ts'
import { toolVersion } from '../version.ts'

/** What `erase` can be told. */
export interface EraseOptions extends ProjectOptions {
  /** The policy whose archives are meant: one that the ledger has archives of, whether or not there is such a policy now. */
  policy: string
  /**
   * An SQL predicate over the archives' columns, as they were named and typed when they were archived: rows for which it is
   * true are erased. Kept nowhere.
   */
  where: string
  /** Why, in the user's own words; kept in the ledger for ever, and so should not name the person. */
  reason: string
  /** Does it. Default false: only says what would be erased. */
  yes?: boolean
  /** Which of the archives' tables `where` is about, as `table` or `schema.table`. Default: the policy's own. */
  table?: string
  /** Who wants it, as it is to be recorded. Default: the user of this process, at this host. */
  by?: string
  /** The time that is recorded, and that tells which legal holds are in force. Default: the clock. */
  now?: Date
}

/** What an erasure works with. */
interface EraseWork extends EraseOrder {
  readonly project: Project
  readonly policy: string
  readonly yes: boolean
}

/**
 * Erases rows from a policy's archives, with all that refers to them in the same archive: each is stored anew without them,
 * and read back; then the ledger goes over to the new one, and only then the old one goes. All archives are looked at before
 * anything is touched. Rows under a legal hold stay, as does the table itself.
 * @throws RetentionError `USAGE`, `POLICY_UNKNOWN`, `POLICY_LOCKED`; `ARCHIVE_NOT_FOUND`, `ARCHIVE_CHANGED` or
 *   `MANIFEST_INVALID` where an archive is not what was stored: nothing has been touched then
 */
export async function erase(options: EraseOptions): Promise<EraseReport> {
  const now = nowOption(options.now)
  const policy = textOption('policy', options.policy)
  const wish = { where: textOption('where', options.where), table: tableOption(options.table) }
  const reason = textOption('reason', options.reason)
  const by = options.by === undefined ? ownName() : textOption('by', options.by)
  const { yes = false } = options
  const project = await loadProject(options, 'config')
  const { config } = project
  const database = await openDatabase(config, yes ? 'write' : 'read')
  try {
    const ledger = yes
      ? await Ledger.forWriting(database, config.ledger)
      : await Ledger.forReading(database, config.ledger)
    const all = await database.read((db) => ledger.entries(db))
    checkPolicy(policy, project, all)
    const table = await tableNow(wish.table ?? tableOf(policy, project, all), database)
    const names = { policy, table: formatTableName(table), reason, by }
    const erasure = { id: randomUUID(), ...names, at: now.toISOString(), toolVersion }
    const known = project.policies.find(({ name }) => name === policy)
    const sealer = await policySealer({ archive: known?.archive }, config)
    const archiveTo = known?.archive ?? config.archive
    const work = { project, config, database, ledger, wish, archiveTo, sealer, erasure, now, policy, yes }
    const report = yes ? await locked(policy, work, () => eraseAll(work)) : await look(work)
    const warnings = [...report.warnings]
    // What has been done is told, whatever else cannot be.
    const asked = async <T>(what: string, answer: Promise<T>, otherwise: T): Promise<T> =>
      answer.catch((error: unknown) => {
        warnings.push({ level: 'warning', text: `${what} could not be asked: ${messageOf(error)}` })
        return otherwise
      })
    const live = await asked('How many such rows the table has', countLive(database, table, wish.where), null)
    warnings.push(...(await asked('Which other files there are', placesNotLookedInto(work), [])))
    const sum = (of: 'erased' | 'held'): number => report.archives.reduce((total, one) => total + one[of], 0)
    const isDone = yes && sum('erased') > 0
    return {
      ...names,
      dryRun: !yes,
      erasure: isDone ? erasure.id : null,
      ...report,
      erased: sum('erased'),
      held: sum('held'),
      live,
      warnings,
    }
  } finally {
    await database.close()
  }
}

/** What the archives come to. */
type Outcome = Pick<EraseReport, 'checked' | 'archives' | 'removed' | 'left' | 'warnings'>

/** Says what would be erased. */
async function look(work: EraseWork): Promise<Outcome> {
  const { config, database, ledger, policy } = work
  const removed = await stillThere(await database.read((db) => oldFiles(db, ledger, [policy])), config)
  const { archives, ...rest } = await lookAtAll(work)
  return { ...rest, removed, left: [], archives: archives.map(({ report }) => report) }
}

/** Looks at all archives; then erases what matches, one after the other. */
async function eraseAll(work: EraseWork): Promise<Outcome> {
  const { database, ledger, policy } = work
  // What was cut off before has left goes first, whatever may be wrong with other archives.
  const { removed, left } = await finishRemovals(await database.read((db) => oldFiles(db, ledger, [policy])), work)
  const looked = await lookAtAll(work)
  const warnings = [...looked.warnings]
  const archives: ErasedArchiveReport[] = []
  let failed: { readonly name: string; readonly error: RetentionError } | undefined
  for (const { entry, report } of looked.archives) {
    if (report.erased === 0 || failed !== undefined) {
      const error = failed === undefined ? report.error : reported(notBegun(entry, failed))
      archives.push(error === undefined ? report : { ...report, erased: 0, error })
      continue
    }
    try {
      const { choice, after, warnings: more, error } = await eraseInArchive(entry, work)
      const done = reportOf(entry, choice, after)
      archives.push(error === undefined ? done : { ...done, error: reported(error) })
      warnings.push(...more)
      if (error !== undefined) failed = { name: entry.name, error }
    } catch (error) {
      const known = asRetentionError(error)
      archives.push({ ...report, erased: 0, error: reported(known) })
      failed = { name: entry.name, error: known }
    }
  }
  return { checked: looked.checked, removed, left: left.map(reported), archives, warnings }
}

/** What has been done stands; with the disk or the database in trouble, nothing more is begun. */
function notBegun({ name }: LedgerEntry, failed: { name: string; error: RetentionError }): RetentionError {
  return new RetentionError(failed.error.code, `Nothing was erased from ${name}, after what befell ${failed.name}`, {
    hint: 'Erase again when that is mended.',
  })
}

/** An archive that has matching rows, or that could not be asked. */
interface LookedAt {
  readonly entry: LedgerEntry
  readonly report: ErasedArchiveReport
}

async function lookAtAll(
  work: EraseWork,
): Promise<{ checked: number; archives: LookedAt[]; warnings: readonly Finding[] }> {
  const { config, database, ledger, policy, wish } = work
  const entries = await database.read((db) => ledger.entries(db, [policy]))
  const stored = entries.filter(({ state }) => state !== 'pruned')
  const archives: LookedAt[] = []
  const warnings: Finding[] = []
  let unusable: RetentionError | undefined
  let checked = 0
  let isAsked = stored.length === 0
  for (const entry of stored) {
    try {
      const archive = await findRecorded(entry, config)
      const holds = await database.read((db) => holdsOn(db, entry, work))
      const choice = await chooseInArchive(archive, holds, wish, database)
      checked += 1
      isAsked ||= choice.isAsked
      warnings.push(...choice.warnings)
      const report = reportOf(entry, choice, undefined)
      if (report.erased > 0 && needsKey(archive.encoding) && !needsKey(work.sealer?.encoding ?? null))
        throw unsealed(entry)
      const kept =
        report.erased === 0
          ? undefined
          : await lockedError(
              archive.target,
              filesOf(archive),
              'Erase again when that has ended. The archive is as it was.',
            )
      if (kept !== undefined) archives.push({ entry, report: { ...report, erased: 0, error: reported(kept) } })
      else if (report.erased + report.held > 0) archives.push({ entry, report })
    } catch (error) {
      if (hasCode(error, 'ARCHIVE_NOT_FOUND') && entry.state === 'restored') {
        // It is nobody's only copy, and may have been removed.
        const text = `${entry.name} was restored, and is not there whole any more: ${error.message}`
        warnings.push({ level: 'warning', text, hint: 'If it is somewhere else, the rows are still in it.' })
      } else if (hasCode(error, 'USAGE')) {
        // Its columns may be others than those of later archives.
        unusable ??= error
        archives.push({ entry, report: { ...reportOf(entry, undefined, undefined), error: reported(error) } })
      } else throw error
    }
  }
  if (unusable !== undefined && checked === 0) throw unusable
  if (!isAsked && unusable === undefined && wish.table !== undefined) {
    const text = `No archive of policy "${policy}" has rows of ${formatTableName(wish.table)}`
    if (checked > 0 && !(await isKnown(wish.table, work))) throw unknownTable(text, entries)
    warnings.push({ level: 'warning', text })
  }
  return { checked, archives, warnings }
}

/** Whether there is such a table, or was one when rows of it were erased: to ask for it again is no mistake. */
async function isKnown(table: TableName, { database, ledger, policy, erasure }: EraseWork): Promise<boolean> {
  return database.read(async (db) => {
    if ((await database.findTable(db, table)) !== undefined) return true
    const before = await ledger.erasures.all(db, [policy])
    return before.some((one) => one.table === erasure.table)
  })
}

function unknownTable(text: string, entries: readonly LedgerEntry[]): RetentionError {
  const tables = new Set(entries.flatMap((entry) => [entry.table, ...entry.files.map((file) => file.table)]))
  return new RetentionError('USAGE', `${text}, and there is no such table`, {
    hint: `Its archives have rows of: ${[...tables].toSorted().join(', ')}. Nothing has been erased.`,
  })
}

/** All files of an archive, its manifest last. */
function filesOf(archive: FoundArchive): { file: string }[] {
  const names = [archive, ...archive.parts].map(({ path: file }) => file)
  return [...names, manifestName(archive.name)].map((file) => ({ file }))
}

/** What was sealed is not to lie there open, because its policy or the setting has gone. */
function unsealed({ name, encoding, policy }: LedgerEntry): RetentionError {
  return new RetentionError('REFUSED', `${name} is sealed (${encoding}), and what is left of it would not be`, {
    hint: `Set "encrypt" in policy "${policy}" or in the config. Nothing has been erased.`,
  })
}

function reportOf(
  entry: LedgerEntry,
  choice: ArchiveChoice | undefined,
  after: string | undefined,
): ErasedArchiveReport {
  const files = (choice?.files ?? []).map(({ file, numbers, held }) => ({
    file: file.name,
    table: formatTableName(file.table),
    rows: file.rows,
    erased: numbers.length,
    held,
    references: file.link !== undefined,
  }))
  const rows = files.filter(({ references }) => !references)
  return {
    name: entry.name,
    location: entry.location,
    state: entry.state === 'restored' ? 'restored' : 'archived',
    after: after ?? null,
    erased: rows.reduce((sum, { erased }) => sum + erased, 0),
    held: rows.reduce((sum, { held }) => sum + held, 0),
    files,
    holds: (choice?.holds ?? []).map(({ hold, rows: count }) => {
      const { id, reason, createdBy, until } = hold
      return { id, reason, createdBy, until, rows: count }
    }),
  }
}

/** Matching rows in the table itself; null where it cannot be asked. */
async function countLive(database: Database, name: TableName, where: string): Promise<number | null> {
  const count = database.read(async (db) => {
    const table = await database.findTable(db, name)
    if (table === undefined || (await database.predicateError(db, where, table)) !== undefined) return null
    return countRows(db, { table, where: wherePredicate(where) })
  })
  return count.catch((error: unknown) => {
    if (hasCode(error, 'DATABASE_FAILED')) return null
    throw error
  })
}

/** Files of the policy that may have such rows as well, and that nobody has looked into. */
async function placesNotLookedInto({ project, config, database, ledger, policy }: EraseWork): Promise<Finding[]> {
  const [entries, old] = await database.read(async (db) => [await ledger.entries(db), await oldFiles(db, ledger)])
  const inUse = entries.filter(({ state }) => state !== 'pruned')
  const files = (await listFiles(project, [...inUse, ...pendingPlaces(old)])).filter((file) => file.policy === policy)
  const strangers = await unknownAmong(files, entries, config)
  const taken = await leftAmong(strangers, old, config)
  const pending = new Set(taken.filter((one) => one.old.removedAt === null).map(({ stored }) => stored))
  const unknown = strangers.filter((file) => !pending.has(file))
  const orphans = unknown.map(({ target, name }) => target.locate(name))
  const aside = new Set<string>()
  for (const target of [...files.map((file) => file.target), ...(await targetsOf(inUse, policy, config))]) {
    for (const address of await target.listAside().catch(() => [])) {
      // Of several files of one name, the later ones have a number.
      if (policyOfArchive(path.basename(address).replace(/\.\d+$/, '')) === policy) aside.add(address)
    }
  }
  return [
    ...(orphans.length === 0
      ? []
      : [
          notLookedInto(
            orphans,
            'that the ledger does not know',
            'Before you erase, "retention verify --repair --yes" tells them apart, as long as it finds their rows elsewhere.',
          ),
        ]),
    ...(aside.size === 0
      ? []
      : [
          notLookedInto(
            [...aside],
            'that were set aside',
            'Their rows are elsewhere as well: remove them if nobody needs them.',
          ),
        ]),
  ]
}

async function targetsOf(
  entries: readonly LedgerEntry[],
  policy: string,
  config: EraseWork['config'],
): Promise<Awaited<ReturnType<typeof targetOfEntry>>[]> {
  const own = entries.filter((entry) => entry.policy === policy)
  return Promise.all(own.map(async (entry) => targetOfEntry(entry, config)))
}

/** How many files are named at most. */
const shownFiles = 5

function notLookedInto(files: readonly string[], which: string, hint: string): Finding {
  const more = files.length > shownFiles ? ` and ${files.length - shownFiles} more` : ''
  const text = `Files ${which} may have such rows, and were not looked into: ${files.slice(0, shownFiles).join(', ')}${more}`
  return { level: 'warning', text, hint }
}

function tableOf(policy: string, { policies }: Project, entries: readonly LedgerEntry[]): TableName {
  const now = policies.find(({ name }) => name === policy)?.table
  const [last] = entries.filter((entry) => entry.policy === policy).toReversed()
  const then = parseTableName(last?.table ?? '')
  return now ?? then ?? { schema: undefined, name: last?.table ?? '' }
}

/** A table's whole name, as far as it is there. */
async function tableNow(name: TableName, database: Database): Promise<TableName> {
  return (await database.read((db) => database.findTable(db, name)))?.name ?? name
}

function tableOption(table: string | undefined): TableName | undefined {
  if (table === undefined) return undefined
  const name = parseTableName(textOption('table', table))
  if (name !== undefined) return name
  throw new RetentionError('USAGE', `"table" is "${table}"; allowed: a table, as "table" or "schema.table"`)
}
