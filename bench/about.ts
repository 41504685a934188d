/** What is measured, and on what. */
import { spawnSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'

import { has, type Program } from './contenders.ts'
import type { Database } from './databases.ts'

/** Versions, settings, machine, and how often each contender ran. */
export function about(databases: readonly Database[], runs: number): string[] {
  return [
    ...databases.map((database) => database.about),
    `Node ${process.versions.node}; ${version('psql')}; ${version('sqlite3')}`,
    `${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GB of memory, ${process.platform}`,
    `each contender ${runs === 1 ? 'once' : `${runs} times, in turn`}, each time on a fresh copy of the same data; sha256, fsync, read-back and ledger all on`,
  ]
}

function version(program: Program): string {
  if (!has(program)) return `no ${program}`
  const said = spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout.trim()
  return program === 'sqlite3' ? `sqlite3 ${said.split(' ')[0]}` : said
}
