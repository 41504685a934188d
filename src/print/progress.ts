/** Progress bars on stderr, where that is a terminal. */
import { SingleBar } from 'cli-progress'

import type { Progress } from '../apply.ts'

interface Bar<Update extends (...values: never[]) => void> {
  update: Update
  stop: () => void
}

const look = {
  stream: process.stderr,
  barCompleteChar: '█',
  barIncompleteChar: '░',
  barsize: 24,
  hideCursor: true,
  clearOnComplete: true,
  etaBuffer: 20,
} as const

/** Rows archived, policy by policy, with their rate and the time left. */
export function progressBar(quiet: boolean): Bar<(progress: Progress) => void> {
  if (quiet || !process.stderr.isTTY) return { update: () => {}, stop: () => {} }
  let bar: SingleBar | undefined
  let policy: string | undefined
  let started = 0
  return {
    update: (progress) => {
      if (progress.policy !== policy) {
        bar?.stop()
        policy = progress.policy
        started = Date.now()
        bar = new SingleBar({
          ...look,
          format: '{policy} {bar} {percentage}% · {value} of {total} rows · {rate} rows/s · {eta_formatted} left',
        })
        bar.start(progress.due, 0, { policy, rate: '…' })
      }
      const rate = Math.round(progress.rows / Math.max(0.001, (Date.now() - started) / 1000))
      bar?.update(Math.min(progress.rows, progress.due), { policy, rate: rate.toLocaleString('en') })
    },
    stop: () => bar?.stop(),
  }
}

/** So many of so many. */
export function countBar(what: string, quiet: boolean): Bar<(done: number, all: number) => void> {
  if (quiet || !process.stderr.isTTY) return { update: () => {}, stop: () => {} }
  const bar = new SingleBar({ ...look, format: `{bar} {value} of {total} ${what}` })
  let begun = false
  return {
    update: (done, all) => {
      if (!begun) bar.start(all, 0)
      begun = true
      bar.update(done)
    },
    stop: () => bar.stop(),
  }
}
