/** What production feels, and from which point on apply waits for it: the `throttle` of a config or a policy. */
import * as v from 'valibot'

import { size, timeout, type Duration, type Size } from './fields.ts'

/**
 * When apply waits before a step. Each field may be turned off with `false`. A field that a policy leaves out is the
 * config's, and one that the config leaves out has its default.
 */
export interface ThrottleInput {
  /**
   * Postgres: how long a replica's replay, or a subscriber's, may be behind. Default `30s`: as long as a standby by itself
   * may put off replay in favour of its queries (`max_standby_streaming_delay`). A standby that is delayed on purpose
   * needs more than its delay, or `false`.
   * https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-MAX-STANDBY-STREAMING-DELAY
   */
  replicaLag?: Duration | false
  /**
   * Postgres: how much WAL may be kept for a replication slot, a replica or the archiver that has not taken it yet. Default
   * `10GB`: ten times what a server lets pile up between two checkpoints (`max_wal_size`), and far from a full disk. A slot
   * that the server is about to give up is waited for at any size.
   * https://www.postgresql.org/docs/current/view-pg-replication-slots.html
   */
  walBacklog?: Size | false
  /**
   * Postgres: how long another transaction of this database may have been open. Default `5m`. Until it ends, no vacuum can
   * give back what steps delete, and every reader of the table has to step over it.
   * https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-SPACE-RECOVERY
   */
  longTransaction?: Duration | false
  /**
   * Postgres: wait while a vacuum works on the table or one of its partitions. Default true. It is known by its lock, which
   * every role may see, and which ANALYZE and CREATE INDEX CONCURRENTLY take as well. Autovacuum is waited for only before
   * the first step: what comes later is most likely there because of what steps have deleted.
   * https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
   */
  autovacuum?: boolean
  /**
   * While others write, make small steps, and rest between them. Default true.
   *
   * SQLite has one writer at a time: steps hold the write lock for a few milliseconds. https://www.sqlite.org/isolation.html
   * On Postgres others count where they write more than five times a second, anywhere on the server: then one step is made
   * at a time, of at most 5000 rows, with a rest three times as long as it took.
   */
  busyWriters?: boolean
  /**
   * How long to wait at most. Default `5m`. Then lag and backlog end the policy, as more would do harm, with what is left
   * due (exit code 4); of a long transaction or a vacuum apply goes on, with a warning.
   */
  maxWait?: Duration
}

/** When apply waits, with all defaults filled in. What is undefined or false is not asked about. */
export interface Throttle {
  /** Milliseconds. */
  readonly replicaLag: number | undefined
  /** Bytes. */
  readonly walBacklog: number | undefined
  /** Milliseconds. */
  readonly longTransaction: number | undefined
  readonly autovacuum: boolean
  readonly busyWriters: boolean
  /** Milliseconds. */
  readonly maxWait: number
}

/** The fields of a throttle. */
export const throttleFields = [
  'replicaLag',
  'walBacklog',
  'longTransaction',
  'autovacuum',
  'busyWriters',
  'maxWait',
] as const

const defaults: Throttle = {
  replicaLag: 30_000,
  walBacklog: 10e9,
  longTransaction: 5 * 60_000,
  autovacuum: true,
  busyWriters: true,
  maxWait: 5 * 60_000,
}

const none: Throttle = {
  ...defaults,
  replicaLag: undefined,
  walBacklog: undefined,
  longTransaction: undefined,
  autovacuum: false,
  busyWriters: false,
}

const throttleAllowed = `false, or an object with ${throttleFields.join(', ')}`
const yesOrNo = v.optional(v.boolean('true or false'))

/** A limit that may be turned off. */
const limit = <Schema extends v.GenericSchema>(schema: Schema) =>
  v.lazy((input): v.GenericSchema<unknown, v.InferOutput<Schema> | false> =>
    // `lazy` takes one type of schema, and this is either.
    input === false ? v.literal(false) : (schema as v.GenericSchema<unknown, v.InferOutput<Schema>>),
  )

/** A `throttle`, its times and sizes turned into numbers; to be completed by `throttleOf`. */
export const throttle = v.lazy((input) =>
  input === false
    ? v.literal(false)
    : v.strictObject(
        {
          replicaLag: v.optional(limit(timeout)),
          walBacklog: v.optional(limit(size)),
          longTransaction: v.optional(limit(timeout)),
          autovacuum: yesOrNo,
          busyWriters: yesOrNo,
          maxWait: v.optional(timeout),
        },
        throttleAllowed,
      ),
)

/** A checked `throttle`. */
export type CheckedThrottle = v.InferOutput<typeof throttle>

/** The throttle of a policy: its own fields over the config's over the defaults. */
export function throttleOf(config: CheckedThrottle | undefined, policy: CheckedThrottle | undefined): Throttle {
  return over(over(defaults, config), policy)
}

function over(base: Throttle, given: CheckedThrottle | undefined): Throttle {
  if (given === undefined) return base
  if (given === false) return { ...none, maxWait: base.maxWait }
  const pick = (own: number | false | undefined, other: number | undefined): number | undefined =>
    own === false ? undefined : (own ?? other)
  return {
    replicaLag: pick(given.replicaLag, base.replicaLag),
    walBacklog: pick(given.walBacklog, base.walBacklog),
    longTransaction: pick(given.longTransaction, base.longTransaction),
    autovacuum: given.autovacuum ?? base.autovacuum,
    busyWriters: given.busyWriters ?? base.busyWriters,
    maxWait: given.maxWait ?? base.maxWait,
  }
}
