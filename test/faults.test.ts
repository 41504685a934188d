/** Faults in the parts: disks that fail or fill up, servers that stop, clocks that go back. Nothing is lost, and it is told. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import Sqlite from 'better-sqlite3'
import { sql } from 'kysely'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { cutoffOf } from '../src/cutoff.ts'
import type { ExportedRows, Sql, StepTransaction } from '../src/database/database.ts'
import { CopyReader } from '../src/database/postgres/copy-reader.ts'
import { openSqlite } from '../src/database/sqlite/database.ts'
import { Reader } from '../src/database/sqlite/reader.ts'
import { RecordCounter } from '../src/archive/csv.ts'
import { hasCode } from '../src/errors.ts'
import { apply, plan, restore, status, verify, type ApplyReport, type PolicyReport } from '../src/index.ts'
import { afterStep } from './support/after-step.ts'
import { startCluster } from './support/cluster.ts'
import { connectTo } from './support/database.ts'
import type { TestProject } from './support/project.ts'
import { compareRows, judge, tableRows } from './support/judge.ts'
import { atPoints, type Plan } from './support/points.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('faults')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'

/** A log of which six rows are due, in two steps, and a ledger that is there already. */
async function prepared({ db, project }: Scene): Promise<TestProject> {
  await seedLog(db, [...minutesBefore(cutoff, 6), '2026-06-10T00:00:00Z'])
  // One step after the other, so that it is known what each fault meets.
  const made = project({ log: { ...logPolicy, batch: 3, concurrency: 1 } })
  await apply({ cwd: made.folder, now, before: '2000-01-01' })
  return made
}

async function applied(made: TestProject): Promise<PolicyReport> {
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  if (policy === undefined) throw new Error('no report')
  return policy
}

/** Points as they follow one another; those that come as often as there are rows or pieces are told once. */
function inOrder(points: readonly string[]): string[] {
  const many = /^(write|stage|insert rows|begin snapshot|lock policy|compare version)/
  return points.filter((point, index) => point !== points[index - 1] || !many.test(point))
}

const storing = (kind: 'csv' | 'manifest'): string[] => [
  `create ${kind}.tmp`,
  `write ${kind}.tmp`,
  `fsync ${kind}.tmp`,
  `close ${kind}.tmp`,
  `link ${kind}`,
  `unlink ${kind}.tmp`,
  'fsync folder',
  `open ${kind}`,
  `read ${kind}`,
]

/** At the end of a policy. */
const keptRun = ['insert run', 'commit run']

overDatabases(test, 'a step does everything that its promise rests on, in this order', async (scene) => {
  const made = await prepared(scene)
  const { points } = await atPoints([], () => apply({ cwd: made.folder, now, limitRows: 3 }))
  // The folder and the one above it; a file stored and removed again for a proof; the name, claimed for ever.
  const ready = ['mkdir', 'fsync folder', 'fsync folder', 'link probe', 'unlink probe', 'fsync folder', 'unlink probe']
  const expected =
    scene.db.kind === 'postgres'
      ? [
          'lock policy',
          ...ready,
          'claim number',
          'commit claim',
          'lock table',
          'lock restores',
          'copy rows',
          ...storing('csv'),
          ...storing('manifest'),
          'insert ledger',
          'commit step',
          'rollback',
          ...keptRun,
        ]
      : [
          'begin snapshot',
          'begin write',
          'lock policy',
          'begin snapshot',
          // Before and after: whether others write.
          'compare version',
          ...ready,
          'compare version',
          'begin write',
          'claim number',
          'commit claim',
          'begin snapshot',
          'compare version',
          ...storing('csv'),
          ...storing('manifest'),
          'begin write',
          'compare version',
          'delete rows',
          'insert ledger',
          'commit step',
          'begin snapshot',
          'begin write',
          ...keptRun,
        ]
  assert.equal(inOrder(points), expected)
})

const inLog = ['sqlite'] as const

