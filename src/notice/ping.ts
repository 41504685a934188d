/** The sign of life after a good run: a service outside, which hears none for too long, tells. */
import type { EnvReference } from '../config/sealing.ts'
import { RetentionError } from '../errors.ts'
import type { Deliver } from './attempts.ts'
import { addressOf, request } from './http.ts'

const place = '{database}'

/** @throws RetentionError `CONFIG_INVALID` where the address cannot be asked */
export function ping(address: string | EnvReference, database: string | undefined): Deliver {
  const url = addressOf(address)
  // With one address for all, the runs of one database would hide that another's fail.
  if (database !== undefined && !url.includes(place))
    throw new RetentionError('CONFIG_INVALID', `with several databases the address needs ${place} in it`)
  return async (signal) => request(url.replaceAll(place, encodeURIComponent(database ?? '')), {}, signal)
}
