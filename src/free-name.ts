/** A name for a new archive that no other one has, at its target or in the ledger. */
import { archiveName, manifestName } from './archive/name.ts'
import type { Database } from './database/database.ts'
import { RetentionError } from './errors.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { Target } from './target/target.ts'

/** How many files are passed by that have the names which an archive would take. */
export const mostInTheWay = 1000

/**
 * Claims numbers until one's name is free at the target, and in the ledger.
 * @param base what the archive's name begins with
 * @param inTheWay is told of the files that have such a name
 * @throws RetentionError `ARCHIVE_EXISTS` where they are too many
 */
export async function freeName(
  base: string,
  target: Target,
  { database, ledger }: { readonly database: Database; readonly ledger: Ledger },
  inTheWay: string[],
): Promise<string> {
  for (;;) {
    const name = archiveName(base, await ledger.claimNumber(base))
    // An archive of another database may have been restored into this one by its manifest.
    if ((await database.read((db) => ledger.find(db, name))) !== undefined) continue
    const taken = (await target.has(name))
      ? name
      : (await target.has(manifestName(name)))
        ? manifestName(name)
        : undefined
    if (taken === undefined) return name
    const text = `${target.locate(taken)} is in the way; it is left as it is`
    if (inTheWay.length >= mostInTheWay) throw new RetentionError('ARCHIVE_EXISTS', text)
    inTheWay.push(text)
  }
}
