/** What a run of the bench has measured, as results.json keeps it. */
import type { Asked } from './asked.ts'
import type { Beside } from './beside.ts'
import type { Growth } from './growth.ts'
import type { Overview } from './overview.ts'
import type { Partitioned } from './partitions.ts'
import type { Race } from './races.ts'
import type { Startup } from './startup.ts'

/** Grows as the bench goes on; what is not in it has not been measured. */
export interface Results {
  /** What was measured, and on what: programs with their versions, databases with their settings, the machine. */
  readonly about: readonly string[]
  readonly races: Race[]
  readonly asked: Asked[]
  readonly beside: Beside[]
  readonly overviews: Overview[]
  readonly growth: Growth[]
  partitioned?: Partitioned
  startup?: Startup
  /** What was left out, and why. */
  readonly skipped: string[]
}
