/** Commits, and finds out what became of a commit that failed: the answer may have been lost, and not the commit. */
import { setTimeout as sleep } from 'node:timers/promises'

import { hasCode, RetentionError } from './errors.ts'

/** How often the ledger is asked, and how long is waited at first, in milliseconds: half a minute in all. */
const attempts = 8
const firstWait = 250

/** How often work is tried again when somebody is in the way, and how long is waited first, in milliseconds. */
const busyAttempts = 6
const firstBusyWait = 200

/**
 * Commits a transaction.
 * @param isDone asks the ledger, certainly, whether it was committed
 * @param undo is called when it was not
 * @throws what the commit failed with; or RetentionError `COMMIT_UNKNOWN` where nobody can tell: nothing is undone then
 */
export async function commit(
  transaction: { commit(): Promise<void>; rollback(): Promise<void> },
  name: string,
  isDone: () => Promise<boolean>,
  undo: () => Promise<void>,
): Promise<void> {
  try {
    await transaction.commit()
  } catch (error) {
    await transaction.rollback()
    if (await outcome(isDone, name)) return
    await undo()
    throw error
  }
}

/** Tries again for a while when somebody else keeps the ledger busy. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (!hasCode(error, 'DATABASE_BUSY') || attempt === busyAttempts) throw error
      await sleep(firstBusyWait * 2 ** (attempt - 1))
    }
  }
}

async function outcome(isDone: () => Promise<boolean>, name: string): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await isDone()
    } catch (cause) {
      // The server may be starting again, or be busy with that very commit.
      const passing = hasCode(cause, 'DATABASE_UNREACHABLE') || hasCode(cause, 'DATABASE_BUSY')
      if (!passing || attempt === attempts) {
        throw new RetentionError(
          'COMMIT_UNKNOWN',
          `The commit failed, and what became of ${name} could not be learned`,
          {
            hint: 'No row is lost: it was committed whole or not at all. Look which, when the database is back, before you try again.',
            cause,
          },
        )
      }
    }
    await sleep(firstWait * 2 ** (attempt - 1))
  }
}
