/** verify --repair and --deep: what a crash or a lost ledger left is told apart, and put right without removing anything. */
import { readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { loadConfig } from '../src/config/project.ts'
import { openDatabase } from '../src/database/open.ts'
import { apply, restore, status, verify, type Repair, type VerifyReport } from '../src/index.ts'
import { createDatabase, untilAlone, type TestDatabase } from './support/database.ts'
import { compareRows, judge, tableRows, type RowText } from './support/judge.ts'
import { atPoints } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('repair')

const cutoff = '2026-05-16T00:00:00Z'
const points = path.join(import.meta.dirname, 'support/points.ts')

/** A log of three due rows, and a run that was killed at a point: its files are there, the ledger knows none. */
async function cutOff(
  { db, project }: Scene,
  point = 'commit step',
): Promise<{ made: TestProject; original: RowText[] }> {
  const { made, original } = await seeded({ db, project })
  const { signal } = await made.cli(['apply'], {
    node: ['--import', points],
    env: { RETENTION_WATCH: db.kind, RETENTION_POINTS: JSON.stringify([{ point }]) },
  })
  assert.is(signal, 'SIGKILL')
  await untilAlone(db)
  return { made, original }
}

/** The same without a process, for what is not about the kill: the files of a step whose commit has failed, put back. */
async function leftBehind(scene: Scene): Promise<{ made: TestProject; original: RowText[] }> {
  const { made, original } = await seeded(scene)
  const [files, kept] = [made.path('backups'), made.path('kept')]
  const commit = { point: 'commit step', with: `cp -a '${files}' '${kept}'` }
  const { result } = await atPoints(
    [
      { ...commit, act: 'run' },
      { ...commit, act: 'fail' },
    ],
    () => apply({ cwd: made.folder }),
  )
  assert.is(result.policies[0]?.status, 'failed')
  assert.equal(made.list(), [])
  rmSync(files, { recursive: true })
  renameSync(kept, files)
  assert.is(made.list().length, 2)
  return { made, original }
}

async function seeded({ db, project }: Scene): Promise<{ made: TestProject; original: RowText[] }> {
  await seedLog(db, [...minutesBefore(cutoff, 3), '2099-01-01T00:00:00Z'])
  const original = await tableRows(db, 'log')
  const made = project()
  await apply({ cwd: made.folder, now, before: '2000-01-01' })
  return { made, original }
}

const words = ({ repairs }: VerifyReport): string[] =>
  repairs.map(({ action, asks, done }) => `${action}${asks ? '?' : ''}${done ? ', done' : ''}`)

async function ledgerRows(db: TestDatabase): Promise<number> {
  return Number(await db.value('select count(*) from retention_ledger'))
}

overDatabases(test, 'rows that have not left the table: proposed, then set aside', async (scene) => {
  const { made, original } = await cutOff(scene)
  const before = made.list()
  const proposed = await verify({ cwd: made.folder, repair: true })
  assert.equal(words(proposed), ['set-aside'])
  assert.match(proposed.repairs[0]?.text ?? '', /all of its rows are in the table/)
  assert.equal(made.list(), before)
  assert.is(proposed.findings.length, 2)
  const run = await made.run(['verify', '--repair'])
  assert.is(run.code, 3)
  assert.match(run.stdout, /"retention verify --repair --yes" does what is safe/)

  const bytes = readFileSync(made.path(`backups/${before[0]}`))
  const done = await made.run(['verify', '--repair', '--yes'])
  assert.is(done.code, 0, done.stdout)
  assert.match(done.stdout, /set aside/)
  assert.equal(made.list(), ['set-aside'])
  assert.equal(made.list('backups/set-aside'), before)
  assert.equal(readFileSync(made.path(`backups/set-aside/${before[0]}`)), bytes)
  await judge(scene.db, 'log', made.path('backups'), original)
})

overDatabases(test, 'rows that a later run has archived: set aside, over nothing', async (scene) => {
  const { made, original } = await leftBehind(scene)
  const before = made.list()
  for (const name of before) made.write(`backups/set-aside/${name}`, 'set aside before')
  assert.is((await made.run(['apply'])).code, 0)
  assert.match(
    (await verify({ cwd: made.folder, repair: true })).repairs[0]?.text ?? '',
    /all of its rows are in other archives/,
  )
  const report = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(words(report), ['set-aside, done'])
  assert.equal(report.findings, [])
  assert.equal(made.list('backups/set-aside'), before.flatMap((name) => [name, `${name}.1`]).toSorted())
  for (const name of before) assert.is(made.read(`backups/set-aside/${name}`), 'set aside before')
  await judge(scene.db, 'log', made.path('backups'), original)
})

overDatabases(test, 'a ledger that was lost: its archives are adopted, and come back', async (scene) => {
  const { db, project } = scene
  await seedLog(db, [...minutesBefore(cutoff, 3), '2099-01-01T00:00:00Z'])
  const original = await tableRows(db, 'log')
  const made = project({ log: { ...logPolicy, batch: 2 } })
  await apply({ cwd: made.folder, now })
  await forget(db)
  assert.equal(words(await verify({ cwd: made.folder, repair: true })), ['adopt', 'adopt'])
  const report = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(words(report), ['adopt, done', 'adopt, done'])
  assert.equal(report.findings, [])
  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
  await judge(db, 'log', made.path('backups'), original)
  for (const { name, state } of (await status({ cwd: made.folder, now })).archives) {
    assert.is(state, 'archived')
    await restore({ cwd: made.folder, file: name, now })
  }
  compareRows(await tableRows(db, 'log'), original)
})

overDatabases(test, 'rows that are nowhere else, of a step that never was: somebody is asked', async (scene) => {
  const { made } = await leftBehind(scene)
  await scene.db.run("delete from log where at < '2099-01-01'")
  const left = await made.run(['verify', '--repair', '--yes', '--json'])
  assert.is(left.code, 3, left.stdout + left.stderr)
  assert.equal(words(left.json<VerifyReport>()), ['adopt?'])
  assert.is(await ledgerRows(scene.db), 0)
  const asked: Repair[] = []
  const answer = (yes: boolean) => async (repair: Repair) => {
    asked.push(repair)
    return yes
  }
  assert.equal(words(await verify({ cwd: made.folder, repair: true, yes: true, decide: answer(false) })), ['adopt?'])
  assert.is(await ledgerRows(scene.db), 0)
  const report = await verify({ cwd: made.folder, repair: true, yes: true, decide: answer(true) })
  assert.equal(words(report), ['adopt?, done'])
  assert.equal(report.findings, [])
  assert.match(asked[0]?.text ?? '', /somebody else has, and may have meant it/)
  const [archive] = (await status({ cwd: made.folder, now })).archives
  assert.is((await restore({ cwd: made.folder, file: archive?.name ?? '', now })).restored, 3)
})

overDatabases(
  test,
  'some rows here and some gone, or an archive that cannot be trusted: left, and told why',
  async (scene) => {
    const { made } = await leftBehind(scene)
    const [name = ''] = made.list()
    await scene.db.run('delete from log where id = 2')
    const why = async (): Promise<string> => {
      const report = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
      assert.equal(words(report), ['leave'])
      assert.ok(report.findings.length > 0)
      return report.repairs[0]?.text ?? ''
    }
    assert.match(await why(), /of its 3 rows, 2 are in the table and 0 in other archives/)
    const csv = made.read(`backups/${name}`)
    made.write(`backups/${name}`, `${csv}x`)
    assert.match(await why(), /is not what was stored/)
    made.write(`backups/${name}`, csv)
    const manifest = made.read(`backups/${name}.manifest.json`)
    rmSync(made.path(`backups/${name}.manifest.json`))
    assert.match(await why(), /no manifest beside it, and of its 3 rows, 2 are in the table/)
    made.write(`backups/${name}.manifest.json`, manifest)
    rmSync(made.path(`backups/${name}`))
    assert.match(await why(), /no archive beside it/)
    assert.equal(made.list(), [`${name}.manifest.json`])
  },
)

overDatabases(test, 'an archive that was stored, and its manifest not any more: set aside', async (scene) => {
  const { made, original } = await cutOff(scene, 'create manifest.tmp')
  const [name = '', ...more] = made.list()
  assert.match(name, /\.csv$/)
  assert.equal(more, [])
  const report = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(words(report), ['set-aside, done'])
  assert.equal(made.list('backups/set-aside'), [name])
  await judge(scene.db, 'log', made.path('backups'), original)
})

overDatabases(test, 'an unfinished file is set aside; files of a run that is at work are left', async (scene) => {
  const { made } = await cutOff(scene, 'fsync csv.tmp')
  const [name = ''] = made.list()
  assert.match(name, /\.tmp$/)
  const database = await openDatabase(await loadConfig({ cwd: made.folder }), 'write')
  const lock = await database.lock('retention_ledger log')
  const during = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(during.repairs, [])
  assert.equal(during.inProgress, [made.path(`backups/${name}`)])
  await lock?.release()
  await database.close()
  const report = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(words(report), ['set-aside, done'])
  assert.equal(made.list('backups/set-aside'), [name])
})

/** Makes the ledger anew, as with a database that was lost. */
async function forget(db: TestDatabase): Promise<void> {
  for (const table of [
    'ledger',
    'ledger_version',
    'ledger_names',
    'ledger_holds',
    'ledger_held_runs',
    'ledger_erasures',
    'ledger_erased_files',
    'ledger_moved_files',
    'ledger_runs',
    'ledger_held_rows',
  ]) {
    await db.run(`drop table retention_${table}`)
  }
}

async function leftWith(made: TestProject, why: RegExp): Promise<void> {
  const before = made.list()
  const report = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
  assert.equal(words(report), ['leave'])
  assert.match(report.repairs[0]?.text ?? '', why)
  assert.equal(made.list(), before)
}

overDatabases(test, 'keys that are in use by other rows make an archive no copy of them', async (scene) => {
  const { db, project } = scene
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  await apply({ cwd: made.folder, now })
  await forget(db)
  await db.run(
    "insert into log (id, at, body) values (1, '2099-01-01', 'new'), (2, '2099-01-01', 'new'), (3, '2099-01-01', 'new')",
  )
  await leftWith(made, /of its 3 rows, 0 are in the table and 0 in other archives, and 3 of its keys are in use/)
})

overDatabases(test, 'a row in two places does not stand for one in none', async (scene) => {
  const { db } = scene
  const { made } = await leftBehind(scene)
  assert.is((await made.run(['apply'])).code, 0)
  const [archive] = (await status({ cwd: made.folder, now })).archives
  // Of the first archive's rows one is in the table and in another archive, and one is in neither.
  await db.run(`update retention_ledger set state = 'restored', restored_at = archived_at`)
  const csv = await restoreInto(db, made, archive?.name ?? '')
  await db.run(`insert into log select * from ${csv} where id = 1`)
  await leftWith(made, /of its 3 rows, 1 are in the table and 0 in other archives/)
})

/** Restores an archive into a table beside the log; returns its name. */
async function restoreInto(db: TestDatabase, made: TestProject, name: string): Promise<string> {
  await db.run('create table copy as select * from log where false')
  await restore({ cwd: made.folder, file: name, now, into: 'copy' })
  return 'copy'
}

overDatabases(test, 'equal rows are counted: three in an archive are not one in the table', async ({ db, project }) => {
  await db.run(`create table log (at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'}, body text);
    insert into log values ('2020-01-01', 'same'), ('2020-01-01', 'same'), ('2020-01-01', 'same')`)
  const made = project()
  await apply({ cwd: made.folder, now })
  await forget(db)
  await db.run("insert into log values ('2020-01-01', 'same')")
  await leftWith(made, /of its 3 rows, 1 are in the table/)
  await db.run("insert into log values ('2020-01-01', 'same'), ('2020-01-01', 'same')")
  // The number was given away by a ledger that is no more: it may be another database's.
  assert.equal(words(await verify({ cwd: made.folder, repair: true })), ['set-aside?'])
})

overDatabases(test, 'an archive that was damaged is no other place for its rows', async (scene) => {
  const { made } = await leftBehind(scene)
  assert.is((await made.run(['apply'])).code, 0)
  const [archive] = (await status({ cwd: made.folder, now })).archives
  const name = `backups/${archive?.name ?? ''}`
  made.write(name, `${made.read(name)}x`)
  const report = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(words(report), ['adopt?'])
  assert.equal(report.findings.map(({ kind }) => kind).toSorted(), ['changed', 'orphan', 'orphan'])
})

overDatabases(test, 'one place under two paths is one place', async (scene) => {
  const { db, project } = scene
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  await apply({ cwd: made.folder, now })
  await forget(db)
  symlinkSync(made.path('backups'), made.path('link'))
  made.policy('other', { ...logPolicy, where: 'id > 5', archive: { to: './link', durable: true } })
  assert.equal(words(await verify({ cwd: made.folder, repair: true, yes: true })), ['adopt, done'])
  assert.equal((await verify({ cwd: made.folder, repair: true })).findings, [])
})

overDatabases(
  test,
  'a database that was lost: made anew, it is told of its archives, and gets its rows back',
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, minutesBefore(cutoff, 3))
    const original = await tableRows(db, 'log')
    const made = project()
    await apply({ cwd: made.folder, now })
    const fresh = await createDatabase(db.kind)
    try {
      const manifest = made.list().find((name) => name.endsWith('.manifest.json')) ?? ''
      // A manifest's form is what the README says it is.
      const { files } = JSON.parse(made.read(`backups/${manifest}`)) as { files: { ddl: string[] }[] }
      for (const statement of files[0]?.ddl ?? []) await fresh.run(statement)
      made.configure({ database: fresh.address })
      assert.equal(words(await verify({ cwd: made.folder, repair: true, yes: true })), ['adopt, done'])
      const [archive] = (await status({ cwd: made.folder, now })).archives
      await restore({ cwd: made.folder, file: archive?.name ?? '', now })
      compareRows(await tableRows(fresh, 'log'), original)
    } finally {
      await fresh.drop()
    }
  },
)

