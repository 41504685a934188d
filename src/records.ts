/** What a step leaves in writing: its manifest, and its entry in the ledger. */
import { hostname } from 'node:os'

import { manifestFormat, type Manifest } from './archive/manifest.ts'
import type { Digest } from './archive/store.ts'
import type { Column, Partition, Table } from './database/database.ts'
import { RetentionError } from './errors.ts'
import { formatTableName, type TableName } from './config/fields.ts'
import type { FoundArchive } from './find-archive.ts'
import type { LedgerEntry } from './ledger/ledger.ts'
import { fingerprint } from './plan.ts'
import type { RunContext, StepOrder } from './step.ts'
import { toolVersion } from './version.ts'

/** What is known of a step once its archive is stored. */
export interface StepFacts {
  /** The archive's name. */
  readonly name: string
  readonly order: StepOrder
  readonly context: RunContext
  readonly table: Table
  /** The column that ages its rows. */
  readonly column: string
  /** The CSV's columns. */
  readonly columns: readonly Column[]
  readonly ddl: readonly string[]
  readonly rows: number
  readonly stored: Digest
  /** The partition that all of its rows are. */
  readonly partition: Partition | undefined
}

/** The manifest of a step. */
export function manifestOf({
  name,
  order,
  context,
  table,
  column: timeColumn,
  columns,
  ddl,
  rows,
  stored,
  partition,
}: StepFacts): Manifest {
  const { policy, cutoff, step } = order
  const { schema, name: tableName } = table.name
  const digest = { bytes: stored.bytes, sha256: stored.sha256 }
  return {
    format: manifestFormat,
    database: { kind: context.database.kind, version: context.database.version },
    policy: policy.name,
    column: timeColumn,
    cutoff: cutoff.instant,
    firstTimestamp: step.from,
    lastTimestamp: step.to,
    files: [
      {
        table: schema === undefined ? { name: tableName } : { schema, name: tableName },
        file: name,
        columns: columns.map((column) => ({ name: column.name, type: column.type, nullable: column.nullable })),
        key: [...table.key],
        ddl: [...ddl],
        ...(partition === undefined ? {} : { partition: written(partition) }),
        rows,
        csv: digest,
        stored: digest,
      },
    ],
    host: hostname(),
    run: context.run,
    toolVersion,
    createdAt: new Date().toISOString(),
  }
}

/** A partition for the manifest, whose names have no undefined schema. */
function written({ table, of, ddl, rights, ...same }: Partition): NonNullable<Manifest['files'][number]['partition']> {
  const named = ({ schema, name }: TableName) => (schema === undefined ? { name } : { schema, name })
  return { table: named(table), of: named(of), ...same, ddl: [...ddl], rights: [...rights] }
}

/** A partition as a manifest tells of it. Its statements may be anybody's: only those that the ledger knows are run. */
export function told({ table, of, ...same }: NonNullable<Manifest['files'][number]['partition']>): Partition {
  const named = ({ schema, name }: { schema?: string | undefined; name: string }): TableName => ({ schema, name })
  return { ...same, table: named(table), of: named(of), ddl: [], rights: [] }
}

/** The ledger's entry for a step. */
export function entryOf(facts: StepFacts, manifest: Manifest, manifestStored: Digest): LedgerEntry {
  const { name, order, context, table, columns, rows, stored } = facts
  return {
    name,
    policy: manifest.policy,
    table: formatTableName(table.name),
    state: 'archived',
    location: order.target.locate(name),
    target: order.target.name,
    path: name,
    rows,
    bytes: stored.bytes,
    sha256: stored.sha256,
    storedSha256: stored.sha256,
    manifestSha256: manifestStored.sha256,
    cutoff: manifest.cutoff,
    from: manifest.firstTimestamp,
    to: manifest.lastTimestamp,
    columns: columns.map((column) => column.name),
    partition: facts.partition ?? null,
    fingerprint: fingerprint(order.policy, context.config),
    run: manifest.run,
    host: manifest.host,
    toolVersion: manifest.toolVersion,
    archivedAt: manifest.createdAt,
    restoredAt: null,
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
  const [file] = manifest?.files ?? []
  if (manifest === undefined || file === undefined) {
    throw new RetentionError('MANIFEST_INVALID', `${name} has no manifest that names it`)
  }
  return {
    name,
    policy: manifest.policy,
    table: formatTableName({ schema: file.table.schema, name: file.table.name }),
    state: 'archived',
    location: target.locate(name),
    target: target.name,
    path: name,
    rows: file.rows,
    bytes: file.stored.bytes,
    sha256: file.csv.sha256,
    storedSha256: file.stored.sha256,
    manifestSha256: manifestSha256 ?? '',
    cutoff: manifest.cutoff,
    from: manifest.firstTimestamp,
    to: manifest.lastTimestamp,
    columns: file.columns.map((column) => column.name),
    partition: file.partition === undefined ? null : told(file.partition),
    // Nobody knows what the policy was like in full.
    fingerprint: '',
    run: manifest.run,
    host: manifest.host,
    toolVersion: manifest.toolVersion,
    archivedAt: manifest.createdAt,
    restoredAt: null,
  }
}
