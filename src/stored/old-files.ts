/**
 * Files of no use any more, as rows were erased from them, or their archive has moved or was pruned: removing them, and telling
 * of those left.
 */
import { plainName } from '../archive/encoding.ts'
import { policyOfArchive, unfinishedName } from '../archive/name.ts'
import { readWhole } from '../archive/store.ts'
import type { Config } from '../config/config.ts'
import type { Database, Db } from '../database/database.ts'
import { messageOf, RetentionError } from '../errors.ts'
import { targetOfEntry } from './find-archive.ts'
import type { ErasedFile } from '../ledger/erasures.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { MovedFile } from '../ledger/moves.ts'
import type { Place, StoredFile } from './orphans.ts'
import { prunedFiles, type PrunedFile } from './pruned-files.ts'
import type { Repair, VerifyFinding } from '../report.ts'
import { isAddress } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** A file that an erasure, a move or a prune has taken out of use; or that a move has stored and not yet taken into use. */
export type OldFile = ErasedFile | MovedFile | PrunedFile

/** What removing files depends on. */
interface Removal {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
}

/** All such files, gone or not, or those of some policies' archives. */
export async function oldFiles(db: Db, ledger: Ledger, policies?: readonly string[]): Promise<OldFile[]> {
  const erasures = await ledger.erasures.all(db, policies)
  const entries = await ledger.entries(db, policies)
  return [
    ...erasures.flatMap(({ files }) => files),
    ...(await ledger.moves.files(db, policies)),
    ...entries.flatMap(prunedFiles),
  ]
}

/**
 * Removes the files of one archive that one erasure, move or prune has taken out of use, and notes it once all are gone.
 * @param files in the order in which they go
 * @returns why some are left
 * @throws RetentionError where they are gone, and that could not be noted
 */
export async function removeOld(files: readonly OldFile[], removal: Removal): Promise<RetentionError[]> {
  const { config, database, ledger, now } = removal
  const [first] = files
  if (first === undefined) return []
  const left: RetentionError[] = []
  // One file that stays is no reason to leave the others.
  const trying = async (work: () => Promise<void>): Promise<void> =>
    work().catch((error: unknown) => {
      left.push(error instanceof RetentionError ? error : new RetentionError('UNEXPECTED', messageOf(error)))
    })
  for (const old of files) await trying(() => removeOne(old, removal))
  if (isUnderWay(first)) await trying(() => removeUnfinished(files, config))
  if (left.length > 0) return left
  await database.write(async (db) => {
    if (isPruned(first)) await ledger.markRemoved(db, first.archive, now)
    else if (!isMoved(first)) await ledger.erasures.markRemoved(db, first.archive, now)
    else if (isUnderWay(first)) await ledger.moves.forget(db, first.move)
    else await ledger.moves.markRemoved(db, first.move, now)
  })
  return []
}

async function removeOne(old: OldFile, removal: Removal): Promise<void> {
  const target = await targetOf(old, removal.config)
  if (!(await target.has(old.file))) return
  if (await isInUse(old, target, removal)) {
    const text = `${target.locate(old.file)} is where the ledger has ${old.archive}, and so is left`
    throw new RetentionError('REFUSED', text, { hint: `${old.target} was another place when it was taken out of use.` })
  }
  const { stored } = await readWhole({ target, path: old.file, encoding: null, keys: removal.config.keys })
  if (stored.sha256 !== old.storedSha256) {
    const text = `${target.locate(old.file)} is not ${fileOf(old)}, and so is left`
    throw new RetentionError('ARCHIVE_CHANGED', text, {
      hint: 'Look at what it holds, and remove it yourself.',
    })
  }
  await target.remove(old.file)
}

/** Whether the ledger has the archive just there: two places may have become one since. */
async function isInUse({ archive }: OldFile, target: Target, { config, database, ledger }: Removal): Promise<boolean> {
  const entry = await database.read((db) => ledger.find(db, archive))
  if (entry === undefined || entry.state === 'pruned') return false
  return (await (await targetOfEntry(entry, config)).identity()) === (await target.identity())
}

/** What was being stored when a move was cut off has parts of an archive in it, and is nobody's. */
export async function removeUnfinished(files: readonly OldFile[], config: Config): Promise<void> {
  const [first] = files
  if (first === undefined) return
  const target = await targetOf(first, config)
  const names = new Set(files.map(({ file }) => file))
  for (const name of await target.list()) if (names.has(unfinishedName(name) ?? '')) await target.remove(name)
}

/** Removes what an erasure, a move or a prune that was cut off has left; told by their addresses. */
export async function finishRemovals(
  files: readonly OldFile[],
  removal: Removal,
): Promise<{ removed: string[]; left: RetentionError[] }> {
  const removed: string[] = []
  const left: RetentionError[] = []
  const groups = Map.groupBy(pendingAmong(files), (file) => (isMoved(file) ? file.move : file.archive))
  for (const pending of groups.values()) {
    const there = await stillThere(pending, removal.config)
    const errors =
      there.length > 0 || (await isItsPlace(pending, removal)) ? await removeOld(pending, removal) : [notSeen(pending)]
    left.push(...errors)
    if (errors.length === 0) removed.push(...there)
  }
  return { removed, left }
}

/**
 * Whether a place without such files is the one that had them, and not a folder in which nothing is mounted, or another
 * machine's own: it has something that the ledger knows to be there; or where nothing is left, it is the same folder.
 */
async function isItsPlace(pending: readonly OldFile[], { config, database, ledger }: Removal): Promise<boolean> {
  const [first] = pending
  if (first === undefined || isAddress(first.target)) return true
  const entries = await database.read((db) => ledger.entries(db))
  const beside = entries.filter(({ state, target }) => state === 'archived' && target === first.target)
  for (const entry of beside) if (await (await targetOfEntry(entry, config)).has(entry.path)) return true
  if (isMoved(first)) return (await (await targetOf(first, config)).identity()) === first.place
  return beside.length === 0
}

