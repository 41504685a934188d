/** Files on the targets, and which of them the ledger accounts for. */
import { manifestName, policyOfArchive } from '../archive/name.ts'
import type { Config } from '../config/config.ts'
import type { Project } from '../config/project.ts'
import type { Database } from '../database/database.ts'
import { targetOfEntry } from './find-archive.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import { isAddress, openTarget } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** A file of ours on a target. */
export interface StoredFile {
  readonly target: Target
  readonly name: string
  /** The policy that its name says it is from. */
  readonly policy: string
}

/** Where a file lies, or may lie, as the ledger has it. */
export type Place = Pick<LedgerEntry, 'target' | 'path' | 'location'>

/** All files of ours, finished or not, on the targets that config, policies and ledger know. */
export async function listFiles({ config, policies }: Project, places: readonly Place[]): Promise<StoredFile[]> {
  const targets = new Map<string, Target>()
  const configured = [config.archive, ...policies.flatMap((policy) => policy.archive ?? [])]
  for (const archive of configured) await addTarget(targets, openTarget(archive, config.folder))
  for (const place of places) {
    const target = await targetOfEntry(place, config).catch(() => undefined)
    if (target !== undefined) await addTarget(targets, target)
  }
  const files: StoredFile[] = []
  for (const target of targets.values()) {
    for (const name of await namesIn(target)) {
      const policy = policyOfArchive(name)
      if (policy !== undefined) files.push({ target, name, policy })
    }
  }
  return files
}

/** A folder that cannot be read is told with each of the files that should be in it; of a service, that may be access alone. */
async function namesIn(target: Target): Promise<string[]> {
  return target.list().catch((error: unknown) => {
    if (isAddress(target.name)) throw error
    return []
  })
}

/** Two ways of writing one place are one target. */
async function addTarget(targets: Map<string, Target>, target: Target): Promise<void> {
  targets.set(await target.identity(), target)
}

/** The policies, of those that files are from, that a run holds at this moment: it may be about to record a file. */
export async function policiesRunning(
  files: readonly StoredFile[],
  database: Database,
  ledger: Ledger,
): Promise<Set<string>> {
  const running = new Set<string>()
  for (const policy of new Set(files.map((file) => file.policy))) {
    if (await database.isLocked(ledger.lockName(policy))) running.add(policy)
  }
  return running
}

/** Files that no entry accounts for: an entry's file is one of its name in its place. */
export async function unknownAmong(
  files: readonly StoredFile[],
  entries: readonly LedgerEntry[],
  config: Config,
): Promise<StoredFile[]> {
  const place = async (target: Target, name: string): Promise<string> => `${await target.identity()}\0${name}`
  const known = new Set<string>()
  for (const entry of entries) {
    // Files of one that is no more are of no use, wherever they are.
    if (entry.state === 'pruned') continue
    const target = await targetOfEntry(entry, config).catch(() => undefined)
    if (target === undefined) continue
    known.add(await place(target, entry.path))
    known.add(await place(target, manifestName(entry.name)))
    for (const file of entry.files) known.add(await place(target, file.path))
  }
  const unknown: StoredFile[] = []
  for (const file of files) if (!known.has(await place(file.target, file.name))) unknown.push(file)
  return unknown
}
