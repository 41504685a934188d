/** A partition that is past: for how long dropping it keeps others from the table, and what deleting the same rows takes. */
import { setTimeout as sleep } from 'node:timers/promises'

import { Client } from 'pg'

import { cutoff, due } from './data.ts'
import type { Copy, Database } from './databases.ts'
import { measure, say, type Measured } from './measure.ts'
import { retention, writeProject } from './project.ts'

export interface Partitioned {
  readonly due: number
  /** The longest that a reader of the other partition waited while apply dropped this one, of each run; milliseconds. */
  readonly waits: readonly number[]
  /** What one DELETE of the same rows takes; milliseconds. */
  readonly deletes: readonly number[]
  /** Whole processes. */
  readonly runs: Readonly<Record<'drop' | 'rows', readonly Measured[]>>
}

/** Measures each in turn, on copies of a log whose due half is a partition. */
export async function dropPartition(
  database: Database,
  source: Copy,
  rows: number,
  runs: number,
): Promise<Partitioned> {
  const log = await database.copy(source)
  await partition(log)
  const [waits, deletes]: [number[], number[]] = [[], []]
  const measured: Record<keyof Partitioned['runs'], Measured[]> = { drop: [], rows: [] }
  for (let run = 1; run <= runs; run += 1) {
    const deleted = await database.copy(log)
    deletes.push(await timeOf(deleted, `delete from conversation_log where ${due}`))
    await database.drop(deleted)
    for (const partitions of ['drop', 'rows'] as const) {
      const copy = await database.copy(log)
      writeProject(copy, { partitions })
      const reader = await startReader(copy)
      measured[partitions].push(await measure(retention(['apply'], copy)))
      const longest = await reader.stop()
      if (partitions === 'drop') waits.push(longest)
      const [left] = await database.ask(copy, `select count(*) from conversation_log where ${due}`)
      const [there] = await database.ask(copy, "select count(to_regclass('conversation_log_past'))")
      if (left !== 0 || there !== (partitions === 'drop' ? 0 : 1))
        throw new Error(`apply has not done its work: ${partitions}`)
      await database.drop(copy)
    }
    say(
      `  ${run}/${runs} dropping: others waited ${waits.at(-1)?.toFixed(1)} ms; deleting: ${deletes.at(-1)?.toFixed(0)} ms`,
    )
  }
  await database.drop(log)
  return { due: rows / 2, waits, deletes, runs: measured }
}

/** Makes a partitioned table of the log: what is due, and the rest. */
async function partition({ address }: Copy): Promise<void> {
  const client = new Client({ connectionString: address })
  await client.connect()
  await client.query(`
    alter table conversation_log rename to unpartitioned;
    create table conversation_log (like unpartitioned including defaults) partition by range (created_at);
    create table conversation_log_past partition of conversation_log for values from (minvalue) to ('${cutoff}');
    create table conversation_log_rest partition of conversation_log for values from ('${cutoff}') to (maxvalue);
    insert into conversation_log select * from unpartitioned;
    drop table unpartitioned;
    alter table conversation_log add primary key (id, created_at);
    create index on conversation_log (created_at)`)
  await client.query('vacuum analyze conversation_log')
  await client.query('checkpoint')
  await client.end()
}

async function timeOf({ address }: Copy, statement: string): Promise<number> {
  const client = new Client({ connectionString: address })
  await client.connect()
  const started = performance.now()
  await client.query(statement)
  const took = performance.now() - started
  await client.end()
  return took
}

/** Reads a row of the other partition, over and over, until it is stopped; returns the longest that it waited. */
async function startReader({ address }: Copy): Promise<{ stop(): Promise<number> }> {
  const client = new Client({ connectionString: address })
  await client.connect()
  const end = new AbortController()
  const read = async (): Promise<number> => {
    let longest = 0
    for (let n = 0; !end.signal.aborted; n += 1) {
      const started = performance.now()
      await client.query(`select id from conversation_log where created_at >= '${cutoff}' limit 1`)
      // The first finds caches cold.
      if (n > 0) longest = Math.max(longest, performance.now() - started)
      await sleep(1)
    }
    return longest
  }
  const reading = read()
  return {
    stop: async () => {
      end.abort()
      const longest = await reading
      await client.end()
      return longest
    },
  }
}
