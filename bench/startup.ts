/** Start-up: how long the command line takes to say anything, against bare Node. */
import type { Copy, Database } from './databases.ts'
import { measure, type Command } from './measure.ts'
import { retention, writeProject } from './project.ts'

/** Seconds of each run. */
export interface Startup {
  readonly node: readonly number[]
  readonly help: readonly number[]
  readonly status: readonly number[]
}

const runs = 15

/** Measures all in turn; `status` in a project with one policy, on an empty table in a SQLite file. */
export async function startup(sqlite: Database): Promise<Startup> {
  const empty = await sqlite.make(0)
  writeProject(empty)
  const commands: [keyof Startup, Command][] = commandsOf(empty)
  const seconds: Record<keyof Startup, number[]> = { node: [], help: [], status: [] }
  for (let run = 0; run <= runs; run += 1) {
    for (const [name, command] of commands) {
      const measured = await measure(command)
      // The first finds the files cold.
      if (run > 0) seconds[name].push(measured.seconds)
    }
  }
  await sqlite.drop(empty)
  return seconds
}

function commandsOf(empty: Copy): [keyof Startup, Command][] {
  return [
    ['node', { words: [process.execPath, '-e', '0'] }],
    ['help', retention(['--help'], empty)],
    ['status', retention(['status'], empty)],
  ]
}
