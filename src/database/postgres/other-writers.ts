/**
 * Whether others write to a server, told by the numbers that it gives to transactions. Any role may ask for them. Savepoints take
 * numbers too, which nobody can tell apart: where a trigger on our deletes catches errors, its are taken for others'. Steps are
 * then smaller than they need be, and what is left is counted.
 */
import { sql } from 'kysely'

import type { Db } from '../database.ts'

/** Up to where transactions have ended. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT */
interface Snapshot {
  /** The number after the greatest that has ended. */
  readonly end: bigint
  /** Numbers before that which have not ended yet. */
  readonly open: ReadonlySet<bigint>
}

/** Others that write less often than this, in a second, do not feel us: a vacuum, a job that runs now and then. */
const fewest = 5

export class OtherWriters {
  /** The numbers of our own transactions. */
  readonly #ours = new Set<bigint>()
  #before: Snapshot | undefined
  #askedAt = 0

  /** Learns that a transaction is ours. */
  own(number: bigint): void {
    this.#ours.add(number)
  }

  /** From now on others are watched. Returns what tells how many transactions of theirs have written and ended since. */
  async watch(db: Db): Promise<(db: Db) => Promise<number>> {
    const before = await snapshot(db)
    this.#before = before
    this.#askedAt = performance.now()
    return async (later) => this.#count(before, await snapshot(later))
  }

  /** Whether others write at some rate, since this was last asked, or since `watch`. */
  async areBusy(db: Db): Promise<boolean> {
    const [before, now] = [this.#before, await snapshot(db)]
    const seconds = (performance.now() - this.#askedAt) / 1000
    this.#before = now
    this.#askedAt += seconds * 1000
    if (before === undefined) return false
    const written = this.#count(before, now)
    return written > 1 && written >= fewest * seconds
  }

  #count(before: Snapshot, now: Snapshot): number {
    const hasEnded = (number: bigint): boolean => number < now.end && !now.open.has(number)
    const isOurs = (number: bigint): boolean => this.#ours.has(number)
    const since = Number(now.end - before.end)
    const stillOpen = [...now.open].filter((number) => number >= before.end).length
    const ours = [...this.#ours].filter((number) => number >= before.end && hasEnded(number)).length
    const late = [...before.open].filter((number) => hasEnded(number) && !isOurs(number)).length
    return since - stillOpen - ours + late
  }
}

async function snapshot(db: Db): Promise<Snapshot> {
  const { rows } = await sql<{ text: string }>`select pg_current_snapshot()::text as text`.execute(db)
  const [, end = '', open = ''] = (rows[0]?.text ?? '').split(':')
  return { end: BigInt(end), open: new Set(open === '' ? [] : open.split(',').map(BigInt)) }
}
