/** `move`: takes a policy's archives to another target. Which they are, what stands against it, and what is told. */
import { randomUUID } from 'node:crypto'

import type { TargetConfig } from '../config/fields.ts'
import {
  loadProject,
  nowOption,
  targetOption,
  textOption,
  type Project,
  type ProjectOptions,
} from '../config/project.ts'
import type { Finding } from '../database/database.ts'
import { openDatabase } from '../database/open.ts'
import { isMoved, oldFiles, stillThere, type OldFile } from '../stored/old-files.ts'
import { finishRemovals } from '../stored/removal.ts'
import { asRetentionError, RetentionError, type ErrorCode } from '../errors.ts'
import { targetOfEntry } from '../stored/find-archive.ts'
import { ownName } from '../ledger/hold.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { filesOf, moveArchive, underWay, type MoveOrder } from './move-runner.ts'
import { checkPolicy, locked, lockedError } from '../stored/policy-archives.ts'
import { reported, type MovedArchiveReport, type MoveReport } from '../report.ts'
import { openTarget } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** What `move` can be told. */
export interface MoveOptions extends ProjectOptions {
  /** The policy whose archives are meant: one that the ledger has archives of, whether or not there is such a policy now. */
  policy: string
  /**
   * Where they go: a folder, where a relative path starts at the config's folder, or an address. Where the config or a policy
   * names the same target, its settings count.
   */
  to: string
  /** Does it. Default false: only says what would be moved. */
  yes?: boolean
  /** Who wants it, as it is to be recorded. Default: the user of this process, at this host. */
  by?: string
  /** The time that is recorded. Default: the clock. */
  now?: Date
  /** Is told after every archive. */
  onProgress?: (moved: number, all: number) => void
}

/** What a move works with. */
interface MoveWork extends MoveOrder {
  readonly project: Project
  readonly onProgress: (moved: number, all: number) => void
}

/**
 * Moves a policy's archives to another target: each is copied there as it is stored, and read back; then the ledger goes over
 * to the copy, and only then the old files go.
 * @throws RetentionError `USAGE`, `POLICY_UNKNOWN`, `POLICY_LOCKED`, `TARGET_UNUSABLE`: nothing has been moved then
 */
export async function move(options: MoveOptions): Promise<MoveReport> {
  const now = nowOption(options.now)
  const policy = textOption('policy', options.policy)
  const to = targetOption('to', options.to)
  const by = options.by === undefined ? ownName() : textOption('by', options.by)
  const { yes = false, onProgress = () => {} } = options
  const project = await loadProject(options, 'config')
  const { config } = project
  const target = openTarget(await withSettings(to, policy, project), config.folder)
  const database = await openDatabase(config, yes ? 'write' : 'read')
  try {
    const ledger = yes
      ? await Ledger.forWriting(database, config.ledger)
      : await Ledger.forReading(database, config.ledger)
    checkPolicy(policy, project, await database.read((db) => ledger.entries(db)))
    const work = { project, config, database, ledger, policy, target, by, now, onProgress }
    const { warnings, ...outcome } = yes ? await locked(policy, work, () => moveAll(work)) : await look(work)
    const moved = outcome.archives.filter((archive) => archive.moved)
    return {
      policy,
      to: target.name,
      by,
      dryRun: !yes,
      moved: moved.length,
      bytes: moved.reduce((sum, { bytes }) => sum + bytes, 0),
      ...outcome,
      warnings: [...warnings, ...(await stayingBehind(work))],
    }
  } finally {
    await database.close()
  }
}

/** What the archives come to. */
type Outcome = Pick<MoveReport, 'there' | 'archives' | 'removed' | 'left' | 'warnings'>

/** Says what would be moved. */
async function look(work: MoveWork): Promise<Outcome> {
  const { config, target } = work
  const removed = await stillThere(await toFinish(work), config)
  const { archives, ...rest } = await lookAtAll(work, [])
  if (archives.some(({ report }) => report.error === undefined)) await target.check()
  return { ...rest, removed, left: [], archives: archives.map(({ report }) => report) }
}

/** Looks at all archives; then moves them, one after the other. */
async function moveAll(work: MoveWork): Promise<Outcome> {
  const { target, onProgress } = work
  const { removed, left } = await finishRemovals(await toFinish(work), work)
  const looked = await lookAtAll(work, await toFinish(work))
  const movable = looked.archives.filter(({ report }) => report.error === undefined)
  const todo = movable.length
  if (todo > 0) await target.prepare()
  const sources = new Map(movable.map(({ entry }) => [entry.target, entry]))
  for (const entry of sources.values()) await checkApart(await targetOfEntry(entry, work.config), target)
  const archives: MovedArchiveReport[] = []
  let failed: string | undefined
  let done = 0
  for (const { entry, report } of looked.archives) {
    if (report.error !== undefined) {
      archives.push(report)
      continue
    }
    const notMoved = (error: RetentionError): void =>
      void archives.push({ ...report, moved: false, error: reported(error) })
    if (failed !== undefined) {
      notMoved(notBegun(entry, failed))
      continue
    }
    try {
      const error = await moveArchive(entry, work)
      archives.push(error === undefined ? report : { ...report, error: reported(error) })
      onProgress((done += 1), todo)
    } catch (error) {
      const known = asRetentionError(error)
      notMoved(known)
      // What is wrong with one archive is no reason to leave the others; anything else is.
      if (!ofOneArchive.has(known.code)) failed = entry.name
    }
  }
  return { ...looked, archives, removed, left: left.map(reported) }
}

