/** `verify`: whether what is stored is what the ledger says, and whether it says all. Changes nothing. */
import { encodings, storedName } from '../archive/encoding.ts'
import { archiveOf, manifestName, unfinishedName } from '../archive/name.ts'
import { readText, readWhole, sha256Of, withoutKey } from '../archive/store.ts'
import { withCompared } from '../restore/compare-redacted.ts'
import type { Config } from '../config/config.ts'
import type { Conflicts, Database, Redacted } from '../database/database.ts'
import { openDatabase } from '../database/open.ts'
import { formatTableName } from '../config/fields.ts'
import { hasCode, messageOf, RetentionError } from '../errors.ts'
import { leftAmong, leftFinding, oldFiles, pendingPlaces, type LeftFile } from '../stored/old-files.ts'
import { repairLeft, repairUnseen } from '../stored/removal.ts'
import { findEntry, targetOfEntry, type FoundArchive } from '../stored/find-archive.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { loadProject, type ProjectOptions } from '../config/project.ts'
import { listFiles, policiesRunning, unknownAmong, type Place, type StoredFile } from '../stored/orphans.ts'
import { stageCommon } from '../restore/placing-reshaped.ts'
import { prunedError } from '../stored/pruned-files.ts'
import { repairOrphans } from './repair.ts'
import type { Repair, Unopened, VerifyFinding, VerifyReport } from '../report.ts'
import { fileNameOf, isAddress, openTarget, targetOfFile } from '../target/open.ts'
import type { Target } from '../target/target.ts'
import { didYouMean } from '../config/validate.ts'

/** What `verify` can be told. */
export interface VerifyOptions extends ProjectOptions {
  /** The archives to check, by name or path. Default: all, and orphans are looked for as well. */
  files?: readonly string[]
  /** Also compares archived rows with the table: none may be in both. Needs what restore needs. Default false. */
  deep?: boolean
  /** Also says what to do with files that the ledger does not know. Needs what restore needs. Default false. */
  repair?: boolean
  /** Does it, where it is safe. Default false. */
  yes?: boolean
  /** Is asked, one by one, about what is safe only if it is meant; without it, that is left. */
  decide?: (repair: Repair) => Promise<boolean>
  /** Is told after every archive. */
  onProgress?: (checked: number, all: number) => void
}

/**
 * Checks stored archives against the ledger: their bytes, their rows, their manifests; and looks for files that the
 * ledger does not know.
 * @throws RetentionError when it cannot begin, or `ARCHIVE_NOT_FOUND` when a named archive is not in the ledger.
 */
export async function verify(options: VerifyOptions = {}): Promise<VerifyReport> {
  const { deep = false, repair = false, yes = false, decide } = options
  const whole = options.files === undefined || options.files.length === 0
  if (repair && !whole) throw new RetentionError('USAGE', '--repair looks at all files, and takes no names')
  if (yes && !repair) throw new RetentionError('USAGE', '--yes is for --repair')
  const project = await loadProject(options, 'config')
  const { config } = project
  const database = await openDatabase(config, deep || repair ? 'write' : 'read')
  try {
    const ledger = yes
      ? await Ledger.forWriting(database, config.ledger)
      : await Ledger.forReading(database, config.ledger)
    const files = whole ? await listFiles(project, await knownPlaces(database, ledger)) : []
    const running = await policiesRunning(files, database, ledger)
    // Read again once that is known: what a run that has ended since has left is in the ledger, or an orphan.
    const entries = await readEntries(database, ledger)
    const selected = select(entries, options)
    await checkServices(selected, config)
    const restores = deep ? await database.read((db) => ledger.holds.ofRestores(db)) : new Set<string>()
    const findings: VerifyFinding[] = []
    const sum: Sum = { rows: 0, bytes: 0, unopened: [] }
    for (const [index, one] of selected.entries()) {
      const unopened = sum.unopened.length
      const found = await checkEntry(one, config, sum)
      // Rows may have been erased from it meanwhile: then another archive has taken its place.
      if (found.some(({ kind }) => kind === 'missing') && !(await isStored(database, ledger, one.entry))) continue
      findings.push(...found)
      if (deep && found.length === 0 && sum.unopened.length === unopened) {
        const returnedOf = checkReturned(one.entry, config, database, restores)
        const more = await returnedOf.catch(async (error: unknown) => {
          if (hasCode(error, 'ARCHIVE_NOT_FOUND') && !(await isStored(database, ledger, one.entry))) return []
          throw error
        })
        findings.push(...more)
      }
      options.onProgress?.(index + 1, selected.length)
    }
    // A name that was given away again is the new archive's.
    const strangers = await unknownAmong(files, entries, config)
    const old = await database.read((db) => oldFiles(db, ledger))
    const left = await leftAmong(strangers, old, config)
    const unknown = without(strangers, left)
    const isRunning = ({ policy }: StoredFile): boolean => running.has(policy)
    const orphans: StoredFile[] = []
    for (const file of unknown) if (!isRunning(file) && (await isThereStill(file))) orphans.push(file)
    const unused = left.filter(({ stored }) => !isRunning(stored))
    const unseen = whole ? await repairUnseen(old, { config, database, ledger, yes, decide, now: new Date() }) : []
    const repairs = repair
      ? [
          ...(await repairLeft(unused, old, { config, database, ledger, yes, now: new Date() })),
          ...unseen,
          ...(await repairOrphans(orphans, { ...project, database, ledger, yes, decide })),
        ]
      : []
    const done = new Set(repairs.flatMap((one) => (one.done ? [one.location] : [])))
    const isLeft = ({ target, name }: StoredFile): boolean => {
      const archives = [null, ...encodings].map((encoding) => storedName(archiveOf(name), encoding))
      return ![name, ...archives].some((file) => done.has(target.locate(file)))
    }
    return {
      checked: selected.length,
      ...sum,
      findings: [
        ...findings,
        ...unused.filter(({ stored }) => isLeft(stored)).map(leftFinding),
        ...unseen.filter((one) => !one.done).map(unseenFinding),
        ...orphans.filter(isLeft).map(orphanFinding),
      ],
      inProgress: [...unknown, ...left.map(({ stored }) => stored)]
        .filter(isRunning)
        .map(({ target, name }) => target.locate(name)),
      repairs,
    }
  } finally {
    await database.close()
  }
}

