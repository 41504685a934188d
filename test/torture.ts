/**
 * The long torture: `npm run torture -- --kills 1000 --seed 1`, with `--database sqlite` or `postgres` for one alone,
 * `--children` for rows with which others go along, `--redact` for rows that stay, and `--target s3` for archives on S3.
 * Prints what was hit, and fails where a row was lost or came twice.
 */
import { parseArgs } from 'node:util'

import { startCluster } from './support/cluster.ts'
import type { Kind } from './support/database.ts'

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    database: { type: 'string', default: 'sqlite,postgres' },
    children: { type: 'boolean', default: false },
    target: { type: 'string', default: 'folder' },
    redact: { type: 'boolean', default: false },
  },
})
const chosen = values.database.split(',').filter((kind): kind is Kind => kind === 'sqlite' || kind === 'postgres')
const seed = Number(values.seed)
console.log(`${values.kills} kills, seed ${seed}, over ${chosen.join(' and ')}`)

const cluster = chosen.includes('postgres') ? await startCluster() : undefined
if (cluster !== undefined) process.env['TEST_POSTGRES'] = cluster.address
const { torture } = await import('./support/torture.ts')
const { credentials, startS3 } = await import('./support/s3.ts')
Object.assign(process.env, credentials)
const s3 = values.target === 's3' ? await startS3() : undefined
const started = Date.now()
const outcomes = await Promise.allSettled(
  chosen.map(async (kind) => {
    const kills = Math.ceil(Number(values.kills) / chosen.length)
    const onKill = (done: number, point: string): void => {
      if (done % 25 === 0) console.log(`${kind}: ${done} of ${kills} (${point})`)
    }
    const how = { children: values.children, redact: values.redact, ...(s3 === undefined ? {} : { s3 }) }
    return { kind, ...(await torture({ kind, kills, seed, ...how, onKill })) }
  }),
)
await cluster?.stop()
await s3?.stop()
let passed = 0
for (const outcome of outcomes) {
  if (outcome.status === 'rejected') {
    console.error(`\n${outcome.reason instanceof Error ? outcome.reason.message : String(outcome.reason)}`)
    process.exitCode = 1
    continue
  }
  const { kind, kills, survived, rows, rounds, points } = outcome.value
  console.log(
    `\n${kind}: ${kills} kills, ${survived} commands survived; ${rows} rows looked at, ${rounds} times all restored and compared`,
  )
  for (const [point, count] of [...points].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    console.log(`  ${String(count).padStart(5)}  ${point}`)
  passed += kills
}
console.log(`\n${passed} kills without a loss, ${Math.round((Date.now() - started) / 1000)} s`)
process.exit()
