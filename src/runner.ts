/** Makes steps happen: the one place that knows the order of events, and what a failure at each point means. */
import { setTimeout as sleep } from 'node:timers/promises'

import { MigrationError, Umzug, type RunnableMigration } from 'umzug'

import { byteOrderMark, prefixed } from './archive/csv.ts'
import { formatManifest } from './archive/manifest.ts'
import { archiveBase, archiveName, manifestName } from './archive/name.ts'
import { store, storeText } from './archive/store.ts'
import type { Inspection, StepTransaction } from './database/database.ts'
import { hasCode, RetentionError } from './errors.ts'
import type { Ledger, LedgerEntry } from './ledger/ledger.ts'
import { countDue, pastRows, inspectRequest, isRefused } from './plan.ts'
import type { RunContext, StepOrder } from './step.ts'
import type { Policy } from './config/policy.ts'
import { entryOf, manifestOf } from './records.ts'
import type { Target } from './target/target.ts'

/** What a step came to. */
export interface StepResult {
  /** Undefined when none of the rows was there any more. */
  readonly entry: LedgerEntry | undefined
  /** Rows left because another transaction holds them. */
  readonly skipped: number
  /** Files that were found in the way, and left. */
  readonly inTheWay: readonly string[]
}

/** How often a step is tried again when it is in somebody's way, and how long it waits first, in milliseconds. */
const attempts = 6
const firstWait = 200

/**
 * Archives one step, with patience: a step that waited too long for a lock tries again without the rows that others
 * hold; one whose rows changed starts over; one whose name is taken takes the next.
 */
export async function archiveStep(order: StepOrder, context: RunContext): Promise<StepResult> {
  const inTheWay: string[] = []
  let skipLocked = false
  let name: string | undefined
  for (let attempt = 1; ;) {
    try {
      name ??= await freeName(order, context, inTheWay)
      const entry = await throughUmzug(name, order, context, skipLocked)
      const { policy, cutoff, step, storage } = order
      const skipped = skipLocked ? await countDue(policy, cutoff, storage, context, step.range) : 0
      return { entry, skipped, inTheWay }
    } catch (error) {
      if (hasCode(error, 'ARCHIVE_EXISTS')) {
        inTheWay.push(error.message)
        name = undefined
        continue
      }
      const again = hasCode(error, 'DATABASE_BUSY') || hasCode(error, 'ROWS_CHANGED')
      if (!again || attempt === attempts || context.signal?.aborted === true) throw error
      skipLocked ||= hasCode(error, 'DATABASE_BUSY')
      // Two runs in each other's way should not meet again at once.
      await sleep(firstWait * 2 ** (attempt - 1) * (0.5 + Math.random()), undefined, { signal: context.signal }).catch(
        () => {},
      )
      attempt += 1
    }
  }
}

/** Claims numbers until one's name is free at the target. */
async function freeName(
  { policy, cutoff, target }: StepOrder,
  { ledger }: RunContext,
  inTheWay: string[],
): Promise<string> {
  const base = archiveBase(policy.name, cutoff.day)
  for (;;) {
    const name = archiveName(base, await ledger.claimNumber(base))
    const taken = (await target.has(name))
      ? name
      : (await target.has(manifestName(name)))
        ? manifestName(name)
        : undefined
    if (taken === undefined) return name
    inTheWay.push(`${target.locate(taken)} is in the way; it is left as it is`)
  }
}

/** A step is a migration and the ledger is where umzug keeps what has been migrated. */
async function throughUmzug(
  name: string,
  order: StepOrder,
  context: RunContext,
  skipLocked: boolean,
): Promise<LedgerEntry | undefined> {
  let entry: LedgerEntry | undefined
  await migrate(
    'up',
    {
      name,
      up: async () => {
        entry = await up(name, order, context, skipLocked)
      },
    },
    {
      executed: () => context.database.read((db) => context.ledger.namesIn(db, [name], 'archived')),
      // The entry was written with the rows' deletion. Here it is only asserted.
      logged: async () => {
        const found = await context.database.read((db) => context.ledger.namesIn(db, [name], 'archived'))
        if ((found.length === 1) !== (entry !== undefined)) {
          throw new RetentionError('LEDGER_INVALID', `${name} ${entry === undefined ? 'is' : 'is not'} in the ledger`)
        }
      },
    },
  )
  return entry
}

/** Runs one migration in one direction and gives its own error, not umzug's, which carries the whole context. */
export async function migrate(
  direction: 'up' | 'down',
  migration: RunnableMigration<object>,
  ledger: { executed: () => Promise<string[]>; logged: () => Promise<void> },
): Promise<void> {
  const umzug = new Umzug({
    migrations: [migration],
    storage: { executed: ledger.executed, logMigration: ledger.logged, unlogMigration: ledger.logged },
    logger: undefined,
  })
  try {
    await umzug[direction]({ migrations: [migration.name] })
  } catch (error) {
    throw error instanceof MigrationError ? error.cause : error
  }
}