const isOnTheDisk = 'a step in a write-ahead log waits for the disk no more, and is on it before it is reported'
overDatabases(
  test,
  isOnTheDisk,
  async (scene) => {
    await scene.db.run('pragma journal_mode = wal')
    const made = await prepared(scene)
    const { points } = await atPoints([], () => apply({ cwd: made.folder, now, limitRows: 3 }))
    const ordered = inOrder(points)
    assert.equal(ordered.slice(ordered.indexOf('commits wait no more')), [
      'commits wait no more',
      'begin write',
      'claim number',
      'commit claim',
      'begin snapshot',
      'compare version',
      ...storing('csv'),
      ...storing('manifest'),
      'begin write',
      'compare version',
      'delete rows',
      'insert ledger',
      'commit step',
      'checkpoint',
      'begin snapshot',
      'fsync log',
      'fsync folder',
      // What is held now is counted for the report.
      'begin snapshot',
      'begin write',
      ...keptRun,
    ])
    // What is put back is on the disk at once.
    const { points: back } = await atPoints([], () => restore({ cwd: made.folder, now, file }))
    assert.not(back.includes('commits wait no more'))
  },
  inLog,
)

const isUndone =
  'the power goes before what was committed is on the disk: the rows are in their table, and the ledger knows of nothing'
overDatabases(
  test,
  isUndone,
  async (scene) => {
    await scene.db.run('pragma journal_mode = wal')
    const made = await prepared(scene)
    const original = await tableRows(scene.db, 'log')
    await scene.db.run('pragma wal_checkpoint(truncate)')
    const database = scene.db.address.replace('sqlite:', '')
    // A reader keeps checkpoints from bringing the log into the file, so that the log is all there is of the steps.
    const reader = new Sqlite(database, { readonly: true })
    reader.exec('begin')
    reader.prepare('select * from log').all()
    const cut: Plan = { point: 'fsync log', act: 'run', with: `cp '${database}' '${made.path('cut.db')}'` }
    const { result: report } = await atPoints([cut], () => applied(made))
    reader.close()
    assert.is(report.archived, 6, report.error?.message)
    const left = new Sqlite(made.path('cut.db'))
    assert.is(left.prepare('select count(*) from log').pluck().get(), original.length)
    assert.is(left.prepare('select count(*) from retention_ledger').pluck().get(), 0)
    left.close()
    await judge(scene.db, 'log', made.path('backups'), original)
  },
  inLog,
)

overDatabases(
  test,
  'a log that cannot be brought to the disk: the policy has failed, and no row is lost',
  async (scene) => {
    await scene.db.run('pragma journal_mode = wal')
    const made = await prepared(scene)
    const original = await tableRows(scene.db, 'log')
    const { result: report } = await atPoints([{ point: 'fsync log', act: 'fail', with: 'EIO' }], () => applied(made))
    assert.is(report.status, 'failed')
    assert.match(report.error?.message ?? '', /log could not be brought to the disk: EIO/)
    await judge(scene.db, 'log', made.path('backups'), original)
    assert.is((await applied(made)).status, 'nothing-due')
  },
  inLog,
)

overDatabases(test, 'a restore does everything that its promise rests on, in this order', async (scene) => {
  const made = await prepared(scene)
  await apply({ cwd: made.folder, now })
  const { points } = await atPoints([], () => restore({ cwd: made.folder, now, file }))
  // Once for the header, and once to use them.
  const reading = ['open csv', 'read csv', 'open csv', 'read csv']
  const expected =
    scene.db.kind === 'postgres'
      ? [
          'open manifest',
          'read manifest',
          'lock policy',
          'lock table',
          'lock restores',
          'open csv',
          'read csv',
          'insert rows',
          'open csv',
          'read csv',
          'mark restored',
          'insert hold',
          'commit restore',
          'rollback',
        ]
      : [
          'begin snapshot',
          'open manifest',
          'read manifest',
          'lock policy',
          'begin snapshot',
          'begin write',
          ...reading,
          'insert rows',
          'read rows back',
          'mark restored',
          'insert hold',
          'commit restore',
          'begin snapshot',
        ]
  assert.equal(inOrder(points), expected)
})

