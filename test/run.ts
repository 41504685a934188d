/**
 * Runs the tests: starts Postgres, runs every test file in a process of its own, and prints `N passed, N failed`.
 *
 * uvu alone reports some failures as success (a `before` that throws, a test file that forgets to run its suite): here
 * a file passes only if it ended well, ran at least one test, and every registered test passed.
 *
 * `npm test` runs all; `npm test -- csv types` runs the files whose names contain one of these words.
 */
import { spawn } from 'node:child_process'
import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { startCluster } from './support/cluster.ts'

interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly output: string
  readonly seconds: number
}

/** One more than a small machine has cores: tests also wait, for locks and disks. Postgres serves them all. */
const concurrency = 3

const folder = import.meta.dirname
const words = process.argv.slice(2)
const isLong = (file: string): boolean =>
  /^(cli|concurrency|faults|repair|space|throttle|torture|traffic|trial)\./.test(file)
const files = globSync('*.test.ts', { cwd: folder })
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  // The longest first, so that at the end no core waits for one file.
  .toSorted((a, b) => Number(isLong(b)) - Number(isLong(a)) || (a < b ? -1 : 1))

// A server of one's own, another version say, may take the place of the one that is started here.
const { TEST_POSTGRES: given } = process.env
const cluster = given === undefined ? await startCluster() : { address: given, stop: async () => {} }
// Many tests start the command line: compiled once, it starts in two thirds of the time.
const compiled = mkdtempSync(path.join(tmpdir(), 'retention-compiled-'))
const outcomes: Outcome[] = []
try {
  const waiting = [...files]
  const work = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const outcome = await runFile(file, cluster.address)
      outcomes.push(outcome)
      console.log(
        `${outcome.failed === 0 ? 'ok  ' : 'FAIL'} ${file}  ${outcome.passed} passed, ${outcome.seconds.toFixed(1)} s`,
      )
      if (outcome.failed > 0) console.log(outcome.output)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
} finally {
  await cluster.stop()
  rmSync(compiled, { recursive: true, force: true })
}

const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0)
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed, 0)
const bad = failed > 0 || passed === 0 || outcomes.length !== files.length
console.log(`\n${passed} passed, ${bad ? Math.max(1, failed) : 0} failed`)
process.exit(bad ? 1 : 0)

async function runFile(file: string, address: string): Promise<Outcome> {
  const started = Date.now()
  const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve) => {
    const child = spawn(process.execPath, [path.join(folder, file)], {
      env: { ...process.env, FORCE_COLOR: '0', TEST_POSTGRES: address, NODE_COMPILE_CACHE: compiled },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.on('close', (exit) => resolve({ code: exit, output: text }))
  })
  const count = (label: string): number =>
    Number(new RegExp(`^\\s*${label}:\\s+(\\d+)\\s*$`, 'm').exec(output)?.[1] ?? Number.NaN)
  const [total, passedHere, skipped] = [count('Total'), count('Passed'), count('Skipped')]
  const good = code === 0 && total > 0 && passedHere === total && skipped === 0
  const known = Number.isNaN(passedHere) ? 0 : passedHere
  return {
    file,
    passed: known,
    failed: good ? 0 : Math.max(1, (Number.isNaN(total) ? 0 : total) - known),
    output,
    seconds: (Date.now() - started) / 1000,
  }
}
