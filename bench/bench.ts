/**
 * `npm run bench`: measures retention against named rivals on the same data in the same run, and writes marks, figures and
 * a chart. A full run replaces those in bench/; a run with options leaves its own in bench/short/.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { about } from './about.ts'
import { askArchives } from './asked.ts'
import { besideApply } from './beside.ts'
import { tasks } from './contenders.ts'
import { openPostgres, openSqlite, type Database } from './databases.ts'
import { load, save } from './files.ts'
import { grow, lackOfSpace } from './growth.ts'
import { titles } from './marks.ts'
import { say } from './measure.ts'
import { readOptions } from './options.ts'
import { overview } from './overview.ts'
import { dropPartition } from './partitions.ts'
import { race } from './races.ts'
import { marksTable } from './report.ts'
import type { Results } from './results.ts'
import { startup } from './startup.ts'

const { rows, runs, kinds, parts, rewrite, folder } = readOptions()
if (rewrite) {
  save(folder, load(folder))
  process.exit()
}

const work = mkdtempSync(path.join(tmpdir(), 'retention-bench-'))
process.once('exit', () => rmSync(work, { recursive: true, force: true }))
const sqlite = openSqlite(work)
const databases: Database[] = []
for (const kind of kinds) databases.push(kind === 'sqlite' ? sqlite : await openPostgres(work))
const results: Results = {
  about: about(databases, runs),
  races: [],
  asked: [],
  beside: [],
  overviews: [],
  growth: [],
  skipped: [],
}

try {
  for (const database of databases) {
    await measureBase(database)
    await measureLarge(database)
  }
  if (parts.includes('startup')) {
    say('start-up')
    results.startup = await startup(sqlite)
    save(folder, results)
  }
} finally {
  for (const database of databases) await database.close()
}
process.stdout.write(`${marksTable(results)}\nAll figures: ${path.relative('.', folder)}/RESULTS.md\n`)
process.exit()

/** Races, queries, and a writer beside apply, each on copies of one log. */
async function measureBase(database: Database): Promise<void> {
  say(`${titles[database.kind]}: making ${rows} rows`)
  const source = await database.make(rows)
  for (const task of tasks[database.kind].filter(({ name }) => parts.includes(name))) {
    say(`${titles[database.kind]}: ${task.name}`)
    results.races.push(await race(database, source, rows, task, runs))
    save(folder, results)
  }
  if (parts.includes('query')) {
    say(`${titles[database.kind]}: query`)
    results.asked.push(await askArchives(database, source, rows, runs))
    save(folder, results)
  }
  if (parts.includes('beside')) {
    say(`${titles[database.kind]}: a writer beside apply`)
    for (const gentle of [false, true]) {
      results.beside.push(await besideApply(database, source, rows, gentle))
      save(folder, results)
    }
  }
  if (database.kind === 'postgres' && parts.includes('partitions')) {
    say('Postgres: a partition that is past')
    results.partitioned = await dropPartition(database, source, rows, runs)
    save(folder, results)
  }
  await database.drop(source)
}

/** What needs ten times the rows. The log is made once, and apply empties it last. */
async function measureLarge(database: Database): Promise<void> {
  const large = rows * 10
  const lack = parts.includes('large') ? lackOfSpace(work, large) : 'as the options say'
  if (lack !== undefined) {
    results.skipped.push(`${large} rows on ${titles[database.kind]}: ${lack}`)
    return
  }
  say(`${titles[database.kind]}: making ${large} rows`)
  const log = await database.make(large)
  results.overviews.push(await overview(database, log, large, runs))
  save(folder, results)
  say(`${titles[database.kind]}: apply on ${large} rows`)
  results.growth.push(await grow(database, log, large))
  save(folder, results)
  await database.drop(log)
}
