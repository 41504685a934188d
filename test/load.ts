/**
 * The service under load: thousands of requests while a run archives millions of rows. Fails where a run starts twice, a request
 * takes more than a second or is answered with anything but 200, 202 and 409 (429 where one address asks too often), rows get
 * lost, or memory grows past its marks: against a run that nobody asks about, and from round to round of requests without a run.
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
import type { TestDatabase } from './support/database.ts'
import { printLoad, underLoad } from './support/load.ts'
import { TestProject } from './support/project.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '3000000' },
    requests: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '16' },
    database: { type: 'string', default: 'sqlite,postgres' },
  },
})
const [rows, requests, clients] = [values.rows, values.requests, values.clients].map(Number)
const token = 'a-token-that-is-long-enough'
/** Megabytes that requests may cost a process while a run goes on; and that two rounds of as many may add without one. */
const mark = 60
const roundMark = 8

const cluster = await startCluster()
process.env.TEST_POSTGRES = cluster.address
const { createDatabase } = await import('./support/database.ts')
for (const kind of values.database.split(',')) {
  const quiet = await onDatabase(kind, measureQuiet)
  await onDatabase(kind, async (db) => measure(db, quiet))
}
await cluster.stop()

async function onDatabase<T>(kind: string, work: (db: TestDatabase) => Promise<T>): Promise<T> {
  const db = await createDatabase(kind === 'sqlite' ? 'sqlite' : 'postgres')
  await seed(db)
  const done = await work(db)
  await db.drop()
  return done
}

/** The most megabytes that a process takes for the same run when nobody asks. */
async function measureQuiet(db: TestDatabase): Promise<number> {
  return serving(db, async ({ address, memory }) => {
    const headers = { authorization: `Bearer ${token}` }
    const started = await fetch(`${address}/run-cleanup`, { method: 'POST', headers })
    const { status } = (await started.json()) as { status: string }
    await (await fetch(`${address}${status}/events`, { headers })).text()
    return memory().peak
  })
}

async function measure(db: TestDatabase, quiet: number): Promise<void> {
  await serving(db, async ({ address, memory, project }) => {
    const load = await underLoad(address, { token, requests: requests ?? 0, clients: clients ?? 0, hasty: 2000 })
    const { peak } = memory()
    const connections = db.kind === 'postgres' ? await sessions(db) : undefined
    const rounds: number[] = []
    for (let round = 0; round < 4; round += 1) {
      await manyStatus(address)
      rounds.push(memory().last)
    }
    const opened = connections === undefined ? undefined : (await sessions(db)) - connections
    const left = Number(await db.value('select count(*) from log'))
    const { findings } = await verify({ cwd: project.folder })
    const worst = Math.max(...load.answers.map((answer) => answer.worst))
    const allowed = (asked: string): readonly number[] => (asked.endsWith('haste') ? [200, 429] : [200, 202, 409])
    const [, second = 0, , last = 0] = rounds
    const faults = [
      load.isOverlapping && 'two runs at the same time',
      worst > 1000 && `a request took ${worst.toFixed(0)} ms`,
      load.started !== 1 && `${load.started} runs started`,
      load.during < (requests ?? 0) && `only ${load.during} requests came while the run went on; give more --rows`,
      load.answers.some((answer) => !allowed(answer.path).includes(answer.status)) && 'a wrong answer',
      !load.answers.some(({ status }) => status === 429) && 'nobody was told to wait',
      left > 0 && `${left} rows are left`,
      findings.length > 0 && `verify finds ${findings.length} things`,
      peak - quiet > mark && `memory came to ${peak} MB, ${peak - quiet} past a run that nobody asks about`,
      last - second > roundMark && `memory grows from round to round: ${rounds.join(', ')} MB`,
    ].filter((fault) => fault !== false)
    console.log(`\n${db.kind}: ${rows} rows, ${requests} requests of ${clients} clients in ${load.milliseconds} ms`)
    console.log(printLoad(load))
    console.log(`${load.during} requests during the first run; ${load.started} runs`)
    console.log(
      `MB: ${quiet} at most without requests, ${peak} with them; after ${requests} more each: ${rounds.join(', ')}`,
    )
    if (opened !== undefined)
      console.log(`${opened} sessions were opened for ${4 * (requests ?? 0)} requests without a run`)
    for (const fault of faults) console.log(`✘ ${fault}`)
    if (faults.length > 0) process.exitCode = 1
  })
}

/** A round of requests that start no run. */
async function manyStatus(address: string): Promise<void> {
  let next = 0
  const client = async (): Promise<void> => {
    for (let index = next++; index < (requests ?? 0); index = next++) {
      const headers = { authorization: `Bearer ${token}`, 'x-forwarded-for': `10.2.${index % 250}.${index % 100}` }
      await (await fetch(`${address}/${index % 2 === 0 ? 'status' : 'metrics'}`, { headers })).arrayBuffer()
    }
  }
  await Promise.all(Array.from({ length: clients ?? 0 }, client))
}

/** Sessions that the database has ever had. */
async function sessions(db: TestDatabase): Promise<number> {
  // Ended sessions are counted within a second.
  await sleep(1200)
  return Number(await db.value('select sessions from pg_stat_database where datname = current_database()'))
}

interface Served {
  readonly address: string
  readonly memory: ReturnType<typeof watchMemory>
  readonly project: TestProject
}

/** A process that serves a project on the database. */
async function serving<T>(db: TestDatabase, work: (served: Served) => Promise<T>): Promise<T> {
  const project = new TestProject({ database: db.address }, { log: { table: 'log', column: 'at', days: 30 } })
  const child = spawn(
    process.execPath,
    [path.join(import.meta.dirname, '../src/bin.ts'), 'serve', '--port', '0', '--trust-proxy'],
    { cwd: project.folder, env: { ...process.env, RETENTION_TOKEN: token }, stdio: ['ignore', 'inherit', 'pipe'] },
  )
  const address = await listening(child.stderr)
  child.stderr.resume()
  const done = await work({ address, memory: watchMemory(child.pid ?? 0), project })
  child.kill('SIGTERM')
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`serve ended with ${code}`)
  project.remove()
  return done
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

/** Watches a process's resident memory in megabytes, on Linux; elsewhere it is told as 0. */
function watchMemory(pid: number): () => { peak: number; last: number } {
  const now = (): number => {
    try {
      return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000)
    } catch {
      return 0
    }
  }
  let peak = now()
  const timer = setInterval(() => (peak = Math.max(peak, now())), 50).unref()
  return () => {
    const last = now()
    if (last === 0) clearInterval(timer)
    return { peak, last }
  }
}