overDatabases(test, 'a restore that stages its rows does so in this order', async (scene) => {
  const made = await prepared(scene)
  await apply({ cwd: made.folder, now })
  const { points } = await atPoints([], () => restore({ cwd: made.folder, now, file, onConflict: 'skip' }))
  // Once to see whether the bytes are what they were, once for the header, and once to use them.
  const reading = ['open csv', 'read csv', 'open csv', 'read csv']
  const expected =
    scene.db.kind === 'postgres'
      ? [
          'open manifest',
          'read manifest',
          'lock policy',
          ...reading,
          'lock table',
          'lock restores',
          'stage row',
          'open csv',
          'read csv',
          'insert rows',
          'read rows back',
          'mark restored',
          'insert hold',
          'commit restore',
          'rollback',
        ]
      : [
          'begin snapshot',
          'open manifest',
          'read manifest',
          'lock policy',
          'begin snapshot',
          ...reading,
          'begin write',
          'open csv',
          'read csv',
          'stage row',
          'insert rows',
          'read rows back',
          'mark restored',
          'insert hold',
          'commit restore',
          'begin snapshot',
        ]
  assert.equal(inOrder(points), expected)
})

/** What a disk may answer, and where. */
const diskFaults: readonly (Plan & { code: string; leaves?: number })[] = [
  { point: 'create csv.tmp', with: 'ENOSPC', code: 'TARGET_UNUSABLE' },
  { point: 'write csv.tmp', with: 'ENOSPC', code: 'TARGET_UNUSABLE' },
  { point: 'write csv.tmp', phase: 'after', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'fsync csv.tmp', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'fsync csv.tmp', phase: 'after', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'close csv.tmp', phase: 'after', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'link csv', with: 'EMLINK', code: 'TARGET_UNUSABLE' },
  { point: 'link csv', phase: 'after', with: 'EIO', code: 'TARGET_UNUSABLE', leaves: 1 },
  { point: 'unlink csv.tmp', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'fsync folder', nth: 4, with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'open csv', with: 'EACCES', code: 'ARCHIVE_CHANGED' },
  { point: 'open csv', with: 'ENOENT', code: 'ARCHIVE_NOT_FOUND' },
  { point: 'read csv', with: 'EIO', code: 'ARCHIVE_CHANGED' },
  { point: 'create manifest.tmp', with: 'ENOSPC', code: 'TARGET_UNUSABLE' },
  { point: 'write manifest.tmp', with: 'EDQUOT', code: 'TARGET_UNUSABLE' },
  { point: 'fsync manifest.tmp', with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'link manifest', with: 'EPERM', code: 'TARGET_UNUSABLE' },
  { point: 'fsync folder', nth: 5, with: 'EIO', code: 'TARGET_UNUSABLE' },
  { point: 'read manifest', with: 'EIO', code: 'ARCHIVE_CHANGED' },
]

overDatabases(test, 'a disk that fails at any point of storing: the step fails, and leaves nothing', async (scene) => {
  const made = await prepared(scene)
  const original = await tableRows(scene.db, 'log')
  for (const { code, leaves = 0, ...fault } of diskFaults) {
    const what = `${fault.phase ?? 'before'} ${fault.point} ${fault.nth ?? 1}: ${fault.with}`
    const { result } = await atPoints([{ ...fault, act: 'fail' }], () => applied(made))
    assert.is(result.status, 'failed', what)
    assert.is(result.error?.code, code, `${what}: ${result.error?.message}`)
    assert.match(result.error?.message ?? '', made.path('backups'), what)
    assert.is(result.archived, 0, what)
    assert.is(result.remaining, 6, what)
    await judge(scene.db, 'log', made.path('backups'), original)
    // A link whose answer was an error may be there all the same; as nobody can tell whose it is, it stays.
    assert.is(made.list().length, leaves, `${what}: ${made.list().join()}`)
    for (const name of made.list()) rmSync(made.path(`backups/${name}`))
  }
  assert.is((await applied(made)).archived, 6)
})

overDatabases(test, 'a disk that fails before anything is begun: refused', async (scene) => {
  const made = await prepared(scene)
  for (const point of ['mkdir', 'fsync folder', 'link probe']) {
    const { result } = await atPoints([{ point, act: 'fail', with: 'EIO' }], () => applied(made))
    assert.is(result.status, 'refused', point)
    assert.is(result.error?.code, 'TARGET_UNUSABLE', point)
    assert.equal(made.list(), [], point)
  }
})

