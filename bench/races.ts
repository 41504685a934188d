/** Races: every contender in turn, several times, each time on a fresh copy. */
import { has, type Contender, type Task } from './contenders.ts'
import { due } from './data.ts'
import type { Copy, Database, Kind } from './databases.ts'
import { measure, say, type Measured } from './measure.ts'
import { startS3 } from './s3.ts'

/** What a contender took in each of its runs. */
export interface Entry {
  readonly name: string
  readonly role: Contender['role']
  readonly runs: readonly Measured[]
  /** The program that it needs and that is not on this machine. */
  readonly lacks?: string
}

export interface Race {
  readonly kind: Kind
  readonly task: Task['name']
  /** How many rows were archived, or put back. */
  readonly due: number
  readonly entries: readonly Entry[]
}

/**
 * Every contender once, then every one again: what disturbs the machine for a while disturbs all of them.
 * @throws Error when a contender fails, or has not done its work
 */
export async function race(database: Database, source: Copy, rows: number, task: Task, runs: number): Promise<Race> {
  const takesPart = task.contenders.filter(({ insteadOf }) => insteadOf === undefined || !has(insteadOf))
  const entries = takesPart.map((contender) => {
    const lacks = contender.needs !== undefined && !has(contender.needs) ? { lacks: contender.needs } : {}
    return { contender, measured: [] as Measured[], lacks }
  })
  for (let run = 1; run <= runs; run += 1) {
    for (const { contender, measured, lacks } of entries) {
      if ('lacks' in lacks) continue
      const copy = await database.copy(source)
      if (contender.first !== undefined) {
        await measure(contender.first(copy))
        await database.settle()
      }
      const s3 = contender.role === 's3' ? await startS3() : undefined
      const result = await measure(contender.command(copy, s3)).finally(() => s3?.stop())
      measured.push(result)
      const [left] = await database.ask(copy, `select count(*) from conversation_log where ${due}`)
      const expected = task.leaves === 'none' ? 0 : rows / 2
      if (left !== expected) throw new Error(`${contender.name} left ${left} due rows, not ${expected}`)
      await database.drop(copy)
      say(
        `  ${run}/${runs} ${contender.name}: ${result.seconds.toFixed(2)} s, ${result.megabytes?.toFixed(0) ?? '?'} MB`,
      )
    }
  }
  return {
    kind: database.kind,
    task: task.name,
    due: rows / 2,
    entries: entries.map(({ contender: { name, role }, measured, lacks }) => ({
      name,
      role,
      runs: measured,
      ...lacks,
    })),
  }
}
