/** Steps of bounded size, and a bounded share of the time: large rows, other writers, `gentle`. */
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { loadProject } from '../src/config/project.ts'
import { apply, plan, restore, verify, type ApplyReport } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import { sizesBeside } from './support/beside.ts'
import type { TestDatabase } from './support/database.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('gentle')

const cutoff = '2026-05-16T00:00:00Z'

/** Of a table whose first rows are tiny, and the others of so many bytes. */
async function seedSkewed(db: TestDatabase, tiny: number, large: number, bytes: number): Promise<void> {
  const text = db.kind === 'sqlite' ? `replace(hex(zeroblob(${bytes / 2})), '0', 'x')` : `repeat('x', ${bytes})`
  await seedLog(db, minutesBefore(cutoff, tiny + large), `case when id <= ${tiny} then 'tiny' else ${text} end`)
}

type Archives = ApplyReport['policies'][number]['archives']

/** Each row is in one archive, whole, and the folder has nothing else. */
function assertWhole(folder: string, files: readonly string[], archives: Archives, rows: number): void {
  const ids = archives.flatMap(({ name }) => readArchive(folder, name).rows.map(([id]) => Number(id)))
  assert.equal(
    ids.toSorted((a, b) => a - b),
    Array.from({ length: rows }, (_, index) => index + 1),
  )
  assert.equal(files, archives.flatMap(({ name }) => [name, `${name}.manifest.json`]).toSorted())
}

overDatabases(test, 'large rows make steps of fewer rows, in plan and in apply', async ({ db, project }) => {
  await seedSkewed(db, 0, 40, 10_000)
  const made = project({ log: { ...logPolicy, batchBytes: '105kB' } })
  const [planned] = (await plan({ cwd: made.folder, now })).policies
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  for (const archives of [planned?.archives, policy?.archives]) {
    assert.equal(
      archives?.map(({ rows }) => rows),
      [10, 10, 10, 10],
    )
  }
  assertWhole(made.folder, made.list(), policy?.archives ?? [], 40)
})

overDatabases(test, 'a step that comes out too large is undone and made in smaller ones', async ({ db, project }) => {
  // More tiny rows than a sample has.
  await seedSkewed(db, 600, 12, 1_000_000)
  const before = await db.dump('log')
  const made = project({ log: { ...logPolicy, batchBytes: '3MB' } })
  assert.is((await plan({ cwd: made.folder, now })).policies[0]?.archives.length, 1)
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.status, 'applied', policy?.error?.message)
  const archives = policy?.archives ?? []
  for (const { bytes, name } of archives) assert.ok(bytes <= 3_750_000, `${name} has ${bytes} bytes`)
  assertWhole(made.folder, made.list(), archives, 612)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
  for (const { name } of archives) await restore({ cwd: made.folder, file: name, now })
  assert.equal(await db.dump('log'), before)
})

overDatabases(test, 'a single row goes, however large, and a limit of rows holds', async ({ db, project }) => {
  await seedSkewed(db, 600, 4, 1_000_000)
  const made = project({ log: { ...logPolicy, batchBytes: '300kB', concurrency: 1 } })
  const [first] = (await apply({ cwd: made.folder, now, limitRows: 602 })).policies
  assert.is(first?.archived, 602)
  assert.is(first?.remaining, 2)
  assert.is(first?.archives.at(-1)?.rows, 1)
  const [second] = (await apply({ cwd: made.folder, now })).policies
  assert.is(second?.archived, 2)
  assertWhole(made.folder, made.list(), [...(first?.archives ?? []), ...(second?.archives ?? [])], 604)
})

overDatabases(test, 'more skewed steps than there are passes leave nothing', async ({ db, project }) => {
  await seedSkewed(db, 600, 120, 20_000)
  const made = project({ log: { ...logPolicy, batch: 10, batchBytes: '50kB' } })
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.status, 'applied', policy?.error?.message)
  for (const { bytes } of policy?.archives ?? []) assert.ok(bytes <= 62_500)
  assertWhole(made.folder, made.list(), policy?.archives ?? [], 720)
})