function notSeen([file]: readonly OldFile[]): RetentionError {
  const what = file === undefined ? '' : whichOf(file)
  const text = `Whether the files of ${file?.archive ?? ''} ${what} are gone cannot be told: ${file?.target ?? ''} has none of the archives that the ledger knows there`
  return new RetentionError('TARGET_UNUSABLE', text, {
    hint: 'Do it again where they are: they may hold the rows still.',
  })
}

/** Those that may be there still, in the order in which they are removed: an archive's own file last. */
function pendingAmong(files: readonly OldFile[]): OldFile[] {
  const pending = files.filter(({ removedAt }) => removedAt === null)
  const isOwn = ({ file, archive }: OldFile): boolean => plainName(file) === archive
  return pending.toSorted((a, b) => Number(isOwn(a)) - Number(isOwn(b)))
}

/** The addresses of those that are there still. */
export async function stillThere(files: readonly OldFile[], config: Config): Promise<string[]> {
  const there: string[] = []
  for (const file of pendingAmong(files)) if (await isThere(file, config)) there.push(file.location)
  return there
}

/** Where those are that may be there still. */
export function pendingPlaces(files: readonly OldFile[]): Place[] {
  return pendingAmong(files).map(({ target, file, location }) => ({ target, path: file, location }))
}

async function isThere(old: OldFile, config: Config): Promise<boolean> {
  return (await targetOf(old, config)).has(old.file)
}

/** A stored file that is of no use. */
export interface LeftFile {
  readonly stored: StoredFile
  readonly old: OldFile
}

/** Those among stored files that were taken out of use, and are there still or again. */
export async function leftAmong(
  files: readonly StoredFile[],
  old: readonly OldFile[],
  config: Config,
): Promise<LeftFile[]> {
  const byName = Map.groupBy(old, ({ file }) => file)
  const found: LeftFile[] = []
  for (const stored of files) {
    const unfinished = unfinishedName(stored.name)
    const here: OldFile[] = []
    for (const one of byName.get(unfinished ?? stored.name) ?? []) {
      if (unfinished !== undefined && !isUnderWay(one)) continue
      const target = await targetOf(one, config)
      const isSame = (await target.identity()) === (await stored.target.identity())
      if (isSame && (unfinished !== undefined || (await target.has(one.file)))) here.push(one)
    }
    // An archive may have been moved from there several times.
    const last = here.find(({ removedAt }) => removedAt === null) ?? here.at(-1)
    if (last !== undefined) found.push({ stored, old: last })
  }
  return found
}

/** What verify says of such a file. */
export function leftFinding({ stored: { target, name }, old }: LeftFile): VerifyFinding {
  return {
    kind: isMoved(old) ? 'moved' : isPruned(old) ? 'pruned' : 'erased',
    name,
    location: target.locate(name),
    text: leftText(old),
  }
}

/** Removes such files where what has taken them out of use was cut off; those that somebody has put back are left. */
export async function repairLeft(
  files: readonly LeftFile[],
  { yes, ...removal }: Removal & { readonly yes: boolean },
): Promise<Repair[]> {
  const { config, database, ledger } = removal
  const repairs: Repair[] = []
  for (const [policy, own] of Map.groupBy(files, ({ stored }) => policyOfArchive(stored.name) ?? '')) {
    const lock = yes ? await database.lock(ledger.lockName(policy)) : undefined
    try {
      const pending = new Set(own.map(({ old }) => old).filter(({ removedAt }) => removedAt === null))
      if (lock !== undefined) await finishRemovals([...pending], removal)
      for (const { stored, old } of own) {
        const { target, name } = stored
        const isPending = old.removedAt === null
        const done = isPending && lock !== undefined && !(await isThere(old, config))
        const action = isPending ? 'remove' : 'leave'
        repairs.push({ name, location: target.locate(name), action, text: leftText(old), asks: false, done })
      }
    } finally {
      await lock?.release()
    }
  }
  return repairs
}

function leftText(old: OldFile): string {
  const { removedAt } = old
  const what = whatBefell(old)
  return removedAt === null
    ? `${what}, which was cut off before it was ${isUnderWay(old) ? 'done' : 'removed'}: "retention verify --repair --yes" removes it`
    : `${what}, and it was removed at ${removedAt}: somebody has put it back`
}

function whatBefell(old: OldFile): string {
  if (isPruned(old)) return `its archive was pruned at ${old.prunedAt} by ${old.prunedBy}`
  if (!isMoved(old)) return 'rows were erased from it'
  return old.movedAt === null ? 'a move was to bring its archive here' : `its archive has moved to ${old.to}`
}

function fileOf(old: OldFile): string {
  if (isPruned(old)) return 'the file that was pruned'
  return isMoved(old) ? 'the copy that a move has left' : 'the file that rows were erased from'
}

function whichOf(old: OldFile): string {
  if (isPruned(old)) return 'that was pruned'
  return isMoved(old) ? 'that a move has left' : 'that rows were erased from'
}

function isPruned(old: OldFile): old is PrunedFile {
  return 'prunedAt' in old
}

function isMoved(old: OldFile): old is MovedFile {
  return 'move' in old
}

/** Whether it is at a place that its archive has not come to. */
function isUnderWay(old: OldFile): boolean {
  return isMoved(old) && old.movedAt === null
}

/** The target of such a file: as for a ledger's entry. */
async function targetOf({ target, file, location }: OldFile, config: Config): Promise<Target> {
  return targetOfEntry({ target, path: file, location }, config)
}
