/** Removes files of no use any more, and knows what is gone from what is only not to be seen. */
import { policyOfArchive, unfinishedName } from '../archive/name.ts'
import { readWhole } from '../archive/store.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../database/database.ts'
import { asRetentionError, hasCode, messageOf, RetentionError } from '../errors.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import type { Repair } from '../report.ts'
import { isAddress } from '../target/open.ts'
import type { Target } from '../target/target.ts'
import { targetOfEntry } from './find-archive.ts'
import {
  isMoved,
  isPruned,
  isThere,
  isUnderWay,
  leftText,
  oldFiles,
  pendingAmong,
  stillThere,
  targetOf,
  type LeftFile,
  type OldFile,
} from './old-files.ts'
import { archiveFiles } from './pruned-files.ts'

/** What removing files depends on. */
interface Removal {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
}

/**
 * Removes the files of one archive that one erasure, move or prune has taken out of use, and notes it once all are gone.
 * @param files in the order in which they go
 * @returns why some are left
 * @throws RetentionError where they are gone, and that could not be noted
 */
async function removeOld(files: readonly OldFile[], removal: Removal): Promise<RetentionError[]> {
  const { config } = removal
  const [first] = files
  if (first === undefined) return []
  const left: RetentionError[] = []
  // One file that stays is no reason to leave the others.
  const trying = async (work: () => Promise<void>): Promise<void> =>
    work().catch((error: unknown) => {
      left.push(asRetentionError(error))
    })
  for (const old of files) await trying(() => removeOne(old, removal))
  if (isUnderWay(first)) await trying(() => removeUnfinished(files, config))
  if (left.length === 0) await noteRemoved(first, removal)
  return left
}

/**
 * As `removeOld`, for what takes files out of use: it has happened by then, whatever becomes of them.
 * @param what has happened, as in `log.csv was pruned`, and which command does the rest
 * @returns why files are there still, or why nobody has noted that they are gone
 */
export async function removeTaken(
  files: readonly OldFile[],
  removal: Removal,
  { what, command }: { readonly what: string; readonly command: string },
): Promise<RetentionError | undefined> {
  try {
    const left = await removeOld(files, removal)
    const [first] = left
    if (first === undefined) return undefined
    const why = left.map(({ message }) => message).join('; ')
    return new RetentionError(
      first.code,
      `${what}, but its files at ${files[0]?.target ?? 'its target'} could not be removed: ${why}`,
      {
        hint: `They hold rows still. The next "${command}" of the policy, or "retention verify --repair --yes", removes them.`,
        cause: first,
      },
    )
  } catch (error) {
    return new RetentionError(
      error instanceof RetentionError ? error.code : 'UNEXPECTED',
      `${what}, and its old files are gone, but the ledger could not be told so: ${messageOf(error)}`,
      { hint: `The next "${command}" of the policy does that.`, cause: error },
    )
  }
}

/** Notes that a file is gone, and all that were taken out of use with it. */
async function noteRemoved(old: OldFile, { database, ledger, now }: Removal): Promise<void> {
  await database.write(async (db) => {
    if (isPruned(old)) await ledger.markRemoved(db, old.archive, now)
    else if (!isMoved(old)) await ledger.erasures.markRemoved(db, old.archive, now)
    else if (isUnderWay(old)) await ledger.moves.forget(db, old.move)
    else await ledger.moves.markRemoved(db, old.move, now)
  })
}

async function removeOne(old: OldFile, removal: Removal): Promise<void> {
  const target = await targetOf(old, removal.config)
  // A service may hide it, and have its bytes still: the target knows.
  if (!(await target.has(old.file))) return target.remove(old.file)
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
  for (const pending of groupsOf(files)) {
    const there = await stillThere(pending, removal.config)
    const isKnown = there.length > 0 || (await isItsPlace(pending, removal))
    const lost = there.length > 0 ? await successorLost(pending, removal) : undefined
    const errors = lost !== undefined ? [lost] : isKnown ? await removeOld(pending, removal) : [notSeen(pending)]
    left.push(...errors)
    if (errors.length === 0) removed.push(...there)
  }
  return { removed, left }
}

/** Why files are left that were cut off from being removed: what has taken their place is not whole, and they may be needed. */
async function successorLost([first]: readonly OldFile[], removal: Removal): Promise<RetentionError | undefined> {
  const { config, database, ledger } = removal
  if (first === undefined || isPruned(first) || isUnderWay(first)) return undefined
  const entry = await database.read(async (db) => {
    const rest = await ledger.erasures.restOf(db, first.archive)
    return rest === null ? undefined : ledger.find(db, rest)
  })
  // What was restored is nobody's only copy, and may have been removed.
  if (entry?.state !== 'archived') return undefined
  const target = await targetOfEntry(entry, config)
  for (const { file, storedSha256 } of archiveFiles(entry)) {
    const stored = await readWhole({ target, path: file, encoding: null, keys: config.keys }).catch(
      (error: unknown) => {
        if (hasCode(error, 'ARCHIVE_NOT_FOUND') || hasCode(error, 'ARCHIVE_CHANGED')) return undefined
        throw error
      },
    )
    if (stored?.stored.sha256 === storedSha256) continue
    const text = `${first.location} is left: ${target.locate(file)}, which the ledger has in its place, is not what was stored there`
    return new RetentionError('ARCHIVE_CHANGED', text, { hint: 'Take that file from a backup; what it lacks is here.' })
  }
  return undefined
}

