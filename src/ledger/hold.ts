/** One hold: what the ledger knows of it, and who it is that places one. */
import { hostname, userInfo } from 'node:os'

import { hasCode, RetentionError } from '../errors.ts'
import { instant } from './names.ts'
import type { LedgerTables } from './schema.ts'

/** A hold, as the ledger knows it. */
export interface Hold {
  readonly id: string
  /** `restored`: on the rows that a restore has put back. `legal`: placed by somebody, for a reason. */
  readonly kind: 'restored' | 'legal'
  /** The table of the rows, or the one that the archive is from. */
  readonly table: string
  /** The policy whose rows were restored, or by whose name the hold was placed; null where it was by the table's. */
  readonly policy: string | null
  /** `restored`: the archive whose rows are held. `legal`: the archive that is held, as a whole; null for one on rows. */
  readonly archive: string | null
  /** `legal`: the SQL predicate of the rows that are held; null: all of the table, or of the archive. */
  readonly where: string | null
  readonly reason: string
  /** ISO 8601, as are the instants below. */
  readonly createdAt: string
  readonly createdBy: string
  /** When it ends; null: never. */
  readonly until: string | null
  readonly releasedAt: string | null
  readonly releasedBy: string | null
  readonly releaseReason: string | null
  /** `restored`: whether it holds a range of times instead of single rows. */
  readonly byRange: boolean
}

/** A hold, as the ledger keeps it. */
export type HoldRow = LedgerTables['holds']

/** What a hold is called for people: the beginning of its id. */
export function shortId({ id }: { readonly id: string }): string {
  return id.slice(0, 8)
}

/** The same from the ledger's table. */
export function holdOf(row: HoldRow): Hold {
  const at = (value: string | Date | null): string | null => (value === null ? null : instant(value))
  return {
    id: row.id,
    // The column's CHECK allows no other.
    kind: row.kind as Hold['kind'],
    table: row.table_name,
    policy: row.policy,
    archive: row.archive,
    where: row.predicate,
    reason: row.reason,
    createdAt: instant(row.created_at),
    createdBy: row.created_by,
    until: at(row.until),
    releasedAt: at(row.released_at),
    releasedBy: row.released_by,
    releaseReason: row.release_reason,
    byRange: row.range_column !== null,
  }
}

/** What went wrong while a hold was asked of rows; where its predicate may be at fault, it is named. */
export function failsOnRows(hold: Hold, error: unknown): unknown {
  if (hold.where === null || !hasCode(error, 'DATABASE_FAILED')) return error
  const text = `Legal hold ${shortId(hold)} is on rows of ${hold.table} where ${hold.where}, which fails on one of them: ${error.message}`
  return new RetentionError('REFUSED', text, {
    hint: 'Nothing is archived until it works. Mend the row, or add a hold that can be asked of it, then release this one.',
    cause: error,
  })
}

/** The user of this process, at this host. */
export function ownName(): string {
  return `${userName()}@${hostname()}`
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    // Containers run under numbers that have no name.
    return String(process.getuid?.() ?? 'unknown')
  }
}
