/** Finds the partitions of a table that lie wholly before a cutoff. */
import { sql } from 'kysely'

import { formatTableName, type TableName } from '../../config/fields.ts'
import type { Db, Inspection, InspectRequest, Sql, WholePartition } from '../database.ts'
import { rangeOf } from './partition-bounds.ts'
import { obstacleTo } from './partition-obstacles.ts'
import { partitionTree } from './partition-tree.ts'
import { findTable, type CatalogTable } from './table.ts'
import { cutoffAs } from './time.ts'

/** A table without partitions of its own that is one, at any depth. */
export interface Leaf {
  readonly oid: string
  readonly table: TableName
  /** The table that it is directly a partition of. */
  readonly of: TableName
  readonly bounds: string
  /** Its rows have times from one up to the other, as text; null where there is no such end. */
  readonly from: string | null
  readonly to: string | null
  /** Whether a row may have the very time of the end: where the key goes on with other columns. */
  readonly hasEnd: boolean
  /** Whether no other partition has rows of these times. */
  readonly isAlone: boolean
}

/** Partitions that could be dropped, and what may be done about what stands against it. */
interface Found {
  readonly whole: WholePartition[]
  readonly hint?: string
}

/**
 * The partitions that lie wholly before the cutoff, the oldest first.
 * @param drops as for `obstacleTo`
 */
export async function wholePartitions(
  db: Db,
  { table: inspected, column }: Inspection,
  request: InspectRequest,
  drops: boolean,
): Promise<Found> {
  const table = inspected?.hasPartitions === true ? await findTable(db, inspected.name) : undefined
  const time = table?.columns.find(({ name }) => name === column)
  const cutoff = time === undefined ? undefined : cutoffAs(time, request.cutoff, request.columnTimezone)
  if (table === undefined || time === undefined || cutoff === undefined) return { whole: [] }
  const type = sql.raw(time.type)
  const leaves = (await leavesOf(db, table, column)).filter(({ to }) => to !== null)
  const { rows } = await sql<{ n: string }>`
    select n::text from unnest(${leaves.map(({ to }) => to)}::text[], ${leaves.map(({ hasEnd }) => hasEnd)}::boolean[])
      with ordinality as bound(value, "hasEnd", n)
    where cast(value as ${type}) < ${cutoff} or not "hasEnd" and cast(value as ${type}) = ${cutoff}
    order by cast(value as ${type})
  `.execute(db)
  const whole: WholePartition[] = []
  let hint: string | undefined
  for (const { n } of rows) {
    const leaf = leaves[Number(n) - 1]
    if (leaf === undefined) continue
    const against = await obstacleTo(db, leaf, drops)
    hint ??= against?.hint
    whole.push({ table: leaf.table, ...placeOf(leaf, sql.id(column), type), obstacle: against?.text })
  }
  return hint === undefined ? { whole } : { whole, hint }
}

/** One of a table's partitions without partitions of its own. */
export async function findLeaf(
  db: Db,
  table: CatalogTable,
  column: string,
  name: TableName,
): Promise<Leaf | undefined> {
  const wanted = formatTableName(name)
  return (await leavesOf(db, table, column)).find((leaf) => formatTableName(leaf.table) === wanted)
}

interface Node {
  oid: string
  parent: string
  isLeaf: boolean
  schema: string
  name: string
  ofSchema: string
  ofName: string
  bounds: string
  /** Whether the table that it is a part of is cut by ranges of the column, and then by how many more. */
  byColumn: boolean
  keyColumns: number
}

/** The partitions without partitions of their own. Each lies within all that it is a part of. */
async function leavesOf(db: Db, table: CatalogTable, column: string): Promise<Leaf[]> {
  const { rows } = await sql<Node>`
    select
      t.relid::oid::text as oid, t.parentrelid::oid::text as parent, c.relkind = 'r' as "isLeaf",
      n.nspname::text as schema, c.relname::text as name, pn.nspname::text as "ofSchema", p.relname::text as "ofName",
      pg_get_expr(c.relpartbound, c.oid) as bounds,
      k.partstrat = 'r' and coalesce(a.attname = ${column}, false) as "byColumn", k.partnatts::int as "keyColumns"
    from ${partitionTree(sql`${table.oid}::oid`)} t
    join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace
    join pg_class p on p.oid = t.parentrelid join pg_namespace pn on pn.oid = p.relnamespace
    join pg_partitioned_table k on k.partrelid = t.parentrelid
    left join pg_attribute a on a.attrelid = k.partrelid and a.attnum = k.partattrs[0]
    where t.level > 0
    order by t.level, c.oid
  `.execute(db)
  const known = new Map<string, Pick<Leaf, 'from' | 'to' | 'hasEnd'>>()
  for (const { oid, parent, byColumn, keyColumns, bounds } of rows) {
    const around = known.get(parent) ?? { from: null, to: null, hasEnd: false }
    const own = byColumn ? rangeOf(bounds) : undefined
    // An end that its own range does not have is the one around it.
    const { to, hasEnd } = own === undefined || own.to === null ? around : { to: own.to, hasEnd: keyColumns > 1 }
    known.set(oid, { from: own?.from ?? around.from, to, hasEnd })
  }
  return rows.flatMap((node) => {
    const range = known.get(node.oid)
    if (range === undefined || !node.isLeaf) return []
    return {
      oid: node.oid,
      table: { schema: node.schema, name: node.name },
      of: { schema: node.ofSchema, name: node.ofName },
      bounds: node.bounds,
      ...range,
      isAlone: node.parent === table.oid && node.byColumn && node.keyColumns === 1,
    }
  })
}

/** Where a partition's rows are, in words that let the planner leave out other partitions. */
function placeOf(leaf: Leaf, column: Sql, type: Sql): Pick<WholePartition, 'isIn' | 'isElsewhere'> {
  const { from, to, oid, hasEnd, isAlone } = leaf
  const isSelf = sql`tableoid = ${oid}::oid`
  const isAfter = from === null ? [] : [sql`${column} >= cast(${from} as ${type})`]
  const isBefore = to === null ? [] : [sql`${column} ${hasEnd ? sql`<=` : sql`<`} cast(${to} as ${type})`]
  return {
    isIn: sql<boolean>`(${sql.join([isSelf, ...isAfter, ...isBefore], sql` and `)})`,
    isElsewhere: isAlone
      ? sql<boolean>`not (${sql.join([...isAfter, ...isBefore], sql` and `)})`
      : sql<boolean>`not ${isSelf}`,
  }
}
