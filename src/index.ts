/** Everything the command line does, as functions. */
export { apply, plan, type ApplyOptions, type PlanOptions } from './apply/apply.ts'
export { check, type CheckedPolicy, type CheckReport } from './check.ts'
export type { ChildRows } from './plan/children.ts'
export { comparePlans, type PlanComparison, type PlannedPolicy, type PolicyComparison } from './compare.ts'
export { defineConfig, type ConfigInput } from './config/config.ts'
export type { DatabaseInput } from './config/databases.ts'
export { overDatabases, type DatabaseReport, type DatabasesReport } from './databases.ts'
export { erase, type EraseOptions } from './erase/erase.ts'
export { RetentionError, type ErrorCode } from './errors.ts'
export type { Duration, ObjectLock, Size, TargetInput } from './config/fields.ts'
export type { Candidate, Finding, Partition, Space } from './database/database.ts'
export {
  addHold,
  listHolds,
  releaseHold,
  type AddHoldOptions,
  type ListHoldsOptions,
  type ReleaseHoldOptions,
} from './hold.ts'
export { getArchive, type GetArchiveOptions } from './stored/get-archive.ts'
export { init, type InitChoice, type InitOptions, type InitReport } from './init.ts'
export type { RunEvent } from './events.ts'
export type { ErasedFile, Erasure } from './ledger/erasures.ts'
export type { Hold } from './ledger/hold.ts'
export type { ArchiveState, LedgerEntry, LedgerFile } from './ledger/ledger.ts'
export type { MovedFile } from './ledger/moves.ts'
export type { RunRecord } from './ledger/runs.ts'
export { move, type MoveOptions } from './move/move.ts'
export { definePolicy, type PolicyInput } from './config/policy.ts'
export type { Unplanned } from './config/data-policies.ts'
export type { AskForKey, KeyKind } from './config/keys.ts'
export { env, type Compress, type Encrypt, type EnvReference, type SealingInput } from './config/sealing.ts'
export type { EmailInput, NoticeInput, NoticeOn, WebhookInput } from './config/notices.ts'
export type { ThrottleInput } from './config/throttle.ts'
export type { ProjectOptions } from './config/project.ts'
export type {
  AddedHold,
  ApplyReport,
  ArchiveReport,
  ErasedArchiveReport,
  ErasedFileReport,
  EraseReport,
  ErasureRecord,
  GetReport,
  HoldList,
  HoldReport,
  ListedHold,
  MovedArchiveReport,
  MoveReport,
  PolicyReport,
  PolicyStanding,
  PolicyStatus,
  PrunedArchiveReport,
  PrunedPolicyReport,
  PruneReport,
  ScheduledPolicy,
  ScheduleReport,
  EnqueueReport,
  QueueCounts,
  QueuedRun,
  QueryColumn,
  QueryReport,
  QueryValue,
  QueryView,
  ReleasedHold,
  Repair,
  ReportedError,
  RestoredPart,
  RestoreReport,
  SpaceReport,
  StatusReport,
  Unopened,
  VerifyFinding,
  VerifyReport,
  NoticeFacts,
  NoticeMessage,
  NoticeReport,
  WaitReport,
} from './report.ts'
export { prune, type PruneOptions } from './prune/prune.ts'
export { listViews, query, streamQuery, type QueryOptions, type QueryStream } from './query/query.ts'
export type { ColumnChange } from './reshape.ts'
export { readArchive, type ReadArchiveOptions } from './stored/read-archive.ts'
export { restore, type RestoreOptions } from './restore/restore.ts'
export type { RestoreKey } from './restore/restore-options.ts'
export { retentionHandler, retentionMiddleware, type MountOptions } from './serve/mount.ts'
export { schedule, type ScheduleOptions } from './schedule/schedule.ts'
export { schedulePrint, type SchedulePrintOptions, type SchedulePrintReport } from './schedule/print.ts'
export type { ScheduleKind } from './schedule/kinds.ts'
export type { ScheduleInput } from './config/schedule.ts'
export { status, type StatusOptions } from './status.ts'
export { verify, type VerifyOptions } from './verify/verify.ts'
export { enqueue, queueStatus, startWorker, type Worker, type WorkerOptions } from './worker/worker.ts'
