/** The options of `npm run bench -- …`. */
import path from 'node:path'
import { parseArgs } from 'node:util'

import type { Kind } from './databases.ts'

/** What the bench measures. */
const parts = ['apply', 'restore', 'query', 'beside', 'partitions', 'large', 'startup'] as const
type Part = (typeof parts)[number]

export interface Options {
  /** The log's rows, half of them due. Default 2 000 000. */
  readonly rows: number
  /** How often each contender races. Default 3. */
  readonly runs: number
  /** Default both. */
  readonly kinds: readonly Kind[]
  /** Default all; without `--growth`, all but `large`: ten times the rows. */
  readonly parts: readonly Part[]
  /** Measures nothing: makes page and chart anew from results.json. */
  readonly rewrite: boolean
  /** Where the results go. */
  readonly folder: string
}

/** A restore is of one archive, which has a million rows at most. */
const mostRows = 2_000_000

/** @throws Error for what cannot be run */
export function readOptions(): Options {
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      rows: { type: 'string', default: `${mostRows}` },
      runs: { type: 'string', default: '3' },
      database: { type: 'string', default: 'postgres,sqlite' },
      growth: { type: 'boolean', default: true },
      only: { type: 'string', default: parts.join(',') },
      rewrite: { type: 'boolean', default: false },
    },
  })
  const [rows, runs] = [Number(values.rows), Number(values.runs)]
  const kinds = values.database.split(',').filter((kind) => kind === 'postgres' || kind === 'sqlite')
  if (!Number.isInteger(rows / 2) || rows < 1000 || rows > mostRows) {
    throw new Error(
      `--rows "${values.rows}": an even number from 1000 to ${mostRows}; ten times as many are measured too`,
    )
  }
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs "${values.runs}": a whole number, at least 1`)
  if (kinds.length === 0) throw new Error(`--database "${values.database}": postgres, sqlite, or both with a comma`)
  const only = values.only.split(',')
  const chosen = parts.filter((part) => only.includes(part) && (values.growth || part !== 'large'))
  if (chosen.length === 0) throw new Error(`--only "${values.only}": some of ${parts.join(', ')}, with a comma`)
  const full = rows === mostRows && kinds.length === 2 && chosen.length === parts.length
  const folder = path.join(import.meta.dirname, full || values.rewrite ? '.' : 'short')
  return { rows, runs, kinds, parts: chosen, rewrite: values.rewrite, folder }
}
