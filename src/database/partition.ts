/** Partitions that go and come back whole. */
import type { TableName } from '../config/fields.ts'
import type { InspectRequest, Inspection } from './inspection.ts'
import type { IncomingRows } from './restore-transaction.ts'
import type { StepTransaction } from './step-transaction.ts'
import type { Db, Finding, Sql } from './table.ts'

/** A partition, so that it can be made again. */
export interface Partition {
  readonly table: TableName
  /** The table that it is directly a partition of. */
  readonly of: TableName
  /** `FOR VALUES …`, as ATTACH PARTITION takes them. */
  readonly bounds: string
  /** Its rows have times from one up to the other, as `OrderPart.bind` takes them; null where there is no such end. */
  readonly from: string | null
  readonly to: string | null
  /** The statements that make it as a table of its own. */
  readonly ddl: readonly string[]
  /** Those that give it its owner and its grants. */
  readonly rights: readonly string[]
}

/** A partition that lies wholly before a cutoff. */
export interface WholePartition {
  readonly table: TableName
  /** True for its rows among those of the whole table. */
  readonly isIn: Sql<boolean>
  /** True for all others. */
  readonly isElsewhere: Sql<boolean>
  /** Why it cannot be dropped, in a few words; undefined where nothing is known against it. */
  readonly obstacle: string | undefined
}

/** What a database with partitioned tables can do with one of them. */
export interface Partitioning {
  /** The partitions of a table that lie wholly before the cutoff, the oldest first; none where it is not partitioned by time. */
  whole(db: Db, inspection: Inspection, request: InspectRequest): Promise<{ whole: WholePartition[]; hint?: string }>
  /** Begins a step that archives a partition and drops it. */
  step(request: InspectRequest, partition: TableName): Promise<StepTransaction>
}

/** Partitions that have been dropped, and that rows on their way back may need. */
export interface LostPartitions {
  readonly partitions: readonly Partition[]
  /** The column that aged the rows, and two times that no row lies outside of; undefined where they are not known. */
  readonly time: IncomingRows['time']
}

/** What became of lost partitions. */
export interface MadePartitions {
  readonly tables: readonly TableName[]
  readonly warnings: readonly Finding[]
}