/** One store may have two addresses, or a folder be mounted twice: what is removed at the one would be gone at the other. */
async function checkApart(source: Target, target: Target): Promise<void> {
  // One that was cut off has left its own.
  for (const name of await source.list()) if (probeName.test(name)) await source.withdraw(name)
  const probe = `retention_${randomUUID()}.probe`
  const draft = await source.create(probe)
  try {
    await draft.write(Buffer.from(target.name))
    await draft.publish()
  } catch (error) {
    await draft.discard().catch(() => {})
    throw error
  }
  try {
    if (!(await target.has(probe))) return
  } finally {
    await source.withdraw(probe)
  }
  throw new RetentionError(
    'REFUSED',
    `${source.name} and ${target.name} are one place: what is stored at one is at the other`,
    {
      hint: 'Nothing has been moved.',
    },
  )
}

const probeName = /^\.?retention_[0-9a-f-]{36}\.probe(\..+)?$/

const ofOneArchive: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ARCHIVE_CHANGED',
  'ARCHIVE_EXISTS',
  'ARCHIVE_NOT_FOUND',
  'ROWS_CHANGED',
])

function notBegun({ name }: LedgerEntry, failed: string): RetentionError {
  return new RetentionError('TARGET_UNUSABLE', `${name} was not moved, after what befell ${failed}`, {
    hint: 'Move again when that is mended.',
  })
}

/** What was cut off and is to be finished first; copies at the very place that archives are to go to are taken as they are. */
async function toFinish({ database, ledger, policy, target }: MoveWork): Promise<OldFile[]> {
  const [files, moved] = await database.read(async (db) => [
    await oldFiles(db, ledger, [policy]),
    await ledger.moves.files(db, [policy]),
  ])
  const kept = new Set(underWay(moved, await target.identity()).map(({ move: id }) => id))
  return files.filter((file) => file.removedAt === null && !(isMoved(file) && kept.has(file.move)))
}

/** An archive that is somewhere else. */
interface LookedAt {
  readonly entry: LedgerEntry
  readonly report: MovedArchiveReport
}

/** @param left what is there still of earlier moves */
async function lookAtAll(
  work: MoveWork,
  left: readonly OldFile[],
): Promise<{ there: number; archives: LookedAt[]; warnings: readonly Finding[] }> {
  const { config, database, ledger, policy, target } = work
  const place = await target.identity()
  const archives: LookedAt[] = []
  const warnings: Finding[] = []
  let there = 0
  for (const entry of await database.read((db) => ledger.entries(db, [policy]))) {
    if (entry.state === 'pruned') continue
    const source = await targetOfEntry(entry, config)
    if ((await source.identity()) === place) {
      there += 1
      continue
    }
    const missing: string[] = []
    for (const { file } of filesOf(entry)) if (!(await source.has(file))) missing.push(source.locate(file))
    if (missing.length > 0 && entry.state === 'restored') {
      // It is nobody's only copy, and may have been removed.
      const text = `${entry.name} was restored, is not there whole any more, and so is not moved: there is no ${missing.join(', ')}`
      warnings.push({ level: 'warning', text })
      continue
    }
    const error =
      missing.length > 0
        ? new RetentionError('ARCHIVE_NOT_FOUND', `There is no file ${missing.join(', ')}`)
        : (pendingError(entry, left) ?? (await lockedError(source, filesOf(entry), 'Move it when that has ended.')))
    archives.push({ entry, report: reportOf(entry, source, target, error) })
  }
  return { there, archives, warnings }
}

/** An archive has one old copy at most: it would not be known which of two is of no use. */
function pendingError({ name }: LedgerEntry, left: readonly OldFile[]): RetentionError | undefined {
  const pending = left.find(({ archive }) => archive === name)
  if (pending === undefined) return undefined
  return new RetentionError('REFUSED', `${pending.location}, which an earlier move has left, is to go first`, {
    hint: 'Move again when it can be removed.',
  })
}

function reportOf(
  entry: LedgerEntry,
  source: Target,
  target: Target,
  error: RetentionError | undefined,
): MovedArchiveReport {
  return {
    name: entry.name,
    state: entry.state === 'restored' ? 'restored' : 'archived',
    rows: entry.rows,
    bytes: [entry, ...entry.files].reduce((sum, { bytes }) => sum + bytes, 0),
    from: source.locate(entry.path),
    to: target.locate(entry.path),
    moved: error === undefined,
    ...(error === undefined ? {} : { error: reported(error) }),
  }
}

/** The target as the config or a policy has it, where one of them names the same place; the policy's own first. */
async function withSettings(to: TargetConfig, policy: string, { config, policies }: Project): Promise<TargetConfig> {
  const own = policies.filter(({ name }) => name === policy)
  const known = [...own, { archive: config.archive }, ...policies].flatMap(({ archive }) => archive ?? [])
  const place = await openTarget(to, config.folder).identity()
  for (const one of known) if ((await openTarget(one, config.folder).identity()) === place) return one
  return to
}

/** Whoever moves archives may think that new ones go along. */
async function stayingBehind({ project, config, policy, target }: MoveWork): Promise<Finding[]> {
  const known = project.policies.find(({ name }) => name === policy)
  if (known === undefined) return []
  const now = openTarget(known.archive ?? config.archive, config.folder)
  if ((await now.identity()) === (await target.identity())) return []
  const text = `New archives of policy "${policy}" go to ${now.name}, as before`
  return [
    { level: 'warning', text, hint: `Set its "archive" to ${JSON.stringify(target.name)} if they are to go along.` },
  ]
}