overDatabases(test, 'a disk that gives other bytes than it was given: the step fails', async (scene) => {
  const made = await prepared(scene)
  const original = await tableRows(scene.db, 'log')
  for (const [point, name] of [
    ['open csv', '*.csv'],
    ['open manifest', '*.manifest.json'],
  ] as const) {
    for (const damage of ['printf x >>', 'truncate -s -1', 'truncate -s 0']) {
      const command = `for f in ${made.path('backups')}/${name}; do ${damage} "$f"; done`
      const { result } = await atPoints([{ point, act: 'run', with: command }], () => applied(made))
      assert.is(result.error?.code, 'ARCHIVE_CHANGED', `${point} ${damage}: ${result.error?.message}`)
      await judge(scene.db, 'log', made.path('backups'), original)
      assert.equal(made.list(), [])
    }
  }
})

overDatabases(
  test,
  'the target folder vanishes in mid-step: the step fails, and the next makes it anew',
  async (scene) => {
    const made = await prepared(scene)
    const original = await tableRows(scene.db, 'log')
    const command = `rm -rf ${made.path('backups')}`
    for (const point of [
      'create csv.tmp',
      'write csv.tmp',
      'fsync csv.tmp',
      'link csv',
      'open csv',
      'create manifest.tmp',
      'link manifest',
    ]) {
      const { result } = await atPoints([{ point, act: 'run', with: command }], () => applied(made))
      assert.is(result.status, 'failed', point)
      assert.ok(
        ['TARGET_UNUSABLE', 'ARCHIVE_NOT_FOUND'].includes(result.error?.code ?? ''),
        `${point}: ${result.error?.code}`,
      )
      assert.is((await tableRows(scene.db, 'log')).length, original.length, point)
    }
    assert.is((await applied(made)).archived, 6)
    await judge(scene.db, 'log', made.path('backups'), original)
  },
)

overDatabases(test, 'a commit that fails: what can pass is tried again, and what cannot is told', async (scene) => {
  const made = await prepared(scene)
  const original = await tableRows(scene.db, 'log')
  // A full disk, then somebody in the way. https://www.sqlite.org/rescode.html, PostgreSQL's manual, appendix A
  const [full, busy] = scene.db.kind === 'sqlite' ? ['SQLITE_FULL', 'SQLITE_BUSY'] : ['53100', '40001']
  const commit = (code: string): Plan[] => [{ point: 'commit step', act: 'fail', with: code }]
  const { result: failed } = await atPoints(commit(full), () => applied(made))
  assert.is(failed.status, 'failed')
  assert.is(failed.error?.code, 'DATABASE_FAILED', failed.error?.message)
  assert.equal(made.list(), [])
  await judge(scene.db, 'log', made.path('backups'), original)
  const { result: patient } = await atPoints(commit(busy), () => applied(made))
  assert.is(patient.status, 'applied', patient.error?.message)
  assert.is(patient.archived, 6)
  assert.is(made.list().length, 4)
  await judge(scene.db, 'log', made.path('backups'), original)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
})

overDatabases(
  test,
  'an archive that holds another number of rows than the database gave: the step fails',
  async (scene) => {
    const made = await prepared(scene)
    const original = await tableRows(scene.db, 'log')
    const { prototype } = scene.db.kind === 'postgres' ? CopyReader : RecordCounter
    const records = Object.getOwnPropertyDescriptor(prototype, 'records')
    if (records === undefined) throw new Error('nothing counts records')
    // As if a row had been cut in two, or two had become one.
    Object.defineProperty(prototype, 'records', { configurable: true, get: () => 4 })
    try {
      const policy = await applied(made)
      assert.is(policy.error?.code, 'ARCHIVE_CHANGED')
      assert.match(policy.error?.message ?? '', /The database gave 3 rows, but .* holds 4/)
    } finally {
      Object.defineProperty(prototype, 'records', records)
    }
    assert.equal(made.list(), [])
    await judge(scene.db, 'log', made.path('backups'), original)
  },
)

/** A small disk of its own, where this user may mount one; undefined elsewhere. */
function smallDisk(kilobytes: number): { folder: string; release(): void } | undefined {
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-disk-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', folder])
  const release = (): void => {
    if (mounted.status === 0) spawnSync('umount', ['-l', folder])
    rmSync(folder, { recursive: true, force: true })
  }
  if (mounted.status === 0) return { folder, release }
  release()
  return undefined
}

