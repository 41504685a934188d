/** Runs: how each policy fared in each run of apply, archives or none. */
import { sql } from 'kysely'

import type { Db } from '../database/database.ts'
import { instant, type LedgerNames } from './names.ts'
import type { LedgerTables } from './schema.ts'

/** What became of a policy in a run. */
export interface RunRecord {
  readonly run: string
  readonly policy: string
  /** When the policy's turn began and ended, ISO 8601. */
  readonly startedAt: string
  readonly finishedAt: string
  /** As in the policy's report. */
  readonly status: string
  readonly rows: number
  /** Of its archives, as stored. */
  readonly bytes: number
  readonly error: { readonly code: string; readonly message: string } | null
  readonly host: string
}

/** What a policy's runs come to. */
export interface RunSummary {
  readonly last: RunRecord | null
  /** The last in which all that was due was archived, or nothing was due. */
  readonly lastSuccess: RunRecord | null
  /** Runs that failed or were refused, as far as the ledger goes back. */
  readonly failures: number
}

/** How runs end in which all that was due was archived. */
const good = ['applied', 'nothing-due']

/** How long runs are kept, in milliseconds: those that had nothing to do a month, all others two years. */
const day = 24 * 60 * 60 * 1000
const keep = [
  { time: 31 * day, statuses: ['nothing-due'] },
  { time: 731 * day, statuses: undefined },
]

/** The runs of one ledger. */
export class Runs {
  readonly #tables: LedgerNames
  readonly #exist: boolean

  /** @param exist whether the ledger's tables are there */
  constructor(tables: LedgerNames, exist: boolean) {
    this.#tables = tables
    this.#exist = exist
  }

  /** Records what became of a policy, and forgets what is of no interest any more. */
  async record(db: Db, { startedAt, finishedAt, error, ...record }: RunRecord): Promise<void> {
    await this.#tables
      .in(db)
      .insertInto(this.#tables.name('runs'))
      .values({
        ...record,
        started_at: startedAt,
        finished_at: finishedAt,
        error_code: error?.code ?? null,
        error_message: error?.message ?? null,
      })
      .execute()
    for (const { time, statuses } of keep) {
      await this.#tables
        .in(db)
        .deleteFrom(this.#tables.name('runs'))
        .where('policy', '=', record.policy)
        .where('started_at', '<', new Date(Date.parse(finishedAt) - time).toISOString())
        .$if(statuses !== undefined, (query) => query.where('status', 'in', statuses ?? []))
        .execute()
    }
  }

  /**
   * The runs that began since an instant, the latest first.
   * @param since ISO 8601
   * @param most at most so many
   */
  async since(db: Db, since: string, most: number, policies?: readonly string[]): Promise<RunRecord[]> {
    if (!this.#exist || policies?.length === 0) return []
    const rows = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('runs'))
      .selectAll()
      .where('started_at', '>=', since)
      .$if(policies !== undefined, (query) => query.where('policy', 'in', policies ?? []))
      .orderBy('started_at', 'desc')
      .orderBy('policy')
      .limit(most)
      .execute()
    return rows.map(recordOf)
  }

  /** What a policy's runs come to. */
  async summary(db: Db, policy: string): Promise<RunSummary> {
    if (!this.#exist) return { last: null, lastSuccess: null, failures: 0 }
    const counted = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('runs'))
      .select(sql<unknown>`count(*)`.as('failures'))
      .where('policy', '=', policy)
      .where('status', 'in', ['failed', 'refused'])
      .executeTakeFirst()
    return {
      last: await this.#latest(db, policy),
      lastSuccess: await this.#latest(db, policy, good),
      failures: Number(counted?.failures ?? 0),
    }
  }

  async #latest(db: Db, policy: string, statuses?: readonly string[]): Promise<RunRecord | null> {
    const row = await this.#tables
      .in(db)
      .selectFrom(this.#tables.name('runs'))
      .selectAll()
      .where('policy', '=', policy)
      .$if(statuses !== undefined, (query) => query.where('status', 'in', statuses ?? []))
      .orderBy('started_at', 'desc')
      .limit(1)
      .executeTakeFirst()
    return row === undefined ? null : recordOf(row)
  }
}

function recordOf(row: LedgerTables['runs']): RunRecord {
  return {
    run: row.run,
    policy: row.policy,
    startedAt: instant(row.started_at),
    finishedAt: instant(row.finished_at),
    status: row.status,
    rows: Number(row.rows),
    bytes: Number(row.bytes),
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
    host: row.host,
  }
}
