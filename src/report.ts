/** The reports that commands give: what `--json` prints, and what the library returns. */
import type { Unplanned } from './config/data-policies.ts'
import { withoutSecrets, type RetentionError } from './errors.ts'
import type { Finding, Space } from './database/database.ts'
import type { ChildRows } from './plan/children.ts'
import type { ErasedFile, Erasure } from './ledger/erasures.ts'
import type { Hold } from './ledger/hold.ts'
import type { ArchiveState, LedgerEntry } from './ledger/ledger.ts'
import type { MovedFile } from './ledger/moves.ts'
import type { RunRecord } from './ledger/runs.ts'
import type { ColumnChange } from './reshape.ts'

/** How a policy's run ended; in a dry run, how it would end. */
export type PolicyStatus = 'applied' | 'nothing-due' | 'partial' | 'refused' | 'locked' | 'failed' | 'interrupted'

/** An error as a report carries it. */
export interface ReportedError {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

/** One archive that was made, or that a plan would make. */
export interface ArchiveReport {
  readonly name: string
  readonly location: string
  readonly rows: number
  /** As stored; in a plan, an estimate. */
  readonly bytes: number
  /** Of the CSV; null in a plan. */
  readonly sha256: string | null
  /** No row's timestamp lies outside these two; ISO 8601. */
  readonly from: string
  readonly to: string
  /** The partition that was archived whole and dropped, or would be. */
  readonly partition?: string
}

/** What a policy's deleted rows have left behind; with `reclaim`, as it is afterwards. */
export interface SpaceReport extends Space {
  /** What `reclaim` came to; only where it was begun. */
  readonly reclaimed?: {
    /** Given back to the file system: by how much the files are smaller than before. */
    readonly bytes: number
    /** Postgres: dead rows that were removed, and so made room for new ones. */
    readonly deadRows?: number
  }
}

/** A wait for production. */
export interface WaitReport {
  /** What production felt when it began. */
  readonly reason: string
  readonly milliseconds: number
}

/** A legal hold that keeps rows which would go without it. */
export interface HoldReport extends Pick<Hold, 'id' | 'reason' | 'createdBy' | 'until' | 'where'> {
  readonly rows: number
}

/** What apply did for a policy, or would do. */
export interface PolicyReport {
  readonly policy: string
  readonly table: string
  /** What is done with due rows: `archive`, they go; `redact`, columns of them are overwritten. */
  readonly action: 'archive' | 'redact'
  /** With `redact`: the columns. */
  readonly redacts?: readonly string[]
  /** Rows before this instant are due; ISO 8601. */
  readonly cutoff: string
  /** Rows that were due at the start. */
  readonly due: number
  /** Rows that were archived, and deleted or redacted. */
  readonly archived: number
  /** Rows that were left because another transaction holds them. */
  readonly skipped: number
  /** How long steps were put off, and why; rests are not among them. */
  readonly waits: readonly WaitReport[]
  /** Rows past their time that stay: under a hold, or to keep their number from being used again. */
  readonly held: number
  /** The legal holds that keep some of them. */
  readonly holds: readonly HoldReport[]
  /** Rows without a usable time. */
  readonly undated: number
  /** Due rows that are left at the end. */
  readonly remaining: number
  readonly status: PolicyStatus
  readonly error?: ReportedError
  readonly warnings: readonly Finding[]
  readonly archives: readonly ArchiveReport[]
  /** With `children`: the tables that hang on the policy's, and how many of their rows went along, or would go. */
  readonly children?: readonly ChildRows[]
  /** Where rows were archived, and the database could still be asked. */
  readonly space?: SpaceReport
}

/** A notice, and whether it arrived. */
export interface NoticeReport {
  readonly to: 'webhook' | 'email' | 'slack' | 'ping'
  /** Why it was sent. */
  readonly on: 'success' | 'failure' | 'overdue' | 'always' | 'test'
  readonly sent: boolean
  readonly attempts: number
  readonly error?: string
}

/** What a notice says. Its paragraphs are set apart by empty lines. */
export interface NoticeMessage {
  readonly subject: string
  readonly text: string
}

/** What a notice is about. */
export type NoticeFacts =
  | {
      readonly type: 'run'
      readonly run: string
      /** Where the config has several. */
      readonly database?: string
      /** Of the policies that whoever is told wants to hear of; null where the run could not begin. */
      readonly report: ApplyReport | null
      /** Why it could not begin. */
      readonly error?: ReportedError
      /** Policies with rows that have been due for more than two days, or of which that could not be learned. */
      readonly overdue: readonly Pick<PolicyStanding, 'policy' | 'due' | 'oldest' | 'error'>[]
    }
  | { readonly type: 'test' }

/** What one run of apply did, or would do. */
export interface ApplyReport {
  readonly run: string
  readonly dryRun: boolean
  readonly startedAt: string
  readonly finishedAt: string
  readonly policies: readonly PolicyReport[]
  /** With `policiesFrom`: the policies that are not planned, and why. */
  readonly unplanned?: readonly Unplanned[]
  /** Only of a run that somebody was to be told of. */
  readonly notices?: readonly NoticeReport[]
}

/** How a policy stands. */
export interface PolicyStanding {
  readonly policy: string
  readonly table: string
  /** As in `PolicyReport`. */
  readonly action: 'archive' | 'redact'
  readonly cutoff: string
  readonly due: number
  readonly held: number
  readonly undated: number
  /** The oldest row's timestamp, ISO 8601; null where there is none. */
  readonly oldest: string | null
  /** Whether rows have been due for more than two days: apply does not run, or does not get through. */
  readonly overdue: boolean
  /** Rows in archives that have not been restored. */
  readonly archived: number
  readonly archives: number
  readonly archivedBytes: number
  /** How long its archives are kept, as written; null: for ever. */
  readonly expireAfter: string | null
  /** Archives that are older, restored ones too: those that `prune` would remove, unless something keeps them. */
  readonly expired: number
  /** When the next archive expires, ISO 8601; null where none will. */
  readonly nextExpiry: string | null
  /** When it last archived something. */
  readonly lastAppliedAt: string | null
  /** The last run of apply; null where there was none. */
  readonly lastRun: RunRecord | null
  /** When a run last ended with nothing left that was due; null where none has. */
  readonly lastSuccessAt: string | null
  /** Runs that failed or were refused, as far as the ledger goes back (two years). */
  readonly failedRuns: number
  /** The next time of its schedule, without jitter, as ISO 8601 in UTC; null where it has none. */
  readonly nextRunAt: string | null
  /** Whether the policy has changed since it last archived something. */
  readonly changed: boolean
  readonly holds: readonly Hold[]
  readonly warnings: readonly Finding[]
  readonly error?: ReportedError
}

/** An erasure, and the files that it took out of use. */
export interface ErasureRecord extends Erasure {
  readonly files: readonly ErasedFile[]
}

/** How all policies stand, and what the ledger holds. */
export interface StatusReport {
  readonly policies: readonly PolicyStanding[]
  readonly archives: readonly LedgerEntry[]
  /** What has been erased from archives: how much, why and by whom; the oldest first. */
  readonly erasures: readonly ErasureRecord[]
  /** Files of archives that have been moved, or were about to be, and whether they are gone from where they are of no use. */
  readonly moves: readonly MovedFile[]
  /** How policies fared in runs of the last 31 days, the latest first; at most 500. */
  readonly runs: readonly RunRecord[]
}

/** A policy's times. */
export interface ScheduledPolicy {
  readonly policy: string
  /** As it was written; null: it has none. */
  readonly cron: string | null
  readonly timezone: string
  /** The longest delay after each time, in milliseconds. */
  readonly jitter: number
  /** The latest run, whoever started it; null: none. */
  readonly lastRun: RunRecord | null
  /** The next three, ISO 8601, without jitter. */
  readonly next: readonly string[]
}

/** The times of policies. */
export interface ScheduleReport {
  readonly policies: readonly ScheduledPolicy[]
}

/** A legal hold that has been placed, and what it keeps by now. */
export interface AddedHold {
  readonly hold: Hold
  /** Rows of the table, or of the archive. */
  readonly rows: number
  /** Of them, those for which the predicate is unknown (NULL). */
  readonly unknown: number
  /** The names of the archives that it keeps. */
  readonly archives: readonly string[]
}

/** A hold in a list. */
export interface ListedHold extends Hold {
  /** `ended`: it was to hold until a time that has come. */
  readonly state: 'in-force' | 'ended' | 'released'
}

/** Holds, the oldest first. */
export interface HoldList {
  readonly holds: readonly ListedHold[]
}

/** A hold that has been released. */
export interface ReleasedHold {
  readonly hold: Hold
}

/** What restore did, or would do. */
export interface RestoreReport {
  readonly archive: string
  readonly location: string
  readonly table: string
  readonly dryRun: boolean
  /** What became of the archive's columns, and where the table's others got their values from. */
  readonly columns: readonly ColumnChange[]
  /** Rows in the archive. */
  readonly rows: number
  /** Rows of it that were asked for: all, or those that `where` and `keys` choose. */
  readonly selected: number
  /** Rows that were put into the table. */
  readonly restored: number
  /** Rows whose key was in the table already. */
  readonly conflicts: number
  /** Partitions that were made again for the rows. */
  readonly partitions: readonly string[]
  /** Until when apply leaves the rows alone: an instant, `forever`, or null where no hold was placed. */
  readonly heldUntil: string | null
  /** What the ledger has the archive as then: `restored` once all it holds is in the table; null where it does not know it. */
  readonly state: ArchiveState | null
  readonly warnings: readonly Finding[]
  /** The columns of rows that had stayed, and got again what they held; only of the archive of a redaction. */
  readonly redacted?: readonly string[]
  /** What came back along with the rows; only of an archive that has more than one file. */
  readonly children?: readonly RestoredPart[]
}

/** A further file of an archive that was restored. */
export interface RestoredPart {
  readonly table: string
  /** Rows in the file. */
  readonly rows: number
  /** Rows that were put into the table; of a file of references, those that were set again. */
  readonly restored: number
  /** Rows whose key was in the table already. */
  readonly conflicts: number
  /** Whether it is a file of references. */
  readonly references: boolean
}

/** What an erasure takes from a file of an archive, or would take. */
export interface ErasedFileReport {
  readonly file: string
  readonly table: string
  /** Rows in the file. */
  readonly rows: number
  readonly erased: number
  /** Rows that match, or refer to one that does, and that legal holds keep. */
  readonly held: number
  /** Whether it is a file of references. */
  readonly references: boolean
}

/** What an erasure does to an archive, or would do. */
export interface ErasedArchiveReport {
  readonly name: string
  readonly location: string
  readonly state: 'archived' | 'restored'
  /** The archive that has the rest of its rows now; null where none has. */
  readonly after: string | null
  /** Rows of all its tables that are erased, and that legal holds keep. */
  readonly erased: number
  readonly held: number
  /** The policy's own table first. */
  readonly files: readonly ErasedFileReport[]
  /** The legal holds that keep some of them. */
  readonly holds: readonly Omit<HoldReport, 'where'>[]
  /** Why nothing was erased from it; or where something was, why its old files are there still. */
  readonly error?: ReportedError
}

/** What erase did, or would do. Which rows were asked for is no part of it: that would be the person's data. */
export interface EraseReport {
  readonly policy: string
  /** The table that the rows are of. */
  readonly table: string
  readonly reason: string
  readonly by: string
  readonly dryRun: boolean
  /** Under which the ledger keeps what was done; null where nothing was. */
  readonly erasure: string | null
  /** Archives that were looked at. */
  readonly checked: number
  /** Those of them that have matching rows, or could not be asked. */
  readonly archives: readonly ErasedArchiveReport[]
  /** Rows of all tables. */
  readonly erased: number
  readonly held: number
  /** Matching rows in the table itself, which erase does not touch; null where it cannot be asked. */
  readonly live: number | null
  /** Files that an erasure or a move which was cut off had left, and that were removed now; in a dry run, that would be. */
  readonly removed: readonly string[]
  /** Why some of those are there still. */
  readonly left: readonly ReportedError[]
  readonly warnings: readonly Finding[]
}

/** What a move does with an archive, or would do. */
export interface MovedArchiveReport {
  readonly name: string
  readonly state: 'archived' | 'restored'
  /** Of the policy's own table. */
  readonly rows: number
  /** Of all its CSVs, as stored. */
  readonly bytes: number
  /** Where it was, and where it is then. */
  readonly from: string
  readonly to: string
  /** Whether the ledger has gone over; in a dry run, whether nothing that can be seen would stand against it. */
  readonly moved: boolean
  /** Why it has not been moved; or where it has, why its old files are there still. */
  readonly error?: ReportedError
}

/** What move did, or would do. */
export interface MoveReport {
  readonly policy: string
  /** The target, as the config writes it, or as it was given. */
  readonly to: string
  readonly by: string
  readonly dryRun: boolean
  /** Archives that were moved, or would be, and their size in bytes. */
  readonly moved: number
  readonly bytes: number
  /** Archives that were there already. */
  readonly there: number
  /** Those that were not. */
  readonly archives: readonly MovedArchiveReport[]
  /** Files that a move or an erasure which was cut off had left, and that were removed now; in a dry run, that would be. */
  readonly removed: readonly string[]
  /** Why some of those are there still. */
  readonly left: readonly ReportedError[]
  readonly warnings: readonly Finding[]
}

/** An archive that has outlived its retention, and what becomes of it, or would. */
export interface PrunedArchiveReport {
  readonly name: string
  readonly location: string
  readonly state: 'archived' | 'restored'
  readonly archivedAt: string
  /** Since when it may be pruned. */
  readonly expiredAt: string
  /** Of the policy's own table. */
  readonly rows: number
  /** Of all its CSVs, as stored. */
  readonly bytes: number
  /** Of the policy's own CSV. */
  readonly sha256: string
  /** Whether the ledger has it as pruned now; in a dry run, whether it would. */
  readonly pruned: boolean
  /** Whether its files were gone already: removed by a rule of the service's own, say. */
  readonly gone: boolean
  /** The legal holds that keep it. */
  readonly holds: readonly Pick<Hold, 'id' | 'reason' | 'createdBy' | 'until'>[]
  /** Why it was not pruned; or where it was, why its files are there still. */
  readonly error?: ReportedError
}

/** What prune did for a policy, or would do. */
export interface PrunedPolicyReport {
  readonly policy: string
  /** How long its archives are kept, as written; null: for ever. */
  readonly expireAfter: string | null
  /** When the next of its archives expires, of those that have not; null where none will. */
  readonly nextExpiry: string | null
  /** Those that have expired, the oldest first. */
  readonly archives: readonly PrunedArchiveReport[]
  /** How many of them were pruned, or would be, and their size in bytes. */
  readonly pruned: number
  readonly bytes: number
  /** Files that a prune which was cut off had left, or an erasure or a move, and that were removed now; in a dry run, would be. */
  readonly removed: readonly string[]
  /** Why some of those are there still. */
  readonly left: readonly ReportedError[]
  /** Why nothing was done for the policy at all. */
  readonly error?: ReportedError
}

/** What prune did, or would do. */
export interface PruneReport {
  readonly dryRun: boolean
  readonly by: string
  readonly policies: readonly PrunedPolicyReport[]
  readonly warnings: readonly Finding[]
}

/** What get has put into a folder. */
export interface GetReport {
  readonly archive: string
  /** Its CSVs, or the files that hold them: the policy's own table first. */
  readonly files: readonly { readonly name: string; readonly location: string; readonly rows: number }[]
  /** Where the manifest is; null where it was lost. */
  readonly manifest: string | null
}

/** A value of an answer, as JSON has it: exact. What JSON's numbers do not hold, and times, are text. */
export type QueryValue = string | number | boolean | null | QueryValue[] | { [name: string]: QueryValue }

/** A column of a view or of an answer, with its type in DuckDB. */
export interface QueryColumn {
  readonly name: string
  readonly type: string
}

/** The answer to a query. */
export interface QueryReport {
  readonly columns: readonly QueryColumn[]
  /** Each a value for each column. */
  readonly rows: readonly (readonly QueryValue[])[]
  /** The archives that were read, by name. */
  readonly archives: readonly string[]
  /** Columns of SQLite that were read as text, and why. */
  readonly notes: readonly string[]
}

/** What a query can ask: the archives of a policy, or those of a table whose rows went along. */
export interface QueryView {
  readonly name: string
  readonly columns: readonly QueryColumn[]
  readonly archives: number
  readonly rows: number
}

/** What is wrong with a file. */
export interface VerifyFinding {
  /**
   * `returned`: rows of an archive are in the table as well. `erased`: rows were erased from it, and it is there still. `moved`: the
   * archive is at another target, and this copy is there still. `pruned`: its archive was pruned, and it is there still.
   * `unseen`: one of these three, of which nobody here can tell whether it is there still.
   */
  readonly kind: 'missing' | 'changed' | 'orphan' | 'returned' | 'erased' | 'moved' | 'pruned' | 'unseen'
  readonly name: string
  readonly location: string
  readonly text: string
}

/** What is to be done with a file that the ledger does not know. */
export interface Repair {
  readonly name: string
  readonly location: string
  /**
   * `adopt`: record it in the ledger. `set-aside`: move it to `set-aside` in its folder. `remove`: rows were erased from it, or
   * its archive is at another target or was pruned, and only its removal was left to do. `forget`: such a file is not to be seen, and its place may be no more. `leave`: it is for
   * somebody to decide.
   */
  readonly action: 'adopt' | 'set-aside' | 'remove' | 'forget' | 'leave'
  /** Why. */
  readonly text: string
  /** Whether it is done only when somebody who was asked agrees. */
  readonly asks: boolean
  readonly done: boolean
}

/** A sealed file whose key was not at hand: its bytes are those that were stored, and nobody has looked at its rows. */
export interface Unopened {
  readonly name: string
  readonly location: string
  /** Why. */
  readonly text: string
}

/** What verify found. */
export interface VerifyReport {
  /** Archives that were checked. */
  readonly checked: number
  readonly rows: number
  readonly bytes: number
  readonly findings: readonly VerifyFinding[]
  /** Sealed files of which only the stored bytes were checked. They are as the ledger says. */
  readonly unopened: readonly Unopened[]
  /** Files that a run which is under way is about to record. */
  readonly inProgress: readonly string[]
  /** What a repair has done, or proposes; of orphans that are repaired there is no finding. */
  readonly repairs: readonly Repair[]
}

/** What is to be applied. */
export interface QueuedRun {
  /** One of several databases; undefined: the only one. */
  readonly database?: string
  /** Undefined: all of them. */
  readonly policies?: readonly string[]
}

/** What has been put into the queue. */
export interface EnqueueReport {
  readonly queued: readonly QueuedRun[]
  /** Those that waited or were at work already. */
  readonly already: readonly QueuedRun[]
}

/** How many runs wait, are at work, and have failed too often. */
export interface QueueCounts {
  readonly waiting: number
  readonly active: number
  readonly dead: number
}

/** An error as a report carries it. */
export function reported(error: RetentionError): ReportedError {
  const { code, message, hint } = error
  return { code, message: withoutSecrets(message), ...(hint === undefined ? {} : { hint: withoutSecrets(hint) }) }
}