/**
 * Whether rows of an archive are in the table again, though nobody has restored it.
 * @param restores the archives of which rows have been restored
 */
async function checkReturned(
  entry: LedgerEntry,
  config: Config,
  database: Database,
  restores: ReadonlySet<string>,
): Promise<VerifyFinding[]> {
  // An archive of which some rows have been restored stays archived, as does one that has more than the table could take.
  if (entry.state !== 'archived' || restores.has(entry.name)) return []
  const archive = await findEntry(entry, config)
  if (archive.redacted !== undefined) return checkUnredacted(entry, archive, archive.redacted, database)
  const findings: VerifyFinding[] = []
  for (const file of [archive, ...archive.parts]) {
    // References are of rows that have stayed.
    if (file.link === undefined) findings.push(...(await checkFileReturned(file, database)))
  }
  return findings
}

async function checkFileReturned(file: FoundArchive, database: Database): Promise<VerifyFinding[]> {
  const transaction = await database.restore(file.table)
  if (transaction === undefined) return []
  try {
    const common = await stageCommon(file, transaction)
    const conflicts = await common?.staged.conflicts(false)
    if (common === undefined || conflicts === undefined || conflicts.count === 0) return []
    return [returned(file, conflicts, common.isWhole)]
  } finally {
    await transaction.rollback()
  }
}

/** Whether rows whose columns were overwritten hold again what they held. */
async function checkUnredacted(
  entry: LedgerEntry,
  archive: FoundArchive,
  redacted: Redacted,
  database: Database,
): Promise<VerifyFinding[]> {
  const same = await withCompared(archive, redacted, database, false, async (found) => found.same)
  if (same === undefined || same === 0) return []
  const text = `${same} of its rows in ${formatTableName(archive.table)} hold again what was redacted: ${Object.keys(redacted.set).join(', ')}`
  return [{ kind: 'returned', name: archive.name, location: entry.location, text }]
}

function returned(file: FoundArchive, conflicts: Conflicts, isWhole: boolean): VerifyFinding {
  const { count, same, keys } = conflicts
  const shown = `${keys.map((key) => `(${key})`).join(', ')}${count > keys.length ? ', …' : ''}`
  const text = `${count} of its keys are in use in ${formatTableName(file.table)}, ${same} of them by the very same rows${isWhole ? '' : ', in the columns that have not changed'}: ${shown}`
  return { kind: 'returned', name: file.path, location: file.target.locate(file.path), text }
}

function unseenFinding({ name, location, text }: Repair): VerifyFinding {
  return { kind: 'unseen', name, location, text }
}

/** An erasure that has ended since files were listed has taken its old ones along. */
async function isThereStill({ target, name }: StoredFile): Promise<boolean> {
  // What is unfinished is not seen by its name everywhere.
  return unfinishedName(name) !== undefined || (await target.has(name))
}

async function readEntries(database: Database, ledger: Ledger): Promise<LedgerEntry[]> {
  return database.read((db) => ledger.entries(db))
}

/** Where files of ours may lie: those that are in use, and those that only their removal is left to do of. */
async function knownPlaces(database: Database, ledger: Ledger): Promise<Place[]> {
  const old = await database.read((db) => oldFiles(db, ledger))
  // A target that had nothing but archives that are no more may be gone.
  const stored = (await readEntries(database, ledger)).filter(({ state }) => state !== 'pruned')
  return [...stored, ...pendingPlaces(old)]
}

async function isStored(database: Database, ledger: Ledger, { name }: LedgerEntry): Promise<boolean> {
  const entry = await database.read((db) => ledger.find(db, name))
  return entry !== undefined && entry.state !== 'pruned'
}

