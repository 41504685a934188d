/** Finds the rows that make a query fail, by halves: Postgres tells of one at a time, and not which it is. */
import type { Db } from '../database.ts'
import { tryOut } from './savepoint.ts'

/** So many tries at most; each looks at half as many rows as the one before. */
const mostTries = 1000

/** The rows found. */
export interface FailingRows {
  /** Their numbers, in order. */
  readonly numbers: readonly number[]
  /** Whether these are all. */
  readonly isAll: boolean
}

/**
 * @param works whether the query works over the rows from one number to another; its doings are undone
 * @param last the number of the last row; the first is 1
 */
export async function failingRows(
  db: Db,
  last: number,
  work: (from: number, to: number) => Promise<unknown>,
): Promise<FailingRows> {
  const numbers: number[] = []
  let tries = 0
  const search = async (from: number, to: number, isKnown: boolean): Promise<boolean> => {
    if (tries >= mostTries) return false
    if (!isKnown) {
      tries += 1
      if ('value' in (await tryOut(db, () => work(from, to), true))) return true
    }
    if (from === to) {
      numbers.push(from)
      return true
    }
    const middle = Math.floor((from + to) / 2)
    const found = numbers.length
    const isLeftDone = await search(from, middle, false)
    // What fails as a whole, and not on the left, fails on the right.
    return (await search(middle + 1, to, isLeftDone && numbers.length === found)) && isLeftDone
  }
  const isAll = last < 1 || (await search(1, last, false))
  return { numbers, isAll }
}

/**
 * The number of the first row that cannot follow those before it; undefined where all can.
 * @param work does what may fail with all rows up to a number
 */
export async function firstFailing(
  db: Db,
  last: number,
  work: (to: number) => Promise<unknown>,
): Promise<number | undefined> {
  if (last < 1 || 'value' in (await tryOut(db, () => work(last), true))) return undefined
  let [fits, fails] = [0, last]
  while (fails - fits > 1) {
    const middle = Math.floor((fits + fails) / 2)
    if ('value' in (await tryOut(db, () => work(middle), true))) fits = middle
    else fails = middle
  }
  return fails
}