/**
 * One step, in its order. At every point each row is in its table, or in a durable archive that the ledger knows:
 * until the commit all are in the table, and with the commit all are in the archive, which by then has been stored
 * and read back.
 *
 * @returns the ledger's entry; undefined when there were no rows left to take
 */
async function up(
  name: string,
  order: StepOrder,
  context: RunContext,
  skipLocked: boolean,
): Promise<LedgerEntry | undefined> {
  const { policy, cutoff, target } = order
  const transaction = await context.database.step()
  const published: string[] = []
  let entry: LedgerEntry
  try {
    // 1. Lock the table against changes of its form, and look again whether the policy may work on it.
    const inspection = await transaction.begin({ ...inspectRequest(policy, cutoff), storage: order.storage })
    const rows = await pastRows(transaction.db, allowed(inspection), policy, cutoff, context, order.step.range)
    if (rows === undefined)
      throw new RetentionError('REFUSED', `Policy "${policy.name}" cannot work on its table any more`)
    // 2. Stream the rows into the archive, make it durable, publish it under a name of its own, read it back.
    const exported = await transaction.export(rows.due, skipLocked, context.rollbackSignal)
    const { csv } = exported
    const stored = await store(target, name, order.bom ? prefixed(byteOrderMark, csv) : csv)
    published.push(name)
    const count = await exported.rows()
    checkCount(name, count, stored.records, policy)
    if (count === 0) {
      await undo(transaction, target, published)
      return undefined
    }
    // 3. The same for the manifest.
    const ddl = await context.database.ddl(transaction.db, rows.due.table.name)
    const facts = { name, order, context, table: rows.due.table, columns: exported.columns, ddl, rows: count, stored }
    const manifest = manifestOf(facts)
    const manifestStored = await storeText(target, manifestName(name), formatManifest(manifest))
    published.push(manifestName(name))
    // 4. Make sure that exactly these rows go, and record the archive in the same transaction.
    await transaction.remove()
    entry = entryOf(facts, manifest, manifestStored)
    await context.ledger.record(transaction.db, entry)
  } catch (error) {
    await undo(transaction, target, published)
    throw error
  }
  // 5. Commit: the rows go and the ledger knows, or neither.
  await commit(transaction, context.ledger, entry, () => undo(transaction, target, published))
  return entry
}

/** Commits; where the connection breaks on the way, finds out what became of it before anything else is done. */
async function commit(
  transaction: StepTransaction,
  ledger: Ledger,
  entry: LedgerEntry,
  undoStep: () => Promise<void>,
): Promise<void> {
  try {
    await transaction.commit()
  } catch (error) {
    // Until this is known the files stay: the ledger may have come to know them.
    const done = hasCode(error, 'COMMIT_UNKNOWN') && (await outcome(() => ledger.isRecorded(entry), entry.name))
    if (done) return
    await undoStep()
    throw error
  }
}

/** Asks what became of a commit. @throws RetentionError `COMMIT_UNKNOWN` where nobody can tell yet. */
export async function outcome(ask: () => Promise<boolean>, name: string): Promise<boolean> {
  try {
    return await ask()
  } catch (cause) {
    throw new RetentionError(
      'COMMIT_UNKNOWN',
      `The connection broke at COMMIT, and what became of ${name} could not be learned`,
      {
        hint: 'No row is lost: it was committed whole or not at all. Run "retention verify" when the database is back.',
        cause,
      },
    )
  }
}

/** Rolls back and takes back what was published: of this step nothing remains but its number. */
async function undo(transaction: StepTransaction, target: Target, published: readonly string[]): Promise<void> {
  await transaction.rollback()
  for (const file of published) await target.withdraw(file)
}

function allowed(inspection: Inspection): Inspection {
  const refusal = inspection.findings.find(({ level }) => level === 'refusal')
  if (!isRefused(inspection) || refusal === undefined) return inspection
  throw new RetentionError('REFUSED', refusal.text, refusal.hint === undefined ? {} : { hint: refusal.hint })
}

function checkCount(name: string, rows: number, records: number, policy: Policy): void {
  if (records !== rows) {
    throw new RetentionError('ARCHIVE_CHANGED', `The database gave ${rows} rows, but ${name} holds ${records}`)
  }
  if (rows > policy.batch) {
    throw new RetentionError('ROWS_CHANGED', `The step grew to ${rows} rows; "batch" allows ${policy.batch}`)
  }
}