overDatabases(
  test,
  "archives' folder that was lost: verify says of each what is missing, restore that it is not there",
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, [...minutesBefore(cutoff, 3), '2099-01-01T00:00:00Z'])
    const made = project()
    await apply({ cwd: made.folder, now })
    const [csv = '', manifest = ''] = made.list()
    rmSync(made.path('backups'), { recursive: true })
    const { findings } = await verify({ cwd: made.folder })
    assert.equal(
      findings.map(({ kind, name }) => `${kind} ${name}`),
      [`missing ${csv}`, `missing ${manifest}`],
    )
    const run = await made.run(['restore', csv])
    assert.is(run.code, 1)
    assert.match(run.stderr, /There is no file .*\.csv/)
    assert.is((await made.run(['status'])).code, 0)
  },
)

overDatabases(test, '--deep: rows of an archive that are in the table as well', async (scene) => {
  const { db, project } = scene
  await seedLog(db, [...minutesBefore(cutoff, 3), '2099-01-01T00:00:00Z'])
  const made = project({ log: { ...logPolicy, batch: 2 } })
  await apply({ cwd: made.folder, now })
  // Side by side, either may have been recorded first.
  const { archives } = await status({ cwd: made.folder, now })
  const [first, second] = archives.toSorted((a, b) => (a.from < b.from ? -1 : 1))
  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
  await db.run("insert into log (id, at, body) values (1, '2099-01-01', 'a number used again')")
  const run = await made.run(['verify', '--deep', '--json'])
  assert.is(run.code, 3)
  const [finding, ...more] = run.json<VerifyReport>().findings
  assert.is(finding?.kind, 'returned')
  assert.is(finding?.name, first?.name)
  assert.match(
    finding?.text ?? '',
    /^1 of its keys are in use in (public\.)?log, 0 of them by the very same rows: \(1\)$/,
  )
  assert.equal(more, [])
  // What was restored is there because it was.
  await restore({ cwd: made.folder, file: second?.name ?? '', now })
  assert.is((await verify({ cwd: made.folder, deep: true })).findings.length, 1)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
})

test.run()