function without(files: readonly StoredFile[], left: readonly LeftFile[]): StoredFile[] {
  const known = new Set(left.map(({ stored }) => stored))
  return files.filter((file) => !known.has(file))
}

/** An entry to check, and where its file is to be looked for: where somebody says, or else where it belongs. */
interface Selected {
  readonly entry: LedgerEntry
  readonly target: Target | undefined
}

function select(entries: readonly LedgerEntry[], { files = [], cwd = '.' }: VerifyOptions): Selected[] {
  const stored = entries.filter((entry) => entry.state !== 'pruned')
  if (files.length === 0) return stored.map((entry) => ({ entry, target: undefined }))
  return files.map((file) => {
    const written = fileNameOf(file)
    const name = archiveOf(written)
    const entry = stored.find((candidate) => candidate.name === name)
    if (entry !== undefined) {
      return { entry, target: written === file ? undefined : targetOfFile(file, cwd, [entry.target]) }
    }
    const pruned = entries.find((candidate) => candidate.name === name)
    if (pruned !== undefined) throw prunedError(pruned)
    throw new RetentionError(
      'ARCHIVE_NOT_FOUND',
      `The ledger has no archive "${file}"${didYouMean(
        name,
        stored.map((candidate) => candidate.name),
      )}`,
      {
        hint: 'Name it as "retention status --archives" lists it.',
      },
    )
  })
}

/** What has been checked so far. */
interface Sum {
  rows: number
  bytes: number
  readonly unopened: Unopened[]
}

/**
 * Of a service that is down, or that does not let us in, nothing can be said of its archives.
 * @throws RetentionError `TARGET_UNUSABLE`
 */
async function checkServices(selected: readonly Selected[], config: Config): Promise<void> {
  const needed = selected.filter(({ entry, target }) => target === undefined && entry.state === 'archived')
  const addresses = new Set(needed.map(({ entry }) => entry.target).filter(isAddress))
  for (const to of addresses) await openTarget({ to, durable: true, bom: true }, config.folder).check()
}

async function checkEntry({ entry, target: said }: Selected, config: Config, sum: Sum): Promise<VerifyFinding[]> {
  const findings: VerifyFinding[] = []
  let target = said
  const report = (kind: 'missing' | 'changed', name: string, text: string): void => {
    findings.push({ kind, name, location: target?.locate(name) ?? entry.location, text })
  }
  for (const file of [entry, ...entry.files]) {
    await checkFile(file.path, report, async () => {
      target ??= await targetOfEntry(entry, config)
      const { path: name, encoding } = file
      const { stored, csv } = await readWhole({ target, path: name, encoding, keys: config.keys })
      sum.bytes += stored.bytes
      if (stored.bytes !== file.bytes) report('changed', name, `${stored.bytes} bytes, not ${file.bytes}`)
      else if (stored.sha256 !== file.storedSha256)
        report('changed', name, `SHA-256 is ${stored.sha256}, not ${file.storedSha256}`)
      else if (csv instanceof RetentionError && withoutKey.has(csv.code))
        sum.unopened.push({ name, location: target.locate(name), text: whyUnopened(csv) })
      else if (csv instanceof RetentionError) throw csv
      else if (csv.sha256 !== file.sha256)
        report('changed', name, `the CSV in it has SHA-256 ${csv.sha256}, not ${file.sha256}`)
      else if (csv.records !== file.rows) report('changed', name, `${csv.records} rows, not ${file.rows}`)
      if (!(csv instanceof RetentionError)) sum.rows += csv.records
    })
  }
  const manifest = manifestName(entry.name)
  await checkFile(manifest, report, async () => {
    const sha256 = sha256Of(await readText(target ?? (await targetOfEntry(entry, config)), manifest))
    if (sha256 !== entry.manifestSha256)
      report('changed', manifest, `SHA-256 is ${sha256}, not ${entry.manifestSha256}`)
  })
  // A restored archive is no longer anybody's only copy, and may be gone.
  return findings.filter(({ kind }) => kind !== 'missing' || entry.state === 'archived')
}

function whyUnopened({ code, message }: RetentionError): string {
  return code === 'KEY_WRONG' ? 'The key that was given is not the one that it was sealed with' : message
}

async function checkFile(
  name: string,
  report: (kind: 'missing' | 'changed', name: string, text: string) => void,
  look: () => Promise<void>,
): Promise<void> {
  try {
    await look()
  } catch (error) {
    if (hasCode(error, 'ARCHIVE_NOT_FOUND')) report('missing', name, 'no such file')
    // One file that cannot be read must not hide what there is to say of the others.
    else report('changed', name, messageOf(error))
  }
}

function orphanFinding({ target, name }: StoredFile): VerifyFinding {
  const text = name.endsWith('.tmp')
    ? 'left behind, unfinished, by a run that was cut off before its rows left the table'
    : 'the ledger does not know it: left behind by a run that was cut off before its commit, or put here by somebody'
  return { kind: 'orphan', name, location: target.locate(name), text }
}
