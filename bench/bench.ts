/**
 * `npm run bench`: measures apply and restore against named rivals on the same data in the same run, in turn, each time on
 * a fresh copy, and writes medians, ratios and peak memory to bench/RESULTS.md. `--rows` and `--runs` make it shorter.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

import Sqlite from 'better-sqlite3'
import { Client } from 'pg'

import { startCluster } from '../test/support/cluster.ts'
import { applying, restoring, type Contender, type Copy } from './contenders.ts'
import { cutoff, fillPostgres, fillSqlite } from './data.ts'
import { measure, median, type Measured } from './measure.ts'

type Kind = 'postgres' | 'sqlite'

/** A contender's median over its runs; undefined where it could not take part. */
interface Result {
  readonly contender: Contender
  readonly seconds: number | undefined
  readonly megabytes: number | undefined
}

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '2000000' },
    runs: { type: 'string', default: '3' },
    database: { type: 'string', default: 'postgres,sqlite' },
  },
})
const [rows, runs] = [Number(values.rows), Number(values.runs)]
const kinds = values.database.split(',').filter((kind): kind is Kind => kind === 'postgres' || kind === 'sqlite')
const work = mkdtempSync(path.join(tmpdir(), 'retention-bench-'))
const cluster = kinds.includes('postgres') ? await startCluster(['max_wal_size=8GB', 'shared_buffers=1GB']) : undefined

const tables: string[] = []
try {
  for (const kind of kinds) {
    say(`${kind}: making ${rows} rows`)
    const source = await makeSource(kind)
    for (const [what, contenders] of [
      ['apply', applying[kind]],
      ['restore', restoring[kind]],
    ] as const) {
      tables.push(tableOf(`${what}, ${kind}, ${rows / 2} rows`, await race(kind, source, contenders)))
      say(tables.at(-1) ?? '')
    }
  }
  writeFileSync(path.join(import.meta.dirname, 'RESULTS.md'), report())
} finally {
  await cluster?.stop()
  rmSync(work, { recursive: true, force: true })
}
process.exit()

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function makeSource(kind: Kind): Promise<string> {
  if (kind === 'sqlite') {
    const file = path.join(work, 'source.db')
    fillSqlite(file, rows)
    return file
  }
  await onCluster('create database bench_source')
  await fillPostgres(addressOf('bench_source'), rows)
  return 'bench_source'
}

/** Every contender once, then every one again: what disturbs the machine for a while disturbs all of them. */
async function race(kind: Kind, source: string, contenders: readonly Contender[]): Promise<Result[]> {
  const measured = new Map<Contender, Measured[]>()
  for (let run = 1; run <= runs; run += 1) {
    for (const contender of contenders) {
      if (contender.needs !== undefined && spawnSync(contender.needs, ['--version']).status !== 0) continue
      const copy = await makeCopy(kind, source)
      for (const command of contender.first?.(copy) ?? []) await measure(command)
      const result = await measure(contender.command(copy))
      const left = await dueRows(kind, copy)
      const expected = contender.leaves === 'none' ? 0 : rows / 2
      // SQLite keeps the row with the highest number only where it would be used again; here it would not.
      if (left !== expected) throw new Error(`${contender.name} left ${left} due rows, not ${expected}`)
      say(
        `  ${run}/${runs} ${contender.name}: ${result.seconds.toFixed(2)} s, ${result.megabytes?.toFixed(0) ?? '?'} MB`,
      )
      measured.set(contender, [...(measured.get(contender) ?? []), result])
      await dropCopy(kind, copy)
    }
  }
  return contenders.map((contender) => {
    const all = measured.get(contender)
    const megabytes = (all ?? []).flatMap((one) => one.megabytes ?? [])
    return {
      contender,
      seconds: all === undefined ? undefined : median(all.map((one) => one.seconds)),
      megabytes: megabytes.length === 0 ? undefined : Math.max(...megabytes),
    }
  })
}

async function makeCopy(kind: Kind, source: string): Promise<Copy> {
  const folder = mkdtempSync(path.join(work, 'copy-'))
  mkdirSync(path.join(folder, 'policies'))
  if (kind === 'sqlite') {
    const address = path.join(folder, 'copy.db')
    copyFileSync(source, address)
    return { address, folder }
  }
  await onCluster('create database bench_copy template bench_source')
  await onCluster('checkpoint')
  return { address: addressOf('bench_copy'), folder }
}

async function dropCopy(kind: Kind, copy: Copy): Promise<void> {
  rmSync(copy.folder, { recursive: true })
  if (kind === 'postgres') await onCluster('drop database bench_copy with (force)')
}

async function dueRows(kind: Kind, { address }: Copy): Promise<number> {
  const query = `select count(*) as n from conversation_log where created_at < '${cutoff}'`
  if (kind === 'sqlite') {
    const db = new Sqlite(address)
    const count = Number(db.prepare(query).pluck().get())
    db.close()
    return count
  }
  const client = new Client({ connectionString: address })
  await client.connect()
  const { rows: found } = await client.query<{ n: string }>(query)
  await client.end()
  return Number(found[0]?.n)
}

function addressOf(database: string): string {
  return (cluster?.address ?? '').replace(/\/postgres$/, `/${database}`)
}

async function onCluster(statement: string): Promise<void> {
  const client = new Client({ connectionString: cluster?.address })
  await client.connect()
  await client.query(statement)
  await client.end()
}

function tableOf(title: string, results: readonly Result[]): string {
  const own = results.find(({ contender }) => contender.name.startsWith('retention'))?.seconds
  const lines = results.map(({ contender, seconds, megabytes }) => {
    if (seconds === undefined) return `| ${contender.name} | skipped: no \`${contender.needs}\` here | | | |`
    const ratio = own === undefined ? '' : (own / seconds).toFixed(2)
    const rate = Math.round(rows / 2 / seconds).toLocaleString('en')
    return `| ${contender.name} | ${seconds.toFixed(2)} s | ${rate} | ${megabytes?.toFixed(0) ?? '?'} MB | ${ratio} |`
  })
  const head = '| | median | rows/s | peak memory | retention takes, of its time |\n| --- | ---: | ---: | ---: | ---: |'
  return `## ${title}\n\n${head}\n${lines.join('\n')}\n`
}

function report(): string {
  const version = (command: string): string =>
    spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout?.trim() || 'none'
  const about = [
    `Node ${process.versions.node}, ${version('psql')}, sqlite3 ${version('sqlite3').split(' ')[0]}, PostgreSQL 18 (embedded)`,
    `${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GB`,
    `medians of ${runs} runs, each on a fresh copy of the same data; sha256, fsync, read-back and ledger all on`,
  ]
  return `# Results\n\nMade by \`npm run bench\`; whole processes, measured from outside.\n\n${about.map((line) => `- ${line}`).join('\n')}\n\n${tables.join('\n')}`
}
