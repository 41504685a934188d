/** What a step leaves in writing: its manifest, and its entry in the ledger. */
import { hostname } from 'node:os'

import { storedName } from '../archive/encoding.ts'
import { manifestFormat, type Manifest } from '../archive/manifest.ts'
import type { Digest, Stored } from '../archive/store.ts'
import type { Column, Partition, Redacted, Table } from '../database/database.ts'
import type { Link, Reference } from '../database/tree.ts'
import { RetentionError } from '../errors.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import { furtherFiles } from './further-files.ts'
import type { FoundArchive } from './find-archive.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { fingerprint } from '../plan/plan.ts'
import type { RunContext, StepOrder } from '../plan/step.ts'
import type { Target } from '../target/target.ts'
import { toolVersion } from '../version.ts'

/** What is known of a step once its archive is stored. */
export interface StepFacts {
  /** The archive's name. */
  readonly name: string
  readonly order: StepOrder
  readonly context: RunContext
  /** The column that ages its rows. */
  readonly column: string
  /** The policy's own table first. */
  readonly files: readonly StoredPart[]
  /** The times of the first and last row, ISO 8601. */
  readonly from: string
  readonly to: string
  /** The partition that all of its rows are. */
  readonly partition: Partition | undefined
  /** What its rows were overwritten with; undefined where they went. */
  readonly redacted: Redacted | undefined
}

/** One file of a step, stored. */
export interface StoredPart {
  /** Of its CSV. */
  readonly name: string
  readonly table: Table
  /** The CSV's columns. */
  readonly columns: readonly Column[]
  readonly link: Link | undefined
  readonly references: readonly Reference[]
  readonly ddl: readonly string[]
  readonly rows: number
  readonly stored: Stored
}

/** The manifest of a step. */
export function manifestOf(facts: StepFacts): Manifest {
  const { order, context, column, files, from, to } = facts
  return {
    format: manifestFormat,
    database: { kind: context.database.kind, version: context.database.version },
    policy: order.policy.name,
    column,
    cutoff: order.cutoff.instant,
    firstTimestamp: from,
    lastTimestamp: to,
    files: files.map((file, index) => fileOf(file, index === 0 ? facts : undefined)),
    host: hostname(),
    run: context.run,
    toolVersion,
    createdAt: new Date().toISOString(),
  }
}

function fileOf(
  { name, table, columns, link, references, ddl, rows, stored }: StoredPart,
  facts: Pick<StepFacts, 'partition' | 'redacted'> | undefined,
): Manifest['files'][number] {
  return {
    table: named(table.name),
    file: name,
    columns: columns.map(({ name: column, type, nullable, collation, isRowid }) => ({
      name: column,
      type,
      nullable,
      ...(collation === null ? {} : { collation }),
      ...(isRowid ? { rowid: true } : {}),
    })),
    key: [...table.key],
    ddl: [...ddl],
    ...(facts?.partition === undefined ? {} : { partition: written(facts.partition) }),
    ...(facts?.redacted === undefined
      ? {}
      : { redacted: { key: [...facts.redacted.key], set: { ...facts.redacted.set } } }),
    rows,
    ...(link === undefined
      ? {}
      : { link: { key: [...link.key], columns: [...link.columns], sets: [...link.sets], to: link.to } }),
    ...(references.length === 0
      ? {}
      : {
          references: references.map((one) => ({
            columns: [...one.columns],
            table: named(one.table),
            to: [...one.to],
          })),
        }),
    ...digestsOf(stored),
  }
}

/** What a manifest says of a CSV's bytes, as they are and as they are stored. */
export function digestsOf({
  bytes,
  sha256,
  sealed,
  encoding,
}: Stored): Pick<Manifest['files'][number], 'csv' | 'stored'> {
  return {
    csv: { bytes, sha256 },
    stored: { bytes: sealed.bytes, sha256: sealed.sha256, ...(encoding === null ? {} : { encoding }) },
  }
}

/** A table's name for the manifest, without an undefined schema. */
function named({ schema, name }: TableName): { schema?: string; name: string } {
  return schema === undefined ? { name } : { schema, name }
}

/** A partition for the manifest. */
function written({ table, of, ddl, rights, ...same }: Partition): NonNullable<Manifest['files'][number]['partition']> {
  return { table: named(table), of: named(of), ...same, ddl: [...ddl], rights: [...rights] }
}

/** A partition as a manifest tells of it. Its statements may be anybody's: only those that the ledger knows are run. */
export function told({ table, of, ...same }: NonNullable<Manifest['files'][number]['partition']>): Partition {
  const nameOf = ({ schema, name }: { schema?: string | undefined; name: string }): TableName => ({ schema, name })
  return { ...same, table: nameOf(table), of: nameOf(of), ddl: [], rights: [] }
}

/** The ledger's entry for a step. */
export function entryOf(
  { name, order, partition, redacted }: StepFacts,
  manifest: Manifest,
  manifestStored: Digest,
): LedgerEntry {
  return {
    ...recordOf(name, manifest, order.target),
    manifestSha256: manifestStored.sha256,
    partition: partition ?? null,
    redacted: redacted ?? null,
    fingerprint: fingerprint(order.policy),
  }
}

/** What the ledger keeps of an archive that a manifest tells as well. */
function recordOf(name: string, manifest: Manifest, target: Target): LedgerEntry {
  const [file] = manifest.files
  if (file === undefined) throw new RetentionError('MANIFEST_INVALID', `${name} has a manifest without files`)
  const encoding = file.stored.encoding ?? null
  const path = storedName(name, encoding)
  return {
    name,
    policy: manifest.policy,
    table: formatTableName({ schema: file.table.schema, name: file.table.name }),
    state: 'archived',
    location: target.locate(path),
    target: target.name,
    path,
    rows: file.rows,
    bytes: file.stored.bytes,
    sha256: file.csv.sha256,
    storedSha256: file.stored.sha256,
    encoding,
    manifestSha256: '',
    cutoff: manifest.cutoff,
    from: manifest.firstTimestamp,
    to: manifest.lastTimestamp,
    columns: file.columns.map((column) => column.name),
    files: furtherFiles(manifest),
    partition: file.partition === undefined ? null : told(file.partition),
    redacted: file.redacted ?? null,
    // Nobody knows what the policy was like in full.
    fingerprint: '',
    run: manifest.run,
    host: manifest.host,
    toolVersion: manifest.toolVersion,
    archivedAt: manifest.createdAt,
    restoredAt: null,
    prunedAt: null,
    prunedBy: null,
    removedAt: null,
  }
}

/** The ledger's entry for an archive that it did not know, and that has been restored by its manifest alone. */
export function restoredEntry(archive: FoundArchive, now: Date): LedgerEntry {
  return { ...adoptedEntry(archive), state: 'restored', restoredAt: now.toISOString() }
}

/**
 * The ledger's entry for an archive that it did not know, as its manifest has it.
 * @throws RetentionError `MANIFEST_INVALID` where there is none
 */
export function adoptedEntry({ name, manifest, manifestSha256, target }: FoundArchive): LedgerEntry {
  if (manifest === undefined) throw new RetentionError('MANIFEST_INVALID', `${name} has no manifest that names it`)
  return { ...recordOf(name, manifest, target), manifestSha256: manifestSha256 ?? '' }
}
