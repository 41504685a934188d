/** Progress bars on stderr, where that is a terminal. */
import { SingleBar } from 'cli-progress'

import type { RunEvent } from '../events.ts'
import { seconds } from './style.ts'

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

/**
 * Rows archived, policy by policy, with their rate and the time left; waits for production also where there is no terminal.
 * @param isOneOfMany several databases at the same time have no bar
 */
export function applyProgress(quiet: boolean, isOneOfMany: boolean): Bar<(event: RunEvent) => void> {
  if (quiet) return { update: () => {}, stop: () => {} }
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  if (!process.stderr.isTTY || isOneOfMany) {
    return {
      update: (event) => {
        const line = waitLine(event)
        if (line !== undefined) say(line)
      },
      stop: () => {},
    }
  }
  let bar: SingleBar | undefined
  let policy: string | undefined
  let started = 0
  return {
    update: (progress) => {
      const line = waitLine(progress)
      if (line !== undefined) {
        // Drawn anew below the line, once there is progress again.
        bar?.stop()
        bar = undefined
        say(line)
      }
      if (progress.type !== 'step-finished') return
      if (progress.policy !== policy) {
        bar?.stop()
        bar = undefined
        policy = progress.policy
        started = Date.now()
      }
      if (bar === undefined) {
        bar = new SingleBar({
          ...look,
          format: '{policy} {bar} {percentage}% · {value} of {total} rows · {rate} rows/s · {eta_formatted} left',
        })
        bar.start(progress.due, 0, { policy, rate: '…' })
      }
      const rate = Math.round(progress.rows / Math.max(0.001, (Date.now() - started) / 1000))
      bar.update(Math.min(progress.rows, progress.due), { policy, rate: rate.toLocaleString('en') })
    },
    stop: () => bar?.stop(),
  }
}

function waitLine(event: RunEvent): string | undefined {
  const before = event.database === undefined ? '' : `${event.database}: `
  if (event.type === 'wait-started') return `${before}${event.policy}: waiting: ${event.reason}`
  if (event.type === 'wait-finished')
    return `${before}${event.policy}: waited ${seconds(event.milliseconds)}: ${event.reason}`
  return undefined
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