overDatabases(test, 'a full disk for the archives: the step fails, and goes on when there is room', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 200), `'${'x'.repeat(1000)}' || id`)
  const made = scene.project({ log: { ...logPolicy, batch: 100 } })
  const original = await tableRows(scene.db, 'log')
  await apply({ cwd: made.folder, now, before: '2000-01-01' })
  const disk = smallDisk(160)
  const backups = disk?.folder ?? made.path('backups')
  // Where nothing can be mounted, no file may grow beyond a limit, which the system answers likewise.
  const fileLimit = disk === undefined ? 90 : undefined
  try {
    made.configure({ database: scene.db.address, archive: { to: backups, durable: true } })
    const run = await made.cli(
      ['apply', '--json'],
      fileLimit === undefined || scene.db.kind === 'sqlite' ? {} : { fileLimit },
    )
    if (disk !== undefined) {
      const [policy] = run.json<ApplyReport>().policies
      assert.is(run.code, 1)
      assert.is(policy?.archived, 100)
      assert.is(policy?.error?.code, 'TARGET_UNUSABLE')
      assert.match(policy?.error?.message ?? '', /ENOSPC|no space left/)
    }
    await judge(scene.db, 'log', backups, original)
    assert.not.ok(made.list('backups').some((name) => name.endsWith('.tmp')))
    made.configure({ database: scene.db.address, archive: { to: './more', durable: true } })
    assert.is((await made.run(['apply'])).code, 0)
    assert.is(Number(await scene.db.value('select count(*) from log')), 0)
    assert.equal((await verify({ cwd: made.folder })).findings, [])
  } finally {
    disk?.release()
  }
})

overDatabases(
  test,
  'a full disk for the SQLite file: nothing is archived that is not deleted',
  async (scene) => {
    const { db } = scene
    await seedLog(db, minutesBefore(cutoff, 400), `'${'x'.repeat(400)}' || id`)
    const disk = smallDisk(1024)
    if (disk === undefined) return
    try {
      for (const mode of ['delete', 'wal']) {
        const database = path.join(disk.folder, 'test.db')
        await db.run(`pragma journal_mode = ${mode}; pragma wal_checkpoint(truncate)`)
        copyFileSync(db.address.replace('sqlite:', ''), database)
        const made = scene.project({ log: logPolicy }, { database: `sqlite:${database}` })
        await apply({ cwd: made.folder, now, before: '2000-01-01' })
        const fill = `dd if=/dev/zero of=${disk.folder}/filler bs=1k || true`
        const { result: policy } = await atPoints([{ point: 'delete rows', act: 'run', with: fill }], () =>
          applied(made),
        )
        assert.is(policy.status, 'failed', mode)
        assert.is(policy.error?.code, 'DATABASE_FAILED', policy.error?.message)
        assert.match(policy.error?.message ?? '', /full|disk I\/O/)
        assert.equal(made.list(), [])
        rmSync(path.join(disk.folder, 'filler'))
        assert.is((await applied(made)).archived, 400)
        assert.equal((await verify({ cwd: made.folder })).findings, [])
        for (const name of ['test.db', 'test.db-wal', 'test.db-shm'])
          rmSync(path.join(disk.folder, name), { force: true })
      }
    } finally {
      disk.release()
    }
  },
  ['sqlite'],
)

overDatabases(test, 'a database that can only be read: apply fails, plan and status work', async (scene) => {
  const made = await prepared(scene)
  if (scene.db.kind === 'postgres') {
    // What a role or a database is set to does not matter: a step says what it is.
    const name = new URL(scene.db.address).pathname.slice(1)
    await scene.db.run(`alter database ${name} set default_transaction_read_only = on`)
    assert.is((await applied(made)).archived, 6)
    return
  }
  const disk = smallDisk(1024)
  if (disk === undefined) return
  try {
    const database = path.join(disk.folder, 'test.db')
    copyFileSync(scene.db.address.replace('sqlite:', ''), database)
    spawnSync('mount', ['-o', 'remount,ro', disk.folder])
    made.configure({ database: `sqlite:${database}` })
    assert.is((await plan({ cwd: made.folder, now })).policies[0]?.due, 6)
    assert.is((await status({ cwd: made.folder, now })).policies[0]?.due, 6)
    const run = await made.run(['apply', '--json'])
    assert.is(run.code, 1)
    assert.match(run.stdout, /readonly|read-only/)
    assert.not.match(run.stderr, / at /)
    assert.equal(made.list(), [])
  } finally {
    disk.release()
  }
})

