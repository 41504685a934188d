/** A name for a new archive that no other one has, at its target or in the ledger. */
import { storedName, type Encoding } from '../archive/encoding.ts'
import { archiveName, manifestName } from '../archive/name.ts'
import type { Database } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { Target } from '../target/target.ts'

/** How many files are passed by that have the names which an archive would take. */
export const mostInTheWay = 1000

/**
 * Claims numbers until one's name is free at the target, and in the ledger.
 * @param base what the archive's name begins with
 * @param place where it is to be stored, and in which form
 * @param inTheWay is told of the files that have such a name
 * @throws RetentionError `ARCHIVE_EXISTS` where they are too many
 */
export async function freeName(
  base: string,
  { target, encoding }: { readonly target: Target; readonly encoding: Encoding | null },
  { database, ledger }: { readonly database: Database; readonly ledger: Ledger },
  inTheWay: string[],
): Promise<string> {
  for (;;) {
    const name = archiveName(base, await ledger.claimNumber(base))
    // An archive of another database may have been restored into this one by its manifest.
    if ((await database.read((db) => ledger.find(db, name))) !== undefined) continue
    let taken: string | undefined
    const names = new Set([name, storedName(name, encoding), manifestName(name)])
    for (const file of names) if (taken === undefined && (await target.has(file))) taken = file
    if (taken === undefined) return name
    const text = `${target.locate(taken)} is in the way; it is left as it is`
    if (inTheWay.length >= mostInTheWay) throw new RetentionError('ARCHIVE_EXISTS', text)
    inTheWay.push(text)
  }
}
