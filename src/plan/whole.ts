/** Finds partitions that a plan can take whole, each in one step. Only reads. */
import { sql } from 'kysely'

import type { Policy } from '../config/policy.ts'
import { formatTableName, type TableName } from '../config/fields.ts'
import { firstTime, lastTime, type Cut } from './cut.ts'
import type {
  Database,
  Db,
  Finding,
  Inspection,
  InspectRequest,
  RowSelection,
  WholePartition,
} from '../database/database.ts'
import { shortId } from '../ledger/hold.ts'
import { holdByName, type HoldOnRows } from '../ledger/holds.ts'

/** A range of rows that one step takes, and the partition that they are, if they are one. */
export interface WholeCut extends Cut {
  readonly partition?: TableName
}

/** The partitions that are taken whole, and the due rows that are left to be taken as rows. */
export interface Wholes {
  readonly cuts: readonly WholeCut[]
  readonly rest: RowSelection
  readonly findings: readonly Finding[]
}

/**
 * The partitions of which every row is due, the oldest first. Empty ones are left as they are: somebody may have made them
 * for what is to come.
 * @param holds on the table's rows
 * @param limit the most rows of all: where a partition has more, it and those after it go row by row
 */
export async function cutWholes(
  db: Db,
  { policy, database }: { policy: Policy; database: Database },
  inspection: Inspection,
  request: InspectRequest,
  due: RowSelection,
  holds: readonly HoldOnRows[],
  limit: number,
): Promise<Wholes> {
  const none: Wholes = { cuts: [], rest: due, findings: [] }
  const byRows = policy.partitions === 'rows' || policy.where !== undefined || policy.action === 'redact'
  if (byRows || database.partitioning === undefined) return none
  const { whole, hint } = await database.partitioning.whole(db, inspection, request)
  const against = new Map<string, WholePartition[]>()
  const taken: WholePartition[] = []
  const cuts: WholeCut[] = []
  let left = limit
  for (const partition of whole) {
    const within = { ...due, where: sql<boolean>`(${partition.isIn} and ${due.where})` }
    const rows = await dueWhole(db, within, partition)
    if (rows === 0) continue
    const hold = holdByName(holds, partition.table)
    const why = hold === undefined ? partition.obstacle : `legal hold ${shortId(hold)} is on it`
    if (why !== undefined) {
      against.set(why, [...(against.get(why) ?? []), partition])
      continue
    }
    if (rows > left) break
    const first = await firstTime(db, within)
    const through = await lastTime(db, within)
    if (first === undefined || through === undefined) continue
    left -= rows
    taken.push(partition)
    cuts.push({ range: { from: [first], through }, rows, partition: partition.table })
  }
  const rest = taken.reduce<RowSelection['where']>(
    (where, { isElsewhere }) => sql<boolean>`(${isElsewhere} and ${where})`,
    due.where,
  )
  return {
    cuts,
    rest: { ...due, where: rest },
    findings: [...against].map(([why, partitions]) =>
      byRowsFinding(why, partitions, partitions[0]?.obstacle === why ? hint : undefined),
    ),
  }
}

/** How many rows a partition has, if all of them are due; else 0. */
async function dueWhole(db: Db, within: RowSelection, { isIn }: WholePartition): Promise<number> {
  const { rows } = await sql<{ rows: unknown; due: unknown }>`
    select count(*) as rows, count(*) filter (where ${within.where}) as due from ${within.table.sql} where ${isIn}
  `.execute(db)
  const [found] = rows
  return found !== undefined && Number(found.rows) === Number(found.due) ? Number(found.rows) : 0
}

function byRowsFinding(why: string, partitions: readonly WholePartition[], hint: string | undefined): Finding {
  const names = partitions.slice(0, 3).map(({ table }) => formatTableName(table))
  const more = partitions.length > names.length ? ` and ${partitions.length - names.length} more` : ''
  const text = `Rows of ${names.join(', ')}${more} are deleted, and the partition stays: ${why}`
  return { level: 'warning', text, ...(hint === undefined ? {} : { hint }) }
}
