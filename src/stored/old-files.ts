/** Files of no use any more, as rows were erased from them, or their archive has moved or was pruned: which there are. */
import { plainName } from '../archive/encoding.ts'
import { unfinishedName } from '../archive/name.ts'
import type { Config } from '../config/config.ts'
import type { Db } from '../database/database.ts'
import { targetOfEntry } from './find-archive.ts'
import type { ErasedFile } from '../ledger/erasures.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { MovedFile } from '../ledger/moves.ts'
import type { Place, StoredFile } from './orphans.ts'
import { prunedFiles, type PrunedFile } from './pruned-files.ts'
import type { VerifyFinding } from '../report.ts'
import type { Target } from '../target/target.ts'

/** A file that an erasure, a move or a prune has taken out of use; or that a move has stored and not yet taken into use. */
export type OldFile = ErasedFile | MovedFile | PrunedFile

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

/** Those that may be there still, in the order in which they are removed: an archive's own file last. */
export function pendingAmong(files: readonly OldFile[]): OldFile[] {
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

export async function isThere(old: OldFile, config: Config): Promise<boolean> {
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

export function leftText(old: OldFile): string {
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

export function isPruned(old: OldFile): old is PrunedFile {
  return 'prunedAt' in old
}

export function isMoved(old: OldFile): old is MovedFile {
  return 'move' in old
}

/** Whether it is at a place that its archive has not come to. */
export function isUnderWay(old: OldFile): boolean {
  return isMoved(old) && old.movedAt === null
}

/** The target of such a file: as for a ledger's entry. */
export async function targetOf({ target, file, location }: OldFile, config: Config): Promise<Target> {
  return targetOfEntry({ target, path: file, location }, config)
}
