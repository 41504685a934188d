/** `prune`: removes archives that have outlived their own retention. Which they are, and what is told. */
import {
  loadProject,
  nowOption,
  selectPolicies,
  textOption,
  type Project,
  type ProjectOptions,
} from '../config/project.ts'
import type { Policy } from '../config/policy.ts'
import type { Finding } from '../database/database.ts'
import { openDatabase } from '../database/open.ts'
import { oldFiles, stillThere } from '../stored/old-files.ts'
import { finishRemovals } from '../stored/removal.ts'
import { asRetentionError, hasCode } from '../errors.ts'
import { expiriesOf, type Expiring } from './expired.ts'
import { ownName, type Hold } from '../ledger/hold.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { locked } from '../stored/policy-archives.ts'
import { checkPrune, pruneArchive, type PruneOrder } from './prune-runner.ts'
import { reported, type PrunedArchiveReport, type PrunedPolicyReport, type PruneReport } from '../report.ts'

/** What `prune` can be told. */
export interface PruneOptions extends ProjectOptions {
  /** The policies whose archives are meant, by name. Default: all. */
  policies?: readonly string[]
  /** Does it. Default false: only says what would be pruned. */
  yes?: boolean
  /** Who wants it, as it is to be recorded. Default: the user of this process, at this host. */
  by?: string
  /** The time that archives' ages are counted to, that is recorded, and that tells which legal holds are in force. Default: the clock. */
  now?: Date
  /** Is told after every archive. */
  onProgress?: (looked: number, all: number) => void
}

/** What a prune works with. */
interface PruneWork extends Omit<PruneOrder, 'table'> {
  readonly project: Project
  readonly yes: boolean
  readonly onProgress: () => void
}

/**
 * Prunes the archives that are older than `expireAfter` says: each is read back whole; then the ledger has it as pruned, by
 * whom and when, and only then its files go. One that a legal hold or a lock of the service keeps, or that is not what was
 * stored, is left and told.
 * @throws RetentionError `USAGE`, `POLICY_UNKNOWN`, or when it cannot begin
 */
export async function prune(options: PruneOptions = {}): Promise<PruneReport> {
  const now = nowOption(options.now)
  const by = options.by === undefined ? ownName() : textOption('by', options.by)
  const { yes = false } = options
  const project = await loadProject(options, 'config')
  const { config } = project
  const selected = selectPolicies(project.policies, options.policies ?? [])
  const database = await openDatabase(config, yes ? 'write' : 'read')
  try {
    const ledger = yes
      ? await Ledger.forWriting(database, config.ledger)
      : await Ledger.forReading(database, config.ledger)
    const entries = await database.read((db) => ledger.entries(db))
    const all = selected.reduce((sum, policy) => sum + expiriesOf(policy, config, entries, now).expired.length, 0)
    let looked = 0
    const onProgress = (): void => options.onProgress?.((looked += 1), all)
    const work: PruneWork = { project, config, database, ledger, by, now, yes, onProgress }
    const policies: PrunedPolicyReport[] = []
    for (const policy of selected) policies.push(await prunePolicy(policy, work))
    return { dryRun: !yes, by, policies, warnings: options.policies?.length ? [] : ofNobody(entries, project) }
  } finally {
    await database.close()
  }
}

async function prunePolicy(policy: Policy, work: PruneWork): Promise<PrunedPolicyReport> {
  if (!work.yes) return pruneExpired(policy, work)
  try {
    return await locked(policy.name, work, () => pruneExpired(policy, work))
  } catch (error) {
    if (!hasCode(error, 'POLICY_LOCKED')) throw error
    const { expireAfter } = expiriesOf(policy, work.config, [], work.now)
    const none = { expireAfter, nextExpiry: null, archives: [], pruned: 0, bytes: 0, removed: [], left: [] }
    return { policy: policy.name, ...none, error: reported(error) }
  }
}

/** Looks at a policy's expired archives, and where it is wanted, prunes those that may go. */
async function pruneExpired(policy: Policy, work: PruneWork): Promise<PrunedPolicyReport> {
  const { config, database, ledger, now, yes, onProgress } = work
  const [entries, old] = await database.read(async (db) => [
    await ledger.entries(db, [policy.name]),
    await oldFiles(db, ledger, [policy.name]),
  ])
  const { removed, left } = yes ? await finishRemovals(old, work) : { removed: await stillThere(old, config), left: [] }
  const { expireAfter, expired, next } = expiriesOf(policy, config, entries, now)
  const archives: PrunedArchiveReport[] = []
  for (const one of expired) {
    archives.push(await pruneOne(one, { ...work, table: policy.table }))
    onProgress()
  }
  const pruned = archives.filter((archive) => archive.pruned)
  return {
    policy: policy.name,
    expireAfter,
    nextExpiry: next,
    archives,
    pruned: pruned.length,
    bytes: pruned.reduce((sum, { bytes }) => sum + bytes, 0),
    removed,
    left: left.map(reported),
  }
}

/** One archive: what is wrong with it is no reason to leave the others. */
async function pruneOne(expiring: Expiring, work: PruneWork & PruneOrder): Promise<PrunedArchiveReport> {
  const report = reportOf(expiring)
  try {
    const { holds, gone } = await checkPrune(expiring.entry, work)
    if (holds.length > 0) return { ...report, holds: holds.map(heldBy) }
    if (!work.yes) return { ...report, pruned: true, gone }
    const done = await pruneArchive(expiring.entry, work)
    if (done.holds.length > 0) return { ...report, holds: done.holds.map(heldBy) }
    const error = done.error === undefined ? {} : { error: reported(done.error) }
    return { ...report, pruned: true, gone, ...error }
  } catch (error) {
    return { ...report, error: reported(asRetentionError(error)) }
  }
}

function reportOf({ entry, at }: Expiring): PrunedArchiveReport {
  const { name, location, archivedAt, rows, sha256 } = entry
  return {
    name,
    location,
    state: entry.state === 'restored' ? 'restored' : 'archived',
    archivedAt,
    expiredAt: at,
    rows,
    bytes: [entry, ...entry.files].reduce((sum, { bytes }) => sum + bytes, 0),
    sha256,
    pruned: false,
    gone: false,
    holds: [],
  }
}

function heldBy({ id, reason, createdBy, until }: Hold): PrunedArchiveReport['holds'][number] {
  return { id, reason, createdBy, until }
}

/** For how long the archives of policies that are no more are kept, nobody says: so they are. */
function ofNobody(entries: readonly LedgerEntry[], { config, policies }: Project): Finding[] {
  if (config.archive.expiry === undefined) return []
  const known = new Set(policies.map(({ name }) => name))
  const strangers = entries.filter(({ policy, state }) => state !== 'pruned' && !known.has(policy))
  if (strangers.length === 0) return []
  const names = [...new Set(strangers.map(({ policy }) => policy))].join(', ')
  return [
    {
      level: 'warning',
      text: `Archives of policies that are no more are kept, whatever their age: ${strangers.length} of ${names}`,
      hint: 'To let them expire, put a policy of that name back.',
    },
  ]
}
