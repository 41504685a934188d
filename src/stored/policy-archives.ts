/** Archives that are to be changed: whether there is a policy of that name, its lock, and the locks of the service on files. */
import type { Project } from '../config/project.ts'
import { didYouMean } from '../config/validate.ts'
import type { Database } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import type { Target } from '../target/target.ts'

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

/** Why files cannot be removed: what nobody can remove would stay. @param hint what to do then */
export async function lockedError(
  target: Target,
  files: readonly { readonly file: string }[],
  hint: string,
): Promise<RetentionError | undefined> {
  for (const { file } of files) {
    const lock = await target.lockOn(file)
    if (lock !== undefined)
      return new RetentionError('REFUSED', `${target.locate(file)} is ${lock}: nobody can remove it`, { hint })
  }
  return undefined
}
