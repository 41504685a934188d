/** `verify`: whether what is stored is what the ledger says, and whether it says all. Changes nothing. */
import path from 'node:path'

import { archiveOfManifest, manifestName, policyOfArchive } from './archive/name.ts'
import { Meter, readText, readWhole } from './archive/store.ts'
import type { Config } from './config/config.ts'
import type { Database } from './database/database.ts'
import { openDatabase } from './database/open.ts'
import { hasCode, RetentionError } from './errors.ts'
import { targetOfEntry } from './find-archive.ts'
import { Ledger, type LedgerEntry } from './ledger/ledger.ts'
import { loadProject, type Project, type ProjectOptions } from './config/project.ts'
import type { VerifyFinding, VerifyReport } from './report.ts'
import { openTarget } from './target/open.ts'
import type { Target } from './target/target.ts'
import { didYouMean } from './config/validate.ts'

/** What `verify` can be told. */
export interface VerifyOptions extends ProjectOptions {
  /** The archives to check, by name or path. Default: all, and orphans are looked for as well. */
  files?: readonly string[]
  /** Is told after every archive. */
  onProgress?: (checked: number, all: number) => void
}

/**
 * Checks stored archives against the ledger: their bytes, their rows, their manifests; and looks for files that the
 * ledger does not know.
 * @throws RetentionError when it cannot begin, or `ARCHIVE_NOT_FOUND` when a named archive is not in the ledger.
 */
export async function verify(options: VerifyOptions = {}): Promise<VerifyReport> {
  const project = await loadProject(options)
  const database = await openDatabase(project.config, 'read')
  try {
    const ledger = await Ledger.forReading(database, project.config.ledger)
    const files = await listFiles(project, await readEntries(database, ledger))
    // Read again after the files were listed: what was recorded meanwhile is no orphan.
    const entries = await readEntries(database, ledger)
    const selected = selectEntries(entries, options.files ?? [])
    const findings: VerifyFinding[] = []
    const sum = { rows: 0, bytes: 0 }
    for (const [index, entry] of selected.entries()) {
      findings.push(...(await checkEntry(entry, project.config, sum)))
      options.onProgress?.(index + 1, selected.length)
    }
    const orphans = options.files?.length ? [] : orphansAmong(files, entries)
    const running = await inProgress(orphans, database, ledger)
    return {
      checked: selected.length,
      ...sum,
      findings: [...findings, ...orphans.filter((orphan) => !running.has(orphan)).map(orphanFinding)],
      inProgress: [...running].map(({ target, name }) => target.locate(name)),
    }
  } finally {
    await database.close()
  }
}

async function readEntries(database: Database, ledger: Ledger): Promise<LedgerEntry[]> {
  return database.read((db) => ledger.entries(db))
}

function selectEntries(entries: readonly LedgerEntry[], files: readonly string[]): LedgerEntry[] {
  const stored = entries.filter((entry) => entry.state !== 'pruned')
  if (files.length === 0) return stored
  return files.map((file) => {
    const name = archiveOfManifest(path.basename(file)) ?? path.basename(file)
    const entry = stored.find((candidate) => candidate.name === name)
    if (entry !== undefined) return entry
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

async function checkEntry(
  entry: LedgerEntry,
  config: Config,
  sum: { rows: number; bytes: number },
): Promise<VerifyFinding[]> {
  const target = await targetOfEntry(entry, config)
  const findings: VerifyFinding[] = []
  const report = (kind: 'missing' | 'changed', name: string, text: string): void => {
    findings.push({ kind, name, location: target.locate(name), text })
  }
  await checkFile(entry.path, report, async () => {
    const { digest, records } = await readWhole(target, entry.path)
    sum.rows += records
    sum.bytes += digest.bytes
    if (digest.bytes !== entry.bytes) report('changed', entry.path, `${digest.bytes} bytes, not ${entry.bytes}`)
    else if (digest.sha256 !== entry.storedSha256)
      report('changed', entry.path, `SHA-256 is ${digest.sha256}, not ${entry.storedSha256}`)
    else if (records !== entry.rows) report('changed', entry.path, `${records} rows, not ${entry.rows}`)
  })
  const manifest = manifestName(entry.path)
  await checkFile(manifest, report, async () => {
    const meter = new Meter()
    meter.update(Buffer.from(await readText(target, manifest)))
    const { sha256 } = meter.digest()
    if (sha256 !== entry.manifestSha256)
      report('changed', manifest, `SHA-256 is ${sha256}, not ${entry.manifestSha256}`)
  })
  // A restored archive is no longer anybody's only copy, and may be gone.
  return findings.filter(({ kind }) => kind !== 'missing' || entry.state === 'archived')
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
    else if (hasCode(error, 'ARCHIVE_CHANGED')) report('changed', name, error.message)
    else throw error
  }
}

interface StoredFile {
  readonly target: Target
  readonly name: string
}

/** All files of all targets that config, policies and ledger know. */
async function listFiles({ config, policies }: Project, entries: readonly LedgerEntry[]): Promise<StoredFile[]> {
  const configured = [config.archive, ...policies.flatMap((policy) => policy.archive ?? [])].map((archive) =>
    openTarget(archive, config.folder),
  )
  const targets = new Map(configured.map((target) => [target.locate('.'), target]))
  for (const entry of entries) {
    const target = await targetOfEntry(entry, config)
    targets.set(target.locate('.'), target)
  }
  const files: StoredFile[] = []
  for (const target of targets.values()) {
    for (const name of await target.list()) files.push({ target, name })
  }
  return files
}

/** Files that look like ours, finished or not, and that no entry accounts for. */
function orphansAmong(files: readonly StoredFile[], entries: readonly LedgerEntry[]): StoredFile[] {
  const known = new Set(entries.flatMap((entry) => [entry.path, manifestName(entry.path)]))
  return files.filter(({ name }) => policyOfArchive(name) !== undefined && !known.has(name))
}

/** Files of policies that a run holds at this moment: it may be about to record them. */
async function inProgress(
  orphans: readonly StoredFile[],
  database: Database,
  ledger: Ledger,
): Promise<Set<StoredFile>> {
  const running = new Set<StoredFile>()
  for (const [policy, files] of Map.groupBy(orphans, ({ name }) => policyOfArchive(name) ?? '')) {
    const lock = await database.lock(ledger.lockName(policy))
    if (lock === undefined) for (const file of files) running.add(file)
    await lock?.release()
  }
  return running
}

function orphanFinding({ target, name }: StoredFile): VerifyFinding {
  const text = name.endsWith('.tmp')
    ? 'left behind, unfinished, by a run that was cut off; its rows are in the table'
    : 'the ledger does not know it: left behind by a run that was cut off before its commit, or put here by somebody'
  return { kind: 'orphan', name, location: target.locate(name), text }
}