/** Whether a place without such files is the one that had them. */
async function isItsPlace([first]: readonly OldFile[], removal: Removal): Promise<boolean> {
  if (first === undefined) return true
  if (!isMoved(first)) return isPlaceOf(first, removal)
  if (isAddress(first.target)) return true
  return (await (await targetOf(first, removal.config)).identity()) === first.place
}

/**
 * Whether a target is the place in which a machine has stored archives, and not a folder in which nothing is mounted, or another
 * machine's own of the same name: what else that machine has stored there is there. Of a service it is enough that it answers.
 */
export async function isPlaceOf(
  { target, host }: Pick<LedgerEntry, 'target' | 'host'>,
  { config, database, ledger }: Omit<Removal, 'now'>,
): Promise<boolean> {
  if (isAddress(target)) return true
  const entries = await database.read((db) => ledger.entries(db))
  for (const entry of entries) {
    if (entry.state === 'pruned' || entry.target !== target || entry.host !== host) continue
    if (await (await targetOfEntry(entry, config)).has(entry.path)) return true
  }
  return false
}

/** The files that are removed together, as one erasure, move or prune has taken them out of use. */
function groupsOf(files: readonly OldFile[]): OldFile[][] {
  return [...Map.groupBy(pendingAmong(files), groupOf).values()]
}

function groupOf(old: OldFile): string {
  return isMoved(old) ? old.move : old.archive
}

function notSeen([file]: readonly OldFile[]): RetentionError {
  const what = file === undefined ? '' : whichOf(file)
  const text = `Whether the files of ${file?.archive ?? ''} ${what} are gone cannot be told: nothing shows that ${file?.target ?? ''} is the place where they were, ${file?.location ?? ''}`
  return new RetentionError('TARGET_UNUSABLE', text, {
    hint: 'Do it again where they are: they may hold the rows still. If that place is no more, "retention verify --repair --yes" asks whether to forget them.',
  })
}

/**
 * Removes such files where what has taken them out of use was cut off; those that somebody has put back are left.
 * @param all that the ledger knows of
 */
export async function repairLeft(
  files: readonly LeftFile[],
  all: readonly OldFile[],
  { yes, ...removal }: Removal & { readonly yes: boolean },
): Promise<Repair[]> {
  const { config, database, ledger } = removal
  const repairs: Repair[] = []
  for (const [policy, own] of Map.groupBy(files, ({ stored }) => policyOfArchive(stored.name) ?? '')) {
    const lock = yes ? await database.lock(ledger.lockName(policy)) : undefined
    try {
      // Of files that go together, not all may be listed.
      const wanted = new Set(own.map(({ old }) => groupOf(old)))
      if (lock !== undefined)
        await finishRemovals(
          all.filter((old) => wanted.has(groupOf(old))),
          removal,
        )
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

function fileOf(old: OldFile): string {
  if (isPruned(old)) return 'the file that was pruned'
  return isMoved(old) ? 'the copy that a move has left' : 'the file that rows were erased from'
}

function whichOf(old: OldFile): string {
  if (isPruned(old)) return 'that was pruned'
  return isMoved(old) ? 'that a move has left' : 'that rows were erased from'
}

/**
 * Asks of files of no use that are not to be seen, at a place of which nothing shows that it is theirs, whether they are to be
 * forgotten: it may be no more.
 */
export async function repairUnseen(
  files: readonly OldFile[],
  { yes, decide, ...removal }: Removal & Pick<RepairOrder, 'yes' | 'decide'>,
): Promise<Repair[]> {
  const repairs: Repair[] = []
  for (const pending of groupsOf(files)) {
    const own = pending.at(-1)
    if (own === undefined || (await stillThere(pending, removal.config)).length > 0) continue
    if (await isItsPlace(pending, removal)) continue
    const text = `the file ${whichOf(own)} is not to be seen, and nothing shows that this is where it was: it may hold rows still`
    const repair = { name: own.file, location: own.location, action: 'forget', text, asks: true, done: false } as const
    const isWanted = yes && ((await decide?.(repair)) ?? false)
    repairs.push({ ...repair, done: isWanted && (await forget(own, removal)) })
  }
  return repairs
}

/** Unless somebody else is at work on it by now, or has done it. */
async function forget(old: OldFile, removal: Removal): Promise<boolean> {
  const { database, ledger } = removal
  const lock = await database.lock(ledger.lockName(policyOfArchive(old.archive) ?? ''))
  if (lock === undefined) return false
  try {
    const now = await database.read((db) => oldFiles(db, ledger))
    if (!pendingAmong(now).some((one) => groupOf(one) === groupOf(old) && one.file === old.file)) return false
    await noteRemoved(old, removal)
    return true
  } finally {
    await lock.release()
  }
}

/** How repairs are decided on. */
export interface RepairOrder {
  /** Whether to do what is safe, or only to propose it. */
  readonly yes: boolean
  /** Asks somebody whether to do what may not be meant; without it, such things are left. */
  readonly decide: ((repair: Repair) => Promise<boolean>) | undefined
}
