/** Which archives have outlived their retention. Pure. */
import type { Config } from '../config/config.ts'
import type { TargetConfig } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import { expiryAt } from '../cutoff.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'

/** An archive, and when it expires. */
export interface Expiring {
  readonly entry: LedgerEntry
  /** ISO 8601. */
  readonly at: string
}

/** How long a policy's archives are kept, and which of them have expired. */
export interface Expiries {
  /** As written; null: for ever. */
  readonly expireAfter: string | null
  readonly expired: readonly Expiring[]
  /** When the next of the others expires; null where none will. */
  readonly next: string | null
}

/** Where a policy's archives go, and for how long. */
function archiveTo(policy: Policy, config: Config): TargetConfig {
  return policy.archive ?? config.archive
}

/**
 * A policy's archives by their age, the oldest first. It goes by what config and policy say today, whatever they said when an
 * archive was made, and wherever that is.
 */
export function expiriesOf(policy: Policy, config: Config, entries: readonly LedgerEntry[], now: Date): Expiries {
  const { expiry, expireAfter = config.archive.expireAfter } = archiveTo(policy, config)
  if (expiry === undefined) return { expireAfter: null, expired: [], next: null }
  const all = entries
    .filter((entry) => entry.policy === policy.name && entry.state !== 'pruned')
    .map((entry): Expiring => ({ entry, at: expiryAt(entry.archivedAt, expiry) }))
    .toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at))
  const isOver = ({ at }: Expiring): boolean => Date.parse(at) <= now.getTime()
  return {
    expireAfter: expireAfter ?? null,
    expired: all.filter(isOver),
    next: all.find((one) => !isOver(one))?.at ?? null,
  }
}
