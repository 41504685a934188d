/** Prunes one archive: whether nothing stands against it, and the order of events, as apply/runner.ts has that of a step. */
import { plainName } from '../archive/encoding.ts'
import { readWhole } from '../archive/store.ts'
import { commit, patiently } from '../commit.ts'
import type { Config } from '../config/config.ts'
import { formatTableName, parseTableName, type TableName } from '../config/fields.ts'
import type { Database, Db } from '../database/database.ts'
import { isPlaceOf, removeTaken } from '../stored/removal.ts'
import { RetentionError } from '../errors.ts'
import { targetOfEntry } from '../stored/find-archive.ts'
import type { Hold } from '../ledger/hold.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import { lockedError } from '../stored/policy-archives.ts'
import { archiveFiles, prunedFiles } from '../stored/pruned-files.ts'
import { isAddress } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** Who prunes, and what with. */
export interface PruneOrder {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly by: string
  readonly now: Date
  /** The policy's table, as it is called today. */
  readonly table: TableName
}

/** What stands against pruning an archive, and whether there is anything to remove. */
export interface PruneCheck {
  readonly holds: readonly Hold[]
  /** Whether its files are gone already. */
  readonly gone: boolean
}

/**
 * Whether an archive may go: no legal hold keeps it, its files are, byte for byte, those that were stored, and no lock of the
 * service is on them. Reads it whole; to know that takes no key.
 * @throws RetentionError `ARCHIVE_CHANGED`, `ARCHIVE_NOT_FOUND`, `REFUSED`, `TARGET_UNUSABLE`
 */
export async function checkPrune(entry: LedgerEntry, order: PruneOrder): Promise<PruneCheck> {
  const { config, database } = order
  const holds = await database.read((db) => holdsOn(db, entry, order))
  if (holds.length > 0) return { holds, gone: false }
  const target = await targetOfEntry(entry, config)
  const files = archiveFiles(entry)
  const missing: string[] = []
  for (const { file } of files) if (!(await target.has(file))) missing.push(file)
  await checkNotUnsealed(entry, target)
  if (missing.length === files.length) {
    await checkGone(entry, target, order)
    return { holds, gone: true }
  }
  // A restored archive is nobody's only copy, and somebody may have removed a part of it.
  const [lost] = missing
  if (lost !== undefined && entry.state !== 'restored') {
    throw new RetentionError('ARCHIVE_NOT_FOUND', `There is no file ${target.locate(lost)}`, {
      hint: 'An archive is pruned only where it is whole: take the file from a backup.',
    })
  }
  const there = files.filter(({ file }) => !missing.includes(file))
  const kept = await lockedError(target, there, 'Prune again when that has ended. The archive is as it was.')
  if (kept !== undefined) throw kept
  for (const { file, storedSha256 } of there) {
    const { stored } = await readWhole({ target, path: file, encoding: null, keys: config.keys })
    if (stored.sha256 === storedSha256) continue
    throw new RetentionError(
      'ARCHIVE_CHANGED',
      `${target.locate(file)} is not what was stored: its SHA-256 is ${stored.sha256}, and the ledger has ${storedSha256}`,
      { hint: 'It is left. Take the file from a backup, or find out what it is.' },
    )
  }
  return { holds, gone: false }
}

/** Who has unsealed an archive where it lies has a file that the ledger does not know, and that would stay. */
async function checkNotUnsealed(entry: LedgerEntry, target: Target): Promise<void> {
  for (const { path } of [entry, ...entry.files]) {
    const plain = plainName(path)
    if (plain === path || !(await target.has(plain))) continue
    throw new RetentionError('ARCHIVE_CHANGED', `${target.locate(plain)} is there, unsealed`, {
      hint: 'It is left. If it may go, remove its files yourself, with the manifest, and prune again.',
    })
  }
}

/**
 * Makes sure that an archive of which nothing is to be seen is gone, and not only out of sight, as in a folder in which nothing
 * is mounted: another that the ledger knows to be at its place is there. Of a service it is enough that it answers.
 */
async function checkGone(entry: LedgerEntry, target: Target, { config, database, ledger }: PruneOrder): Promise<void> {
  if (isAddress(entry.target)) return target.check()
  if (await isPlaceOf(entry, { config, database, ledger })) return
  throw new RetentionError(
    'ARCHIVE_NOT_FOUND',
    `Whether ${entry.name} is gone cannot be told: ${entry.target} has none of the archives that the ledger knows there`,
    { hint: 'Prune where the archives are.' },
  )
}

async function holdsOn(db: Db, entry: LedgerEntry, { ledger, now, table }: PruneOrder): Promise<readonly Hold[]> {
  return (await ledger.holds.onArchives(db, [entry], now, formatTableName(table))).get(entry.name) ?? []
}

/** What became of an archive. */
export interface Pruned {
  /** Legal holds that came meanwhile: it is as it was. */
  readonly holds: readonly Hold[]
  /** Why its files are there still, though the ledger has it as pruned. */
  readonly error?: RetentionError
}

/**
 * One archive that `checkPrune` has let go, in its order. From the commit on the ledger knows that it is no more, and which of
 * its files may still be there: whatever cuts it off, nobody takes it for lost, and the next prune removes them.
 */
export async function pruneArchive(entry: LedgerEntry, order: PruneOrder): Promise<Pruned> {
  const { database, ledger, by, now } = order
  let holds: readonly Hold[] = []
  let isWritten = false
  // 1. In one transaction the ledger has it as pruned. A hold that came meanwhile keeps it.
  const record = async (): Promise<void> =>
    patiently(() =>
      database.apart(tablesOf(entry), async (db) => {
        holds = await holdsOn(db, entry, order)
        if (holds.length > 0) return
        await ledger.prune(db, entry, { by, at: now })
        isWritten = true
      }),
    )
  // What failed before its commit is not done, whoever may not ask the ledger so.
  const isDone = async (): Promise<boolean> => isWritten && ledger.isPruned(entry)
  await commit({ commit: record, rollback: async () => {} }, `the prune of ${entry.name}`, isDone, async () => {})
  if (holds.length > 0) return { holds }
  // 2. Only now its files go.
  const pruned: LedgerEntry = { ...entry, state: 'pruned', prunedAt: now.toISOString(), prunedBy: by, removedAt: null }
  const told = { what: `${entry.name} was pruned`, command: 'retention prune --yes' }
  const error = await removeTaken(prunedFiles(pruned), order, told)
  return error === undefined ? { holds } : { holds, error }
}

function tablesOf(entry: LedgerEntry): TableName[] {
  return [entry, ...entry.files].map(({ table }) => parseTableName(table) ?? { schema: undefined, name: table })
}
