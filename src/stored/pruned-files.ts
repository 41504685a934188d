/** The files of archives that were pruned, as the ledger's entries tell of them. */
import { manifestName } from '../archive/name.ts'
import { RetentionError } from '../errors.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'

/** A file of an archive that was pruned. */
export interface PrunedFile {
  readonly archive: string
  readonly file: string
  /** Of the bytes as stored. */
  readonly storedSha256: string
  /** The machine that had archived it. */
  readonly host: string
  /** The target, as the config wrote it. */
  readonly target: string
  /** Its full address. */
  readonly location: string
  /** ISO 8601. */
  readonly prunedAt: string
  readonly prunedBy: string
  /** When it was removed; null as long as it may be there. */
  readonly removedAt: string | null
}

/** A file of an archive, as it is stored. */
export type ArchiveFile = Pick<PrunedFile, 'file' | 'storedSha256'>

/** The files of an archive in the order in which they are removed: the manifest first, its own CSV last. */
export function archiveFiles(entry: LedgerEntry): ArchiveFile[] {
  const csvs = [entry, ...entry.files].map(({ path, storedSha256 }) => ({ file: path, storedSha256 }))
  return [{ file: manifestName(entry.name), storedSha256: entry.manifestSha256 }, ...csvs.toReversed()]
}

/** The files of an archive that was pruned; none where it was not, or where nothing was left of it after an erasure. */
export function prunedFiles(entry: LedgerEntry): PrunedFile[] {
  const { name, path, location, host, target, prunedAt, prunedBy, removedAt } = entry
  if (prunedAt === null) return []
  const folder = location.slice(0, location.length - path.length)
  return archiveFiles(entry).map(({ file, storedSha256 }) => ({
    archive: name,
    file,
    storedSha256,
    host,
    target,
    location: `${folder}${file}`,
    prunedAt,
    prunedBy: prunedBy ?? 'somebody',
    removedAt,
  }))
}

/** What is said of an archive that is no more to who wants to have it. */
export function prunedError({ name, prunedAt, prunedBy }: LedgerEntry): RetentionError {
  const text =
    prunedAt === null
      ? `${name} is no more: its rows were erased`
      : `${name} was pruned at ${prunedAt} by ${prunedBy ?? 'somebody'}: it had outlived its own retention`
  return new RetentionError('ARCHIVE_NOT_FOUND', text, {
    hint: 'The ledger has its checksum still: "retention status --json".',
  })
}
