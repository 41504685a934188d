/** What a look at a policy's table brings up. */
import type { TableName } from '../config/fields.ts'
import type { Cutoff } from '../cutoff.ts'
import type { Redaction, SetValues } from './redaction.ts'
import type { Finding, OrderPart, Table, TimeColumn } from './table.ts'
import type { Children, Tree } from './tree.ts'

/** A policy's table and time column, as far as they could be made out, and what was found about them. */
export interface Inspection {
  readonly table: Table | undefined
  /** The time column's own name; SQLite does not mind how a policy writes it. */
  readonly column: string
  readonly time: TimeColumn | undefined
  /** The time column, then what tells rows with equal times apart. */
  readonly order: readonly OrderPart[]
  readonly findings: readonly Finding[]
  /** Whether steps may be under way side by side: not where deleting a row changes others, which they could both wait for. */
  readonly sideBySide: boolean
  /** Rows without a usable time, where looking for how time is stored has counted them. */
  readonly undated?: number
  /** What hangs on the table; where it was asked for, and the table could be looked at so far. */
  readonly tree?: Tree
  /** How its rows are overwritten, where that was asked for. */
  readonly redaction?: Redaction
}

/** What is asked of a table. */
export interface InspectRequest {
  readonly table: TableName
  readonly column: string
  readonly where: string | undefined
  readonly columnTimezone: string
  readonly cutoff: Cutoff
  /** Which tables' rows may go along with its own; undefined: none. */
  readonly children: Children | undefined
  /** What columns of its rows are to be overwritten with; undefined: the rows go. */
  readonly set?: SetValues | undefined
  /**
   * `TimeColumn.storage` as found before: the table has been looked at in this run, and what asks for reading its rows
   * is not asked again.
   */
  readonly storage?: string | undefined
  /** Whether the policy has worked before: then a column without any usable time is one whose dated rows have gone. */
  readonly hasWorked?: boolean
}
