/** Does something after every step of a run. */
import type { RunEvent } from '../../src/index.ts'

export function afterStep(then: () => unknown): (event: RunEvent) => void {
  return ({ type }) => void (type === 'step-finished' && then())
}
