/** How a service's failure is told: what could not be done, why, and what to do about it. */
import { RetentionError } from '../errors.ts'

/** What a failure means. */
export interface Explanation {
  readonly problem: string
  readonly hint?: string
}

/**
 * A failure as this package tells it; one of its own as it is. The service's error stays behind, with the credentials in it.
 * @param target the target's name
 * @param what could not be done, as in `cannot <what>`
 */
export function unusableTarget(
  target: string,
  what: string,
  error: unknown,
  explain: (error: unknown) => Explanation,
): RetentionError {
  if (error instanceof RetentionError) return error
  const { problem, hint } = explain(error)
  const text = `The target ${target} cannot ${what}: ${problem}`
  return new RetentionError('TARGET_UNUSABLE', text, hint === undefined ? {} : { hint })
}
