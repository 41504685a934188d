/** How long archives are kept: what config and policies say of it. */
import * as v from 'valibot'

import { parsePeriod, type Expiry } from '../cutoff.ts'

const allowed = 'a period, such as "7 years", "18 months", "2 weeks" or "90 days", or "never"'

/** The field of a target. */
export const expireAfter = v.pipe(
  v.string(allowed),
  v.check((text) => text === 'never' || parsePeriod(text) !== undefined, allowed),
)

/** What of a target it takes to tell when its archives expire. */
interface Kept {
  readonly expireAfter?: string | undefined
  readonly objectLock?: { readonly days?: number | undefined } | undefined
}

/** When a target's archives expire: as it says itself, and else as the config says; undefined: never. */
export function expiryOf(own: Kept, config: Kept, timezone: string): Expiry | undefined {
  const period = parsePeriod(own.expireAfter ?? config.expireAfter ?? 'never')
  return period === undefined ? undefined : { period, timezone }
}

/** What is wrong with how long archives would be locked; undefined where nothing is. */
export function lockMistake({ objectLock }: Kept, expiry: Expiry | undefined): string | undefined {
  if (objectLock === undefined || objectLock.days !== undefined || expiry !== undefined) return undefined
  return 'field "archive.objectLock" has no "days", and archives never expire; allowed: { mode, days }, or "expireAfter" beside it'
}
