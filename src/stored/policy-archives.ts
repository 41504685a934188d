/** A policy whose archives are to be changed: whether there is one of that name, and its lock. */
import type { Project } from '../config/project.ts'
import { didYouMean } from '../config/validate.ts'
import type { Database } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'

/** @throws RetentionError `POLICY_UNKNOWN` where there is no such policy, and no archive of one */
export function checkPolicy(policy: string, { policies }: Project, entries: readonly LedgerEntry[]): void {
  const known = [...new Set([...policies.map(({ name }) => name), ...entries.map((entry) => entry.policy)])]
  if (known.includes(policy)) return
  throw new RetentionError('POLICY_UNKNOWN', `No policy is called "${policy}"${didYouMean(policy, known)}`, {
    hint: `The policies, and those that there are archives of: ${known.join(', ') || 'none'}.`,
  })
}

/** Does work while nobody else can work on what the policy has archived. @throws RetentionError `POLICY_LOCKED` */
export async function locked<T>(
  policy: string,
  { database, ledger }: { readonly database: Database; readonly ledger: Ledger },
  work: () => Promise<T>,
): Promise<T> {
  const lock = await database.lock(ledger.lockName(policy))
  if (lock === undefined) {
    throw new RetentionError('POLICY_LOCKED', `A run holds policy "${policy}"`, {
      hint: 'Try again when it has finished; nothing has been changed.',
    })
  }
  try {
    return await work()
  } finally {
    await lock.release()
  }
}
