/** A step over a table and what hangs on it: gathered and read from the snapshot, proved under the write lock, deleted. */
import { createHash } from 'node:crypto'

import { sql } from 'kysely'

import { RetentionError } from '../../errors.ts'
import type { Sql } from '../database.ts'
import {
  linkColumns,
  linkOf,
  parentsFirst,
  type GatheredStep,
  type Gathering,
  type Link,
  type StepPart,
} from '../tree.ts'
import type { Connection } from './connection.ts'
import { forget, gather, goingRows, linkedRows, placeParts } from './gather.ts'
import { tableOf } from './gathered.ts'
import { csvPieces } from './pieces.ts'
import { csvOf, csvQuery } from './rows.ts'
import type { SchemaTable } from './table.ts'
import type { SqliteTree } from './tree.ts'

/** The transactions of a step: the snapshot, which is open; then the one that deletes. */
export interface TreeStep {
  readonly connection: Connection
  /** Whether nothing that others have committed since the snapshot could have changed what was read. */
  isUnchanged(): boolean
  /** Whether tables and indexes are as they were. */
  isSameSchema(): boolean
  /** Ends the snapshot. */
  endSnapshot(): void
  /** Begins to write. @param enforces whether SQLite itself acts by foreign keys then */
  beginWriting(enforces: boolean): Promise<void>
}

/** One CSV of the step: which rows of which table. */
interface Part {
  readonly table: SchemaTable
  readonly link: Link | undefined
  readonly where: Sql<boolean>
  readonly rows: number
  sha256: string
}

/** Gathers the rows of a step, to be read part by part; the snapshot ends with the last. */
export async function gatherStep(
  step: TreeStep,
  tree: SqliteTree,
  request: Gathering,
  signal: AbortSignal | undefined,
): Promise<GatheredStep> {
  const { connection } = step
  const found = await gather(connection.db, tree, request)
  const parts = partsOf(tree, found)
  const remove = async (): Promise<void> => {
    // Mostly we do all that is to be done, whatever order there is, and nothing else can happen. With triggers, with keys of
    // other tables, and for defaults, which may refer to nothing, SQLite is to see to what refers to what.
    const enforces = tree.hasTriggers || tree.isReferred || tree.keys.some(({ effect }) => effect === 'default')
    await step.beginWriting(enforces)
    if (!step.isUnchanged()) await proveUnchanged(step, tree, request, parts)
    if (enforces) connection.raw.pragma('defer_foreign_keys = on')
    else setReferences(connection, tree)
    deleteAll(connection, tree, found.rows, enforces)
    await forget(connection.db)
  }
  const read = async function* (part: Part, isLast: boolean): AsyncGenerator<Buffer> {
    const hash = createHash('sha256')
    for (const bytes of readPart(connection, part)) {
      signal?.throwIfAborted()
      hash.update(bytes)
      yield bytes
    }
    part.sha256 = hash.digest('hex')
    // Storing the archive may take long; in rollback-journal mode an open snapshot would keep writers waiting.
    if (isLast) step.endSnapshot()
  }
  const given = parts.map((part, index): StepPart => {
    const { table, link, rows } = part
    return { table, link, rows, columns: columnsOf(part), csv: read(part, index === parts.length - 1) }
  })
  return { ...found, parts: given, remove }
}

function partsOf(tree: SqliteTree, found: { rows: readonly number[]; links: readonly number[] }): Part[] {
  const rows = parentsFirst(tree).flatMap((at): Part[] => {
    const count = found.rows[at] ?? 0
    if (count === 0 && at > 0) return []
    return [{ table: tableOf(tree, at), link: undefined, where: goingRows(tree, at), rows: count, sha256: '' }]
  })
  const links = tree.keys.flatMap((key, at): Part[] => {
    const count = found.links[at] ?? 0
    const table = tableOf(tree, key.child)
    const link = count === 0 ? undefined : linkOf(key, table)
    return link === undefined ? [] : [{ table, link, where: linkedRows(tree, key, at), rows: count, sha256: '' }]
  })
  return [...rows, ...links]
}

function columnsOf({ table, link }: Part): StepPart['columns'] {
  return link === undefined ? table.columns.filter(({ generated }) => !generated) : linkColumns(link, table.columns)
}

function* readPart(connection: Connection, part: Part): Generator<Buffer> {
  const { table, where } = part
  const rows = { table, where, order: placeParts(table) }
  const names = columnsOf(part).map(({ name }) => name)
  // In another encoding, text that is taken for bytes is not UTF-8.
  const pieces =
    table.rowid !== undefined && connection.pragma('encoding') === 'UTF-8'
      ? csvPieces(connection.raw, csvQuery(connection, rows, names))
      : csvOf(
          connection,
          rows,
          names.map((name) => ({ name, value: sql.id(name) })),
        )
  for (const { bytes } of pieces) yield bytes
}

/**
 * Somebody has written since the step began. If the very same rows would be gathered again, it was elsewhere.
 * @throws RetentionError `ROWS_CHANGED`
 */
async function proveUnchanged(
  step: TreeStep,
  tree: SqliteTree,
  request: Gathering,
  parts: readonly Part[],
): Promise<void> {
  const { connection } = step
  if (step.isSameSchema()) {
    const now = partsOf(tree, await gather(connection.db, tree, request))
    const sums = now.map((part) => {
      const hash = createHash('sha256')
      for (const bytes of readPart(connection, part)) hash.update(bytes)
      return hash.digest('hex')
    })
    if (sums.join() === parts.map(({ sha256 }) => sha256).join()) return
  }
  throw new RetentionError('ROWS_CHANGED', 'Rows of the step were changed while they were archived')
}

/** Sets references to rows that go to NULL, as their keys say. */
function setReferences(connection: Connection, tree: SqliteTree): void {
  for (const [at, key] of tree.keys.entries()) {
    if (key.effect !== 'null') continue
    const set = sql.join(key.sets.map((column) => sql`${sql.id(column)} = null`))
    const { statement, parameters } = connection.prepare(
      sql`update ${tableOf(tree, key.child).sql} set ${set} where ${linkedRows(tree, key, at)}`,
    )
    statement.run(...parameters)
  }
}

/** Deletes exactly the rows that were gathered, or fails; what hangs on others first, as far as there is an order. */
function deleteAll(connection: Connection, tree: SqliteTree, gathered: readonly number[], enforces: boolean): void {
  const places = parentsFirst(tree).toReversed()
  const count = (at: number): number => {
    const { statement, parameters } = connection.prepare(
      sql`select count(*) from ${tableOf(tree, at).sql} where ${goingRows(tree, at)}`,
    )
    return Number(statement.pluck().get(...parameters))
  }
  const before = enforces ? places.map(count) : []
  const deleted = places.map((at) => {
    const { statement, parameters } = connection.prepare(
      sql`delete from ${tableOf(tree, at).sql} where ${goingRows(tree, at)}`,
    )
    return statement.run(...parameters).changes
  })
  // Where SQLite deletes along what hangs on a row, that is not among the changes.
  const gone = enforces ? places.map((at, index) => (before[index] ?? 0) - count(at)) : deleted
  for (const [index, at] of places.entries()) {
    if (gone[index] === gathered[at]) continue
    const { name } = tableOf(tree, at).name
    throw new RetentionError(
      'DATABASE_FAILED',
      `${gathered[at]} rows of "${name}" were archived, but DELETE took ${gone[index]}`,
      { hint: 'A trigger may keep rows from being deleted. Nothing has been deleted.' },
    )
  }
}
