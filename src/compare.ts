/** Two plans side by side: what other policies would change. Pure. */
import { RetentionError } from './errors.ts'
import type { ApplyReport, PolicyReport } from './report.ts'

/** What a plan tells of a policy, as far as it is compared. */
export interface PlannedPolicy extends Pick<PolicyReport, 'table' | 'action' | 'cutoff' | 'due' | 'status'> {
  readonly redacts?: readonly string[] | undefined
  readonly error?: PolicyReport['error'] | undefined
}

/** A policy before and after. */
export interface PolicyComparison {
  readonly policy: string
  /** `changed`: it takes other rows, or does something else with them; `unplanned`: nobody has looked. */
  readonly change: 'new' | 'removed' | 'changed' | 'unchanged' | 'unplanned'
  /** What has changed of it. */
  readonly differs: readonly ('table' | 'action' | 'redacts' | 'cutoff' | 'due')[]
  readonly before?: PlannedPolicy
  readonly after?: PlannedPolicy
  /** Why it is not planned. */
  readonly reason?: string
}

/** All policies of two plans, sorted by name. */
export interface PlanComparison {
  /** Undefined where there was nothing to compare with. */
  readonly hasBefore: boolean
  readonly policies: readonly PolicyComparison[]
}

/**
 * Compares two plans.
 * @param before a report of `plan`; undefined: there is none, and all policies are only listed
 */
export function comparePlans(before: Pick<ApplyReport, 'policies'> | undefined, after: ApplyReport): PlanComparison {
  const earlier = new Map(before?.policies.map((report) => [report.policy, plannedPolicy(report)]))
  const later = new Map(after.policies.map((report) => [report.policy, plannedPolicy(report)]))
  const reasons = new Map(after.unplanned?.map(({ policy, reason }) => [policy, reason]))
  const names = [...new Set([...earlier.keys(), ...later.keys(), ...reasons.keys()])].toSorted()
  return {
    hasBefore: before !== undefined,
    policies: names.map((policy): PolicyComparison => {
      const [was, is, reason] = [earlier.get(policy), later.get(policy), reasons.get(policy)]
      const differs =
        was === undefined || is === undefined ? [] : fields.filter((field) => isOther(was[field], is[field]))
      return {
        policy,
        change: changeOf(was, is, reason, differs.length > 0, before !== undefined),
        differs,
        ...(was === undefined ? {} : { before: was }),
        ...(is === undefined ? {} : { after: is }),
        ...(reason === undefined ? {} : { reason }),
      }
    }),
  }
}

const fields = ['table', 'action', 'redacts', 'cutoff', 'due'] as const

function changeOf(
  was: PlannedPolicy | undefined,
  is: PlannedPolicy | undefined,
  reason: string | undefined,
  isChanged: boolean,
  hasBefore: boolean,
): PolicyComparison['change'] {
  if (reason !== undefined) return 'unplanned'
  if (is === undefined) return 'removed'
  if (was === undefined) return hasBefore ? 'new' : 'unchanged'
  return isChanged ? 'changed' : 'unchanged'
}

function isOther(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) !== JSON.stringify(other)
}

function plannedPolicy({ table, action, redacts, cutoff, due, status, error }: PolicyReport): PlannedPolicy {
  return { table, action, redacts, cutoff, due, status, error }
}

/**
 * The plan in what `retention plan --json` has printed.
 * @param database whose, where the config has several
 * @throws RetentionError `USAGE` where it is none
 */
export function readPlan(text: string, database: string | undefined): Pick<ApplyReport, 'policies'> {
  const wrong = new RetentionError('USAGE', 'The file to compare with is not a plan of these databases', {
    hint: 'Make one with "retention plan --json > plan.json".',
  })
  let printed: unknown
  try {
    printed = JSON.parse(text)
  } catch {
    throw wrong
  }
  const report = database === undefined || !has(printed, 'databases') ? printed : reportIn(printed.databases, database)
  if (!has(report, 'policies') || !Array.isArray(report.policies) || !report.policies.every(isReport)) throw wrong
  return { policies: report.policies }
}

function reportIn(databases: unknown, name: string): unknown {
  const all: unknown[] = Array.isArray(databases) ? databases : []
  const found = all.find((one) => has(one, 'database') && one.database === name)
  return has(found, 'report') ? found.report : undefined
}

function has<Key extends string>(value: unknown, key: Key): value is Record<Key, unknown> {
  return typeof value === 'object' && value !== null && key in value
}

/** Of the fields that are compared; the rest is not read. */
function isReport(value: unknown): value is PolicyReport {
  const texts = ['policy', 'table', 'action', 'cutoff', 'status']
  return (
    texts.every((key) => has(value, key) && typeof value[key] === 'string') &&
    has(value, 'due') &&
    typeof value.due === 'number'
  )
}
