/** Runs the steps of a plan in lanes: several side by side, each lane one step after another. */
import { hasCode, messageOf, RetentionError } from '../errors.ts'

/**
 * Takes the steps in their order, each by the lane that is free first. When a step asks to stop, or fails, no lane
 * begins another, and those that are under way end as they end.
 * @param make makes one step in the lane of that number; returns whether the lane may go on
 * @throws what the step that failed threw; of several, one with the others in its message
 */
export async function inLanes<Step>(
  steps: readonly Step[],
  lanes: number,
  make: (step: Step, lane: number) => Promise<boolean>,
): Promise<void> {
  const waiting = steps.values()
  const failures: unknown[] = []
  let goesOn = true
  const run = async (lane: number): Promise<void> => {
    // All lanes take from the one iterator: no step is taken twice.
    for (const step of waiting) {
      if (!goesOn) return
      try {
        if (!(await make(step, lane))) goesOn = false
      } catch (error) {
        failures.push(error)
        goesOn = false
      }
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)))
  if (failures.length > 0) throw together(failures)
}

/** One error that tells of all: each may name an archive that somebody must look at. */
function together(failures: readonly unknown[]): unknown {
  // Of what failed when a server went away, the commit that nobody can tell about matters most.
  const [first, ...others] = failures.toSorted((a, b) => Number(isUnknown(b)) - Number(isUnknown(a)))
  if (!(first instanceof RetentionError)) return first
  const messages = new Set([first, ...others].map(messageOf))
  if (messages.size === 1) return first
  const { code, hint, cause } = first
  return new RetentionError(code, [...messages].join('; beside it: '), {
    ...(hint === undefined ? {} : { hint }),
    cause,
  })
}

function isUnknown(error: unknown): boolean {
  return hasCode(error, 'COMMIT_UNKNOWN')
}