overDatabases(
  test,
  'a server that stops at once in mid-step or in mid-commit, and starts again',
  async ({ project }) => {
    const cluster = await startCluster()
    let db = await connectTo(cluster.address)
    try {
      await seedLog(db, minutesBefore(cutoff, 6))
      const original = await tableRows(db, 'log')
      const made = project({ log: { ...logPolicy, batch: 3 } }, { database: cluster.address })
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      /** Does something that the server's end comes in between of; returns whether it worked. */
      const crashing = async <T>(at: Plan, work: () => Promise<T>): Promise<T | undefined> => {
        const again = cluster.startAgain()
        const done = await atPoints([{ ...at, act: 'run', with: cluster.crash }], work).then(
          ({ result }) => result,
          () => undefined,
        )
        await again
        await db.drop()
        db = await connectTo(cluster.address)
        await judge(db, 'log', made.path('backups'), original)
        return done
      }
      // At the first, COPY has been begun, and nobody reads it yet.
      for (const point of ['create csv.tmp', 'write csv.tmp', 'link manifest', 'insert ledger']) {
        const policy = await crashing({ point }, () => applied(made))
        assert.is(policy?.status, 'failed', point)
        assert.equal(made.list(), [], point)
      }
      // Sent, and perhaps heard: what it came to is asked of the server that has started again.
      for (const phase of ['before', 'during'] as const) {
        const policy = await crashing({ point: 'commit step', phase }, () => applied(made))
        assert.is((policy?.archived ?? 0) / 3, made.list().length / 2, phase)
      }
      while ((await applied(made)).status !== 'nothing-due');
      for (const { name } of (await status({ cwd: made.folder, now })).archives) {
        for (const onConflict of ['error', 'skip'] as const) {
          for (const point of ['insert rows', 'mark restored']) {
            const crashed = await crashing({ point }, () => restore({ cwd: made.folder, file: name, now, onConflict }))
            assert.is(crashed, undefined, `${onConflict}, ${point}`)
          }
        }
        const report = await crashing({ point: 'commit restore', phase: 'during' }, () =>
          restore({ cwd: made.folder, file: name, now }),
        )
        if (report === undefined) await restore({ cwd: made.folder, file: name, now })
      }
      compareRows(await tableRows(db, 'log'), original)
    } finally {
      await db.drop()
      await cluster.stop()
    }
  },
  ['postgres'],
)

overDatabases(
  test,
  'a statement that takes too long: the step fails, and says what to do',
  async (scene) => {
    const made = await prepared(scene)
    made.configure({ database: scene.db.address, stepTimeout: '300ms' })
    await scene.db
      .run(`create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(10); return old; end $$;
      create trigger slow before delete on log for each row execute function slow()`)
    const policy = await applied(made)
    assert.is(policy.status, 'failed')
    assert.match(policy.error?.message ?? '', /statement timeout/)
    assert.match(policy.error?.hint ?? '', /"stepTimeout" in the config/)
    assert.equal(made.list(), [])
    await scene.db.run('drop trigger slow on log')
    assert.is((await applied(made)).archived, 6)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a privilege that is lost in mid-run: what is archived stays so, and the rest stays',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 6))
    const role = new URL(db.address).pathname.slice(1)
    await db.run(
      `create role ${role} login password 'password'; grant select, delete on log to ${role}; grant create on schema public to ${role}`,
    )
    const address = db.address.replace('postgres:password', `${role}:password`)
    const made = project({ log: { ...logPolicy, batch: 3 } }, { database: address })
    const original = await tableRows(db, 'log')
    const then = (): void => void db.run(`revoke delete on log from ${role}`)
    const pause = '200ms'
    made.policy('log', { ...logPolicy, batch: 3, pause, concurrency: 1 })
    const [policy] = (await apply({ cwd: made.folder, now, onEvent: afterStep(then) })).policies
    assert.is(policy?.status, 'failed')
    assert.is(policy?.archived, 3)
    assert.is(policy?.remaining, 3)
    assert.match(policy?.error?.message ?? '', /permission denied for table log/)
    assert.match(policy?.error?.hint ?? '', /The README lists the exact GRANTs/)
    await judge(db, 'log', made.path('backups'), original)
    await db.run(`drop owned by ${role}; drop role ${role}`).catch(() => {})
  },
  ['postgres'],
)