/** Applies with rests that take no time, and returns how long each would have been, in milliseconds. */
async function restsOf(work: () => Promise<unknown>): Promise<number[]> {
  const rests: number[] = []
  const wait = timers.setTimeout
  // Of its overloads the tool uses this one; how long a config may take to load is left as it is.
  const count = (milliseconds: number, value?: undefined, options?: object): Promise<unknown> =>
    milliseconds > 16_000 ? wait(milliseconds, value, options) : wait(0, rests.push(milliseconds))
  timers.setTimeout = count as typeof wait
  syncBuiltinESMExports()
  await work().finally(() => {
    timers.setTimeout = wait
    syncBuiltinESMExports()
  })
  return rests
}

overDatabases(
  test,
  'gentle: small steps, one at a time, with rests; by policy and by config',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 30))
    const made = project(
      { log: { ...logPolicy, batch: 10 }, usual: { ...logPolicy, gentle: false } },
      { gentle: true, throttle: { maxWait: '1m', replicaLag: false, walBacklog: '5GB' } },
    )
    made.policy('own', {
      ...logPolicy,
      pause: '7ms',
      concurrency: 3,
      batchBytes: '1MB',
      throttle: { replicaLag: '2s' },
    })
    const { policies } = await loadProject({ cwd: made.folder })
    const pick = policies.map(({ name, batch, batchBytes, concurrency, pause }) => [
      name,
      batch,
      batchBytes,
      concurrency,
      pause,
    ])
    assert.equal(pick, [
      ['log', 10, 4_000_000, 1, undefined],
      ['own', 5000, 1_000_000, 3, 7],
      ['usual', 50_000, 256_000_000, 2, undefined],
    ])
    assert.equal(
      policies.map(({ throttle }) => [throttle.replicaLag, throttle.walBacklog, throttle.maxWait, throttle.autovacuum]),
      [
        [undefined, 5e9, 60_000, true],
        [2000, 5e9, 60_000, true],
        [undefined, 5e9, 60_000, true],
      ],
    )

    const rests = await restsOf(() => apply({ cwd: made.folder, now, policies: ['log'] }))
    // Before each step but the first.
    assert.is(rests.length, 2)
    for (const rest of rests) assert.ok(rest > 1)
    await db.run(
      `insert into log (at) values ('2020-01-01T00:00:00Z'), ('2020-01-02T00:00:00Z'), ('2020-01-03T00:00:00Z')`,
    )
    made.policy('own', { ...logPolicy, pause: '7ms', batch: 1 })
    assert.equal(await restsOf(() => apply({ cwd: made.folder, now, policies: ['own'] })), [7, 7])
  },
)

overDatabases(test, 'a rest ends with --max-time', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project({ log: { ...logPolicy, batch: 1, concurrency: 1, pause: '24d' } })
  const [policy] = (await apply({ cwd: made.folder, now, maxTime: '2s' })).policies
  assert.is(policy?.status, 'partial')
  assert.is(policy?.archived, 1)
})

overDatabases(
  test,
  'where others write, steps are small, and full ones where none does',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3000))
    await db.run('create table other (n integer)')
    const made = project({ log: logPolicy, unmoved: { ...logPolicy, throttle: { busyWriters: false } } })
    const beside = await sizesBeside(db, { cwd: made.folder, now, policies: ['log'], limitRows: 1000 })
    const unmoved = await sizesBeside(db, { cwd: made.folder, now, policies: ['unmoved'], limitRows: 1000 })
    const [alone] = (await apply({ cwd: made.folder, now, policies: ['log'] })).policies
    assert.is(beside[0], 250)
    assert.equal([unmoved, alone?.archives.map(({ rows }) => rows)], [[1000], [1000]])
  },
  ['sqlite'],
)

test.run()
