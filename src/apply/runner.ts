/** Makes steps happen: the one place that knows the order of events, and what a failure at each point means. */
import { setTimeout as sleep } from 'node:timers/promises'

import { byteOrderMark, prefixed } from '../archive/csv.ts'
import { formatManifest } from '../archive/manifest.ts'
import { archiveBase, manifestName, partName } from '../archive/name.ts'
import { store, storeText } from '../archive/store.ts'
import { commit } from '../commit.ts'
import type { StepTransaction } from '../database/database.ts'
import { refusalOf } from '../database/findings.ts'
import { formatTableName } from '../config/fields.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { exportStep } from './export.ts'
import { freeName, mostInTheWay } from '../stored/free-name.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { migrate } from '../migrate.ts'
import { inspectRequest, pastRows } from '../plan/past.ts'
import { countDue } from '../plan/survey.ts'
import { entryOf, manifestOf, type StoredPart } from '../stored/records.ts'
import type { RunContext, StepOrder } from '../plan/step.ts'
import { isAddress } from '../target/open.ts'
import type { Target } from '../target/target.ts'
import { TargetWithin } from '../target/within.ts'

/** What a step may have too many of. */
type Growth = 'rows' | 'bytes' | 'time'

/** What a step came to. */
export interface StepResult {
  /** Undefined when it archived nothing. */
  readonly entry: LedgerEntry | undefined
  /** For how long nobody else could write to the database; milliseconds. See `StepTransaction.held`. */
  readonly held: number
  /** Of what it came to more than it may take, and so was undone: its range must be cut anew. Undefined where it fitted. */
  readonly grew: Growth | undefined
  /** Rows left because another transaction holds them. */
  readonly skipped: number
  /** Files that were found in the way, and left. */
  readonly inTheWay: readonly string[]
  /** Why its partition could not be taken whole, and must go row by row; undefined where nothing kept it. */
  readonly byRows: string | undefined
}

/** A step that has been committed. */
type Made = Pick<StepResult, 'held'> & { readonly entry: LedgerEntry }

/** How often a step is tried again when it is in somebody's way, and how long it waits first, in milliseconds. */
const attempts = 6
const firstWait = 200

/** Archives one step, and counts what it had to leave. */
export async function archiveStep(order: StepOrder, context: RunContext): Promise<StepResult> {
  const inTheWay: string[] = []
  const { made, grew, byRows, skipsLocked } = await patiently(order, context, inTheWay)
  const result = { entry: made?.entry, held: made?.held ?? 0, grew, byRows, inTheWay }
  if (!skipsLocked) return { ...result, skipped: 0 }
  const { policy, cutoff, step, storage } = order
  // The step is done, whatever becomes of this question.
  const left = countDue(policy, cutoff, storage, context, step.range)
  return { ...result, skipped: await left.catch(() => Math.max(0, step.rows - (made?.entry.rows ?? 0))) }
}

/**
 * Makes a step: one that waited too long for a lock tries again without the rows that others hold; one whose rows
 * changed starts over; one whose name is taken takes the next. A partition that cannot be taken whole is left.
 */
async function patiently(
  order: StepOrder,
  context: RunContext,
  inTheWay: string[],
): Promise<{ made?: Made | undefined; grew?: Growth; byRows?: string; skipsLocked: boolean }> {
  let skipsLocked = false
  let name: string | undefined
  for (let attempt = 1; ;) {
    try {
      name ??= await nameInTurn(order, context, inTheWay)
      return { made: await throughUmzug(name, order, context, skipsLocked), skipsLocked }
    } catch (error) {
      if (error instanceof StepGrew) {
        const { partition } = order.step
        if (partition === undefined) return { grew: error.what, skipsLocked: false }
        const text = `The partition ${formatTableName(partition)} goes row by row, not whole: ${error.message}`
        return { byRows: text, skipsLocked: false }
      }
      if (hasCode(error, 'ARCHIVE_EXISTS') && inTheWay.length < mostInTheWay) {
        inTheWay.push(error.message)
        name = undefined
        continue
      }
      const again = hasCode(error, 'DATABASE_BUSY') || hasCode(error, 'ROWS_CHANGED')
      if (again && order.step.partition !== undefined) return { byRows: error.message, skipsLocked: false }
      if (!again || attempt === attempts || context.signal?.aborted === true) throw error
      skipsLocked ||= hasCode(error, 'DATABASE_BUSY')
      // Two runs in each other's way should not meet again at once.
      await sleep(firstWait * 2 ** (attempt - 1) * (0.5 + Math.random()), undefined, { signal: context.signal }).catch(
        () => {},
      )
      attempt += 1
    }
  }
}