overDatabases(
  test,
  'the write-ahead log does not become as long as all steps together, though some step is being read whenever one commits',
  async ({ db }) => {
    await db.run('pragma page_size = 512; pragma journal_mode = wal')
    await seedLog(db, minutesBefore(cutoff, 12))
    // As many large rows as the reading thread does not read ahead; and what others write, a page for each row.
    await db.run(`insert into log (id, at, body) with recursive n(i) as (select 1 union all select i + 1 from n where i < 60)
      select 1000 + i, '2020-01-01', hex(zeroblob(150000)) from n`)
    await db.run(`create table other as with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
      select i, hex(zeroblob(200)) as body from n`)
    await db.run('pragma wal_checkpoint(truncate)')
    const real = db.address.replace('sqlite:', '')
    const database = await openSqlite(real, false)
    const request = {
      table: { schema: undefined, name: 'log' },
      column: 'at',
      where: undefined,
      columnTimezone: 'UTC',
      cutoff: cutoffOf(30, 'UTC', now),
      children: undefined,
    }
    const begin = async (where: Sql<boolean>): Promise<[StepTransaction, ExportedRows]> => {
      const step = await database.step(request)
      const { table, order } = step.inspection
      if (table === undefined) throw new Error('no table')
      return [step, step.export({ table, order, where }, false)]
    }
    let longest = 0
    for (let id = 1; id <= 12; id += 1) {
      const [step, rows] = await begin(sql`id = ${id}`)
      for await (const bytes of rows.csv) assert.ok(bytes.length > 0)
      const [beside, large] = await begin(sql`id > 1000`)
      const reading = large.csv[Symbol.asyncIterator]()
      await reading.next()
      await db.run('update other set i = i + 1')
      await rows.remove(async () => undefined)
      await step.commit()
      longest = Math.max(longest, statSync(`${real}-wal`).size)
      await reading.return?.()
      await beside.rollback()
    }
    await database.close()
    assert.is(await db.value('select count(*) from log'), 60n)
    assert.ok(longest < 12e6, `${longest} bytes`)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'what keeps the reading thread from its file is told each time, and a thread that has ended is started again',
  async ({ db }) => {
    await db.run('create table t (a integer primary key); insert into t values (7)')
    const query = {
      header: ['a'],
      numbers: { sql: 'select a from t', parameters: [] },
      lines: `select cast(n.value || char(10) as blob) from json_each(?) as n`,
      exact: '',
    }
    const read = async (reader: Reader): Promise<string> => {
      let text = ''
      for await (const { bytes } of reader.read(query, () => {})) text += bytes.toString()
      return text
    }
    const real = db.address.replace('sqlite:', '')
    const copy = `${real}.later`
    const reader = new Reader(copy, () => {})
    for (let time = 0; time < 2; time += 1) {
      const error = await read(reader).catch((reason: unknown) => reason)
      assert.ok(hasCode(error, 'DATABASE_UNREACHABLE'), String(error))
    }
    copyFileSync(real, copy)
    assert.is(await read(reader), '"a"\n7\n')
    await reader.close()
    assert.is(await read(reader), '"a"\n7\n')
    await reader.close()
  },
  ['sqlite'],
)

overDatabases(test, 'a clock that goes back between runs, or differs between machines', async (scene) => {
  const made = await prepared(scene)
  const original = await tableRows(scene.db, 'log')
  const days = (count: number): Date => new Date(now.getTime() + count * 86_400_000)
  await apply({ cwd: made.folder, now, limitRows: 3 })
  const back = (await apply({ cwd: made.folder, now: days(-10) })).policies[0]
  assert.is(back?.status, 'nothing-due')
  await restore({ cwd: made.folder, file, now: days(-10), hold: '1d' })
  // Held by a clock that is ahead; by a later one, not any more.
  assert.is((await apply({ cwd: made.folder, now: days(-9.5) })).policies[0]?.archived, 0)
  const runs = await Promise.all(
    [-3, 0, 3].map((ahead) =>
      made.cli(['apply', '--json'], {
        node: ['--import', path.join(import.meta.dirname, 'support/points.ts')],
        env: { RETENTION_CLOCK: String(ahead * 86_400_000), RETENTION_WATCH: scene.db.kind },
      }),
    ),
  )
  for (const { code, stdout } of runs) assert.ok(code === 0 || code === 11, stdout)
  await judge(scene.db, 'log', made.path('backups'), original)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
})

test.run()
