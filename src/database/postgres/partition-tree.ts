/** Finds a table's partitions without locking them. */
import { sql } from 'kysely'

import type { Sql } from '../database.ts'

/**
 * A table and all its partitions, as a query with `relid`, `parentrelid` and `level`. `pg_partition_tree` would lock each of
 * them until the transaction ends: a step that reads one partition would keep all others from being dropped.
 * @param oid the table's number
 */
export function partitionTree(oid: Sql): Sql {
  return sql`(
    with recursive tree(relid, parentrelid, level) as (
      select ${oid}, null::oid, 0
      union all
      select c.oid, i.inhparent, tree.level + 1
      from tree join pg_inherits i on i.inhparent = tree.relid and not i.inhdetachpending
      join pg_class c on c.oid = i.inhrelid and c.relispartition
    )
    select relid, parentrelid, level from tree
  )`
}
