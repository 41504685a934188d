/** Files that an erasure has taken out of use: removing them, and telling of those that are still there. */
import { plainName } from './archive/encoding.ts'
import { policyOfArchive } from './archive/name.ts'
import { readWhole } from './archive/store.ts'
import type { Config } from './config/config.ts'
import type { Database } from './database/database.ts'
import { messageOf, RetentionError } from './errors.ts'
import { targetOfEntry } from './find-archive.ts'
import type { ErasedFile } from './ledger/erasures.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { StoredFile } from './orphans.ts'
import type { Repair, VerifyFinding } from './report.ts'
import type { Target } from './target/target.ts'

/** What removing files depends on. */
interface Removal {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly now: Date
}

/**
 * Removes the files of an archive that the ledger has gone over from, and notes it once all are gone.
 * @param files in the order in which they go
 * @returns why some are left
 * @throws RetentionError where they are gone, and that could not be noted
 */
export async function removeErased(
  archive: string,
  files: readonly ErasedFile[],
  { config, database, ledger, now }: Removal,
): Promise<RetentionError[]> {
  const left: RetentionError[] = []
  for (const erased of files) {
    try {
      await removeOne(erased, config)
    } catch (error) {
      // One file that stays is no reason to leave the others.
      left.push(error instanceof RetentionError ? error : new RetentionError('UNEXPECTED', messageOf(error)))
    }
  }
  if (left.length === 0) await database.write((db) => ledger.erasures.markRemoved(db, archive, now))
  return left
}

async function removeOne(erased: ErasedFile, config: Config): Promise<void> {
  const target = await targetOf(erased, config)
  if (!(await target.has(erased.file))) return
  const { stored } = await readWhole({ target, path: erased.file, encoding: null, keys: config.keys })
  if (stored.sha256 !== erased.storedSha256) {
    const text = `${target.locate(erased.file)} is not the file that rows were erased from, and so is left`
    throw new RetentionError('ARCHIVE_CHANGED', text, { hint: 'Look at what it holds, and remove it yourself.' })
  }
  await target.remove(erased.file)
}

/** Removes what an erasure that was cut off has left; told by their addresses. */
export async function finishRemovals(
  files: readonly ErasedFile[],
  removal: Removal,
): Promise<{ removed: string[]; left: RetentionError[] }> {
  const removed: string[] = []
  const left: RetentionError[] = []
  for (const [archive, pending] of Map.groupBy(pendingAmong(files), (file) => file.archive)) {
    const there: string[] = []
    for (const file of pending) if (await isThere(file, removal.config)) there.push(file.location)
    const errors =
      there.length > 0 || (await isItsPlace(pending, removal))
        ? await removeErased(archive, pending, removal)
        : [notSeen(archive, pending)]
    left.push(...errors)
    if (errors.length === 0) removed.push(...there)
  }
  return { removed, left }
}

/**
 * Whether a place without such files is the one that had them, and not a folder in which nothing is mounted, or another
 * machine's own: it has something that the ledger knows to be there.
 */
async function isItsPlace(pending: readonly ErasedFile[], { config, database, ledger }: Removal): Promise<boolean> {
  const entries = await database.read((db) => ledger.entries(db))
  const beside = entries.filter(({ state, target }) => state === 'archived' && target === pending[0]?.target)
  for (const entry of beside) if (await (await targetOfEntry(entry, config)).has(entry.path)) return true
  return beside.length === 0
}

function notSeen(archive: string, [file]: readonly ErasedFile[]): RetentionError {
  const text = `Whether the files that rows of ${archive} were erased from are gone cannot be told: ${file?.target ?? ''} has none of the archives that the ledger knows there`
  return new RetentionError('TARGET_UNUSABLE', text, {
    hint: 'Erase again where the archives are: they may hold the rows still.',
  })
}

/** Those that may be there still, in the order in which they are removed: an archive's own file last. */
export function pendingAmong(files: readonly ErasedFile[]): ErasedFile[] {
  const pending = files.filter(({ removedAt }) => removedAt === null)
  const isOwn = ({ file, archive }: ErasedFile): boolean => plainName(file) === archive
  return pending.toSorted((a, b) => Number(isOwn(a)) - Number(isOwn(b)))
}

/** Whether such a file is there. */
export async function isThere(erased: ErasedFile, config: Config): Promise<boolean> {
  return (await targetOf(erased, config)).has(erased.file)
}

/** A stored file that was taken out of use. */
export interface LeftFile {
  readonly stored: StoredFile
  readonly erased: ErasedFile
}

/** Those among stored files that were taken out of use, and are there still or again. */
export async function erasedAmong(
  files: readonly StoredFile[],
  erased: readonly ErasedFile[],
  config: Config,
): Promise<LeftFile[]> {
  const byName = Map.groupBy(erased, ({ file }) => file)
  const found: LeftFile[] = []
  for (const stored of files) {
    for (const one of byName.get(stored.name) ?? []) {
      const target = await targetOf(one, config)
      const isSame = (await target.identity()) === (await stored.target.identity())
      if (isSame && (await target.has(one.file))) found.push({ stored, erased: one })
    }
  }
  return found
}

/** What verify says of such a file. */
export function erasedFinding({ stored: { target, name }, erased }: LeftFile): VerifyFinding {
  return { kind: 'erased', name, location: target.locate(name), text: leftText(erased) }
}

/** Removes such files where an erasure was cut off; those that somebody has put back are left. */
export async function repairErased(
  files: readonly LeftFile[],
  { yes, ...removal }: Removal & { readonly yes: boolean },
): Promise<Repair[]> {
  const { config, database, ledger } = removal
  const repairs: Repair[] = []
  for (const [policy, own] of Map.groupBy(files, ({ stored }) => policyOfArchive(stored.name) ?? '')) {
    const lock = yes ? await database.lock(ledger.lockName(policy)) : undefined
    try {
      const pending = own.filter(({ erased }) => erased.removedAt === null).map(({ erased }) => erased)
      if (lock !== undefined) await finishRemovals(pending, removal)
      for (const { stored, erased } of own) {
        const { target, name } = stored
        const isPending = erased.removedAt === null
        const done = isPending && !(await isThere(erased, config))
        const action = isPending ? 'remove' : 'leave'
        repairs.push({ name, location: target.locate(name), action, text: leftText(erased), asks: false, done })
      }
    } finally {
      await lock?.release()
    }
  }
  return repairs
}

function leftText({ removedAt }: ErasedFile): string {
  return removedAt === null
    ? 'rows were erased from it, which was cut off before it was removed: "retention verify --repair --yes" removes it'
    : `rows were erased from it, and it was removed at ${removedAt}: somebody has put it back`
}

/** The target of such a file: as for a ledger's entry. */
async function targetOf({ target, file, location }: ErasedFile, config: Config): Promise<Target> {
  return targetOfEntry({ target, path: file, location }, config)
}
