/** Growth: apply on ten times the rows, once, where the disk has room for it. */
import { statfsSync } from 'node:fs'

import { apply } from './contenders.ts'
import { due } from './data.ts'
import type { Copy, Database, Kind } from './databases.ts'
import { measure, type Measured } from './measure.ts'

export interface Growth {
  readonly kind: Kind
  readonly due: number
  readonly run: Measured
}

/** What a row takes at most, in table, indexes, log and archive, in bytes. */
const bytesPerRow = 700

/** Says what is missing where a folder's disk has no room for a log of as many rows, and what is made of it. */
export function lackOfSpace(folder: string, rows: number): string | undefined {
  const { bavail, bsize } = statfsSync(folder)
  const [free, needed] = [(bavail * bsize) / 1e9, (rows * bytesPerRow) / 1e9]
  return free >= needed ? undefined : `${free.toFixed(1)} GB free in ${folder}, ${needed.toFixed(1)} GB needed`
}

/** Archives the due half of a large log, itself and not a copy of it. */
export async function grow(database: Database, log: Copy, rows: number): Promise<Growth> {
  const run = await measure(apply(log))
  const [left] = await database.ask(log, `select count(*) from conversation_log where ${due}`)
  if (left !== 0) throw new Error(`retention apply left ${left} due rows of a large log`)
  return { kind: database.kind, due: rows / 2, run }
}
