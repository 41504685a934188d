/** `query` over compressed archives, beside DuckDB alone on the same files. */
import path from 'node:path'

import type { Copy, Database, Kind } from './databases.ts'
import { measure, say, type Command, type Measured } from './measure.ts'
import { retention, writeProject } from './project.ts'

export interface Asked {
  readonly kind: Kind
  /** How many rows the archives hold. */
  readonly rows: number
  readonly runs: Readonly<Record<'query' | 'duckdb', readonly Measured[]>>
}

/** Archives the due half in gzip, and has its rows counted by both in turn. @throws Error when one counts other rows */
export async function askArchives(database: Database, source: Copy, rows: number, runs: number): Promise<Asked> {
  const copy = await database.copy(source)
  writeProject(copy, {}, { compress: 'gzip' })
  await measure(retention(['apply'], copy))
  const files = path.join(copy.folder, 'backups', '*.csv.gz')
  const commands: [keyof Asked['runs'], Command][] = [
    ['query', retention(['query', 'select count(*) from conversation_log'], copy)],
    ['duckdb', { words: [process.execPath, path.join(import.meta.dirname, 'count.ts'), files] }],
  ]
  const measured: Record<keyof Asked['runs'], Measured[]> = { query: [], duckdb: [] }
  for (let run = 1; run <= runs; run += 1) {
    for (const [name, command] of commands) {
      const result = await measure({ ...command, mustSay: `${rows / 2}` })
      measured[name].push(result)
      say(`  ${run}/${runs} ${name}: ${result.seconds.toFixed(2)} s`)
    }
  }
  await database.drop(copy)
  return { kind: database.kind, rows: rows / 2, runs: measured }
}
