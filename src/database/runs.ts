/** Sets of whole numbers as runs of consecutive ones: what the keys of a log mostly are, in a few bytes. */

import { sql } from 'kysely'

import type { Sql } from './database.ts'

/** The runs in a query's numbers `n`, all of them different. */
export function runsOf(numbers: Sql): Sql<{ first: bigint; last: bigint }> {
  return sql<{ first: bigint; last: bigint }>`
    select min(n) as first, max(n) as last
    from (
      select n, sum(begins) over (order by n) as run
      from (select n, case when n = lag(n) over (order by n) + 1 then 0 else 1 end as begins from (${numbers}) as numbers) as marked
    ) as numbered
    group by run`
}

/** Collects different numbers of up to 64 bits, in any order. */
export class Runs {
  #firsts = new BigInt64Array(1024)
  #lasts = new BigInt64Array(1024)
  #length = 0
  /** The last run's last number, beside the arrays, as it changes with almost every number. */
  #last: bigint | undefined

  add(value: bigint): void {
    if (this.#last !== undefined && value === this.#last + 1n) {
      this.#last = value
      return
    }
    this.#close()
    if (this.#length === this.#firsts.length) this.#grow()
    this.#firsts[this.#length] = value
    this.#last = value
  }

  /**
   * The runs in ascending order, as few as possible.
   * @throws TypeError when a number was added twice
   */
  joined(): { readonly firsts: BigInt64Array; readonly lasts: BigInt64Array } {
    this.#close()
    // No two runs have a number in common, so that by their firsts they come in the same order as by their lasts.
    const firsts = this.#firsts.subarray(0, this.#length).toSorted()
    const lasts = this.#lasts.subarray(0, this.#length).toSorted()
    let length = 0
    for (const [index, first] of firsts.entries()) {
      const last = lasts[index] ?? first
      const before = lasts[length - 1]
      if (length > 0 && before !== undefined && first <= before) throw new TypeError(`${first} is in two runs`)
      if (length > 0 && before !== undefined && first === before + 1n) lasts[length - 1] = last
      else {
        firsts[length] = first
        lasts[length] = last
        length += 1
      }
    }
    return { firsts: firsts.subarray(0, length), lasts: lasts.subarray(0, length) }
  }

  #close(): void {
    if (this.#last === undefined) return
    this.#lasts[this.#length] = this.#last
    this.#length += 1
    this.#last = undefined
  }

  #grow(): void {
    const [firsts, lasts] = [this.#firsts, this.#lasts]
    this.#firsts = new BigInt64Array(2 * firsts.length)
    this.#lasts = new BigInt64Array(2 * lasts.length)
    this.#firsts.set(firsts)
    this.#lasts.set(lasts)
  }
}
