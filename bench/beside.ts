/** A writer beside apply: what its operations take while it is alone, and while apply runs on the same table. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { due } from './data.ts'
import type { Copy, Database, Kind } from './databases.ts'
import { measure, median, quantile, say } from './measure.ts'
import { retention, writeProject } from './project.ts'
import type { Written } from './writer.ts'

/** What operations took, in milliseconds. */
interface Latency {
  readonly operations: number
  readonly median: number
  readonly p99: number
  readonly longest: number
}

export interface Beside {
  readonly kind: Kind
  readonly gentle: boolean
  /** Undefined where retention does not know the policy's field. */
  readonly measured:
    | {
        readonly alone: Latency
        readonly beside: Latency
        /** Operations that the writer gave up. */
        readonly failed: number
        /** What apply archived in a second, the writer beside it. */
        readonly rowsPerSecond: number
      }
    | undefined
}

/** So many operations alone and beside apply make a p99; a small log has to do with fewer. */
const enough = 2000
/** As many runs of apply at most: where apply is quick, fewer operations have to do. */
const mostCopies = 5
/** The writer's first operations find caches and connections cold, and are not counted; in milliseconds. */
const warmUp = 1000
/** After so long apply begins no new step. */
const timeLimit = '30s'
/** Of the writer's operations, in a second. */
const pace = 200

/**
 * Measures on as many copies as it takes for enough operations.
 * @throws Error when apply or the writer fails
 */
export async function besideApply(database: Database, source: Copy, rows: number, gentle: boolean): Promise<Beside> {
  const { kind } = database
  const policy = gentle ? { gentle } : {}
  if (gentle && !(await knows(database, source, policy))) return { kind, gentle, measured: undefined }
  const operations = Math.min(enough, rows / 100)
  const [alone, beside, speeds]: [number[], number[], number[]] = [[], [], []]
  let failed = 0
  for (let copies = 0; copies < mostCopies && beside.length < operations; copies += 1) {
    const copy = await database.copy(source)
    writeProject(copy, policy)
    const writer = await startWriter(copy, rows)
    await sleep(warmUp)
    const begun = Date.now()
    await sleep((operations / pace) * 1000)
    const started = Date.now()
    const { written, seconds, ended } = await applyBeside(writer, copy)
    const [left = 0] = await database.ask(copy, `select count(*) from conversation_log where ${due}`)
    if (left >= rows / 2) throw new Error('retention apply archived nothing beside a writer')
    const dueWithin = (from: number, to: number): number[] =>
      written.operations.filter(([at]) => at >= from && at < to).map(([, took]) => took)
    alone.push(...dueWithin(begun, started))
    beside.push(...dueWithin(started, ended))
    failed += written.failed
    speeds.push((rows / 2 - left) / seconds)
    await database.drop(copy)
  }
  const measured = { alone: latency(alone), beside: latency(beside), failed, rowsPerSecond: median(speeds) }
  say(
    `  ${gentle ? 'gentle' : 'default'}: p99 ${measured.alone.p99.toFixed(1)} ms alone, ${measured.beside.p99.toFixed(1)} ms beside apply`,
  )
  return { kind, gentle, measured }
}

/** Runs apply, and stops the writer when it ends or fails. */
async function applyBeside(writer: Writer, copy: Copy): Promise<{ written: Written; seconds: number; ended: number }> {
  try {
    // Gently, a million rows may take most of an hour: with the time over, apply ends with 4.
    const { seconds } = await measure({ ...retention(['apply', '--max-time', timeLimit], copy), mayEndWith: [0, 4] })
    return { seconds, ended: Date.now(), written: await writer.stop() }
  } catch (error) {
    await writer.stop()
    throw error
  }
}

function latency(milliseconds: readonly number[]): Latency {
  return {
    operations: milliseconds.length,
    median: median(milliseconds),
    p99: quantile(milliseconds, 0.99),
    longest: Math.max(...milliseconds),
  }
}

/** Whether retention takes a policy with a field that it may not have yet. */
async function knows(database: Database, source: Copy, policy: Record<string, unknown>): Promise<boolean> {
  const copy = await database.copy(source)
  writeProject(copy, policy)
  try {
    await measure(retention(['plan'], copy))
    return true
  } catch (error) {
    if (/ended with 2:[^]*gentle/.test(String(error))) return false
    throw error
  } finally {
    await database.drop(copy)
  }
}

interface Writer {
  stop(): Promise<Written>
}

/** Starts the writer, and waits until it writes. */
async function startWriter(copy: Copy, rows: number): Promise<Writer> {
  const file = path.join(import.meta.dirname, 'writer.ts')
  const child = spawn(process.execPath, [file, copy.address, `${rows}`, `${pace}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (said += text))
  const ended = once(child, 'close')
  await Promise.race([once(child.stdout, 'data'), ended])
  return {
    stop: async () => {
      child.stdin.end()
      await ended
      if (child.exitCode !== 0) throw new Error(`the writer ended with ${child.exitCode}`)
      // Its last line, which it makes of that type.
      return JSON.parse(said.replace('ready\n', '')) as Written
    },
  }
}
