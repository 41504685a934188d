/**
 * The service under load: thousands of requests while a run archives a million rows. Fails where a run starts twice, a request
 * takes more than a second or is answered with anything but 200, 202 and 409, rows get lost, or memory grows past its mark.
 * `npm run load`; `--rows`, `--requests`, `--clients` and `--database sqlite` make it shorter.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

import { verify } from '../src/index.ts'
import { startCluster } from './support/cluster.ts'
import type { Kind, TestDatabase } from './support/database.ts'
import { printLoad, underLoad } from './support/load.ts'
import { TestProject } from './support/project.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    requests: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '16' },
    database: { type: 'string', default: 'sqlite,postgres' },
  },
})
const [rows, requests, clients] = [values.rows, values.requests, values.clients].map(Number)
const token = 'a-token-that-is-long-enough'
/** Megabytes that the process may take, run and all. */
const mark = 250

const cluster = await startCluster()
process.env.TEST_POSTGRES = cluster.address
const { createDatabase } = await import('./support/database.ts')
for (const kind of values.database.split(',')) {
  const db = await createDatabase(kind === 'sqlite' ? 'sqlite' : 'postgres')
  await measure(db.kind, db)
  await db.drop()
}
await cluster.stop()

async function measure(kind: Kind, db: TestDatabase): Promise<void> {
  await seed(db)
  const project = new TestProject({ database: db.address }, { log: { table: 'log', column: 'at', days: 30 } })
  const child = spawn(
    process.execPath,
    [path.join(import.meta.dirname, '../src/bin.ts'), 'serve', '--port', '0', '--trust-proxy'],
    { cwd: project.folder, env: { ...process.env, RETENTION_TOKEN: token }, stdio: ['ignore', 'inherit', 'pipe'] },
  )
  const address = await listening(child.stderr)
  child.stderr.resume()
  const memory = watchMemory(child.pid ?? 0)
  const load = await underLoad(address, { token, requests: requests ?? 0, clients: clients ?? 0 })
  const { before, peak, last } = memory()
  child.kill('SIGTERM')
  const [code] = await once(child, 'close')
  const left = Number(await db.value('select count(*) from log'))
  const { findings } = await verify({ cwd: project.folder })
  const worst = Math.max(...load.answers.map((answer) => answer.worst))
  const faults = [
    load.isOverlapping && 'two runs at the same time',
    worst > 1000 && `a request took ${worst.toFixed(0)} ms`,
    load.started === 0 && 'no run started',
    load.answers.some(({ status }) => ![200, 202, 409].includes(status)) && 'a wrong answer',
    left > 0 && `${left} rows are left`,
    findings.length > 0 && `verify finds ${findings.length} things`,
    peak > mark && `memory came to ${peak} MB, past ${mark}`,
    code !== 0 && `it ended with ${code}`,
  ].filter((fault) => fault !== false)
  console.log(`\n${kind}: ${rows} rows, ${requests} requests of ${clients} clients in ${load.milliseconds} ms`)
  console.log(printLoad(load))
  console.log(
    `${load.during} requests during the first run; ${load.started} runs; MB: ${before} before, ${peak} at most, ${last} last`,
  )
  for (const fault of faults) console.log(`✘ ${fault}`)
  if (faults.length > 0) process.exitCode = 1
  project.remove()
}

async function seed(db: TestDatabase): Promise<void> {
  if (db.kind === 'sqlite')
    await db.run(
      `pragma journal_mode = wal; create table log (id integer primary key autoincrement, at text, body text); create index log_at on log (at);
       insert into log select value, strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + value, 'unixepoch'), 'a text of some length ' || value
       from (with recursive n(value) as (select 1 union all select value + 1 from n where value < ${rows}) select value from n)`,
    )
  else
    await db.run(
      `create table log (id bigint primary key, at timestamptz, body text);
       insert into log select i, to_timestamp(1700000000 + i), 'a text of some length ' || i from generate_series(1, ${rows}) i;
       create index log_at on log (at); analyze log`,
    )
}

async function listening(stderr: NodeJS.ReadableStream): Promise<string> {
  stderr.setEncoding('utf8')
  let said = ''
  for (;;) {
    const [chunk] = (await once(stderr, 'data')) as [string]
    said += chunk
    const [, address] = /Listening on (\S+)/.exec(said) ?? []
    if (address !== undefined) return address
  }
}

/** Watches a process's resident memory, on Linux; elsewhere it is told as 0. */
function watchMemory(pid: number): () => { before: number; peak: number; last: number } {
  const now = (): number => {
    try {
      return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000)
    } catch {
      return 0
    }
  }
  const before = now()
  let peak = before
  const watching = new AbortController()
  const watch = async (): Promise<void> => {
    while (!watching.signal.aborted) {
      peak = Math.max(peak, now())
      await sleep(50)
    }
  }
  void watch()
  return () => {
    watching.abort()
    return { before, peak, last: now() }
  }
}