async function nameInTurn(order: StepOrder, context: RunContext, inTheWay: string[]): Promise<string> {
  const endTurn = await order.naming.take()
  try {
    const { policy, cutoff, target, sealer } = order
    const place = { target, encoding: sealer?.encoding ?? null }
    return await freeName(archiveBase(policy.name, cutoff.day), place, context, inTheWay)
  } finally {
    endTurn()
  }
}

/** A step is a migration, and archiving is its up. */
async function throughUmzug(
  name: string,
  order: StepOrder,
  context: RunContext,
  skipLocked: boolean,
): Promise<Made | undefined> {
  let made: Made | undefined
  const recorded = (): Promise<string[]> =>
    context.database.read((db) => context.ledger.namesIn(db, [name], 'archived'))
  const migration = {
    name,
    up: async (): Promise<void> => {
      made = await up(name, order, context, skipLocked)
    },
  }
  try {
    await migrate('up', migration, {
      executed: recorded,
      assert: async () => {
        if ((await recorded()).length === (made === undefined ? 0 : 1)) return
        throw new RetentionError('LEDGER_INVALID', `${name} ${made === undefined ? 'is' : 'is not'} in the ledger`)
      },
    })
  } catch (error) {
    // Once it is committed, a ledger that cannot be asked again changes nothing about it.
    if (made === undefined || hasCode(error, 'LEDGER_INVALID')) throw error
  }
  return made
}

/**
 * One step, in its order. At every point each row is in its table, or in a durable archive that the ledger knows:
 * until the commit all are in the table, and with the commit all are in the archive, which by then has been stored
 * and read back.
 *
 * @returns undefined when there were no rows left to take
 * @throws StepGrew when there were more rows or bytes than it may take
 */
async function up(name: string, order: StepOrder, context: RunContext, skipLocked: boolean): Promise<Made | undefined> {
  const { policy, cutoff, sealer } = order
  // 1. Lock the table against changes of its form, and look again whether the policy may work on it.
  const transaction = await beginStep(order, context)
  const { maxStepTime } = context
  const tooLate = maxStepTime === undefined ? undefined : AbortSignal.timeout(maxStepTime)
  const signals = [context.rollbackSignal, tooLate].filter((signal) => signal !== undefined)
  const rollbackSignal = AbortSignal.any(signals)
  // A folder answers at once, or its disk is broken.
  const hasLimit = tooLate !== undefined || isAddress(order.target.name)
  const limited = hasLimit ? new TargetWithin(order.target, rollbackSignal) : undefined
  const target = limited ?? order.target
  let endReading = (): void => {}
  const published: string[] = []
  let entry: LedgerEntry
  try {
    const { inspection } = transaction
    const refusal = refusalOf(inspection.findings)
    if (refusal !== undefined) throw refusal
    const rows = await pastRows(transaction.db, inspection, policy, cutoff, context, order.step.range)
    if (rows === undefined) throw new RetentionError('REFUSED', `Policy "${policy.name}" cannot work on its table now`)
    // 2. Stream the rows into the archive, make it durable, publish it under a name of its own, read it back.
    endReading = await order.reading.take()
    const exported = await exportStep(transaction, rows.due, order, { ...context, rollbackSignal }, skipLocked)
    if (exported.isEmpty) {
      await undo(transaction, target, published)
      return undefined
    }
    const files: StoredPart[] = []
    const size = { bytes: 0 }
    for (const [index, part] of exported.parts.entries()) {
      const file =
        index === 0
          ? name
          : partName(
              name,
              part.label,
              files.map((other) => other.name),
            )
      const { table, link, references, columns, ddl } = part
      const isLast = index === exported.parts.length - 1
      const csv = atMost(order, size, part.csv, isLast ? endReading : undefined)
      const stored = await store(target, file, order.bom ? prefixed(byteOrderMark, csv) : csv, part.records, sealer)
      published.push(stored.file)
      const count = await part.count()
      checkCount(file, count, stored.records)
      if (index === 0 && count - exported.beyond > order.most) throw new StepGrew('rows', count, order.most)
      files.push({ name: file, table, columns, link, references, ddl, rows: count, stored })
    }
    if (files[0]?.rows === 0) {
      await undo(transaction, target, published)
      return undefined
    }
    // 3. The same for the manifest.
    const { from, to, partition, redacted } = exported
    const facts = { name, order, context, column: inspection.column, files, from, to, partition, redacted }
    const manifest = manifestOf(facts)
    const manifestStored = await storeText(target, manifestName(name), formatManifest(manifest))
    published.push(manifestName(name))
    // 4. Make sure that exactly these rows go, and record the archive in the same transaction.
    entry = entryOf(facts, manifest, manifestStored)
    await exported.remove()
    await context.ledger.record(transaction.db, entry)
  } catch (error) {
    await undo(transaction, target, published)
    await limited?.cleared()
    if (tooLate?.aborted === true && context.rollbackSignal?.aborted !== true)
      throw new StepGrew('time', undefined, maxStepTime ?? 0)
    throw error
  } finally {
    endReading()
  }
  // 5. Commit: the rows go and the ledger knows, or neither. Until that is known, the files stay.
  const isDone = (): Promise<boolean> => context.ledger.isRecorded(entry)
  await commit(transaction, name, isDone, () => undo(transaction, target, published))
  return { entry, held: transaction.held }
}

async function beginStep(
  { policy, cutoff, step, storage }: StepOrder,
  { database }: RunContext,
): Promise<StepTransaction> {
  const request = { ...inspectRequest(policy, cutoff), storage }
  if (step.partition === undefined) return database.step(request)
  if (database.partitioning === undefined) throw new TypeError('a partition is one of a table that has some')
  return database.partitioning.step(request, step.partition)
}

/** A step has come to more rows or bytes than it may take: what is in its range must be cut anew. */
class StepGrew extends Error {
  readonly what: Growth

  constructor(what: Growth, came: number | undefined, most: number) {
    const text = what === 'time' ? `took more than ${most} ms` : `grew to ${came} ${what}, and may take ${most}`
    super(`The step ${text}`)
    this.what = what
  }
}

/**
 * A step's CSV as long as it is no larger than it may be, or the step has one row alone.
 * @param size of its files so far
 * @param atEnd is called when all of it has been read
 * @throws StepGrew
 */
async function* atMost(
  { step, mostBytes }: StepOrder,
  size: { bytes: number },
  csv: AsyncIterable<Buffer>,
  atEnd: (() => void) | undefined,
): AsyncGenerator<Buffer> {
  for await (const chunk of csv) {
    size.bytes += chunk.length
    if (size.bytes > mostBytes && step.rows > 1) throw new StepGrew('bytes', size.bytes, mostBytes)
    yield chunk
  }
  atEnd?.()
}

/**
 * Rolls back and takes back what was published: of this step nothing remains but its number. A file that cannot be
 * taken back is one that the ledger does not know, which verify tells.
 */
async function undo(transaction: StepTransaction, target: Target, published: readonly string[]): Promise<void> {
  await transaction.rollback()
  // The archive last: what may be left of it then is known for what it is.
  for (const file of published.toReversed()) await target.withdraw(file).catch(() => {})
}

function checkCount(name: string, rows: number, records: number): void {
  if (records !== rows) {
    throw new RetentionError('ARCHIVE_CHANGED', `The database gave ${rows} rows, but ${name} holds ${records}`)
  }
}
