/** The ledger, status and verify: what has been done can be told, by a role that may only read, and checked. */
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { openDatabase } from '../src/database/open.ts'
import {
  addHold,
  apply,
  erase,
  listHolds,
  move,
  plan,
  prune,
  releaseHold,
  restore,
  status,
  type StatusReport,
  type VerifyReport,
  verify,
} from '../src/index.ts'
import { loadConfig } from '../src/config/project.ts'
import { onCluster } from './support/database.ts'
import { ledgerEntries } from './support/judge.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('ledger')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'

async function archived({ db, project }: Scene, count = 3): Promise<TestProject> {
  await seedLog(db, [...minutesBefore(cutoff, count), '2026-06-10T00:00:00Z'])
  const made = project({ log: { ...logPolicy, batch: 2 } })
  await apply({ cwd: made.folder, now })
  return made
}

overDatabases(test, 'an absent ledger reads as an empty one, and reading does not make it', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  const { folder } = project()
  assert.equal((await status({ cwd: folder, now })).archives, [])
  assert.is((await plan({ cwd: folder, now })).policies[0]?.due, 2)
  assert.is((await verify({ cwd: folder })).checked, 0)
  const tables =
    db.kind === 'sqlite'
      ? "select count(*) from sqlite_schema where name like 'retention%'"
      : "select count(*) from pg_class where relname like 'retention%'"
  assert.is(Number(await db.value(tables)), 0)
})

overDatabases(test, 'refuses to work under the ledger of a newer version', async (scene) => {
  const made = await archived(scene)
  await scene.db.run('update retention_ledger_version set version = 99')
  const before = await scene.db.dump('log')
  for (const args of [['apply'], ['plan'], ['status'], ['verify'], ['restore', file]]) {
    const run = await made.run(args)
    assert.is(run.code, 1, args.join(' '))
    assert.match(run.stderr, /has version 99; this version of retention knows versions up to 1/)
    assert.match(run.stderr, /Upgrade retention/)
  }
  assert.equal(await scene.db.dump('log'), before)
})

overDatabases(test, 'a table of that name that is not ours is in the way', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  await db.run('create table retention_ledger (mine integer)')
  const made = project()
  const run = await made.run(['apply'])
  assert.is(run.code, 1)
  assert.match(run.stderr, /ledger retention_ledger cannot be set up/)
  assert.is(Number(await db.value('select count(*) from log')), 2)
})

overDatabases(test, 'goes by another name', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  if (db.kind === 'postgres') await db.run('create schema ops')
  const name = db.kind === 'postgres' ? 'ops.archive_ledger' : 'archive_ledger'
  const made = project(undefined, { ledger: name })
  await apply({ cwd: made.folder, now })
  assert.is(Number(await db.value(`select count(*) from ${name}`)), 1)
  const [archive] = (await status({ cwd: made.folder, now })).archives
  await restore({ cwd: made.folder, file: archive?.name ?? '', now })
  assert.is((await status({ cwd: made.folder, now })).policies[0]?.held, 2)
})

overDatabases(test, 'status: due, undated, oldest, archived, overdue', async (scene) => {
  const { db } = scene
  await seedLog(db, ['2026-05-10T00:00:00Z', '2026-05-15T12:00:00Z', '2026-06-01T00:00:00Z'])
  await db.run('insert into log (at) values (null)')
  const made = scene.project()
  const [before] = (await status({ cwd: made.folder, now })).policies
  assert.is(before?.due, 2)
  assert.is(before?.undated, 1)
  assert.match(before?.oldest ?? '', /^2026-05-10T00:00:00/)
  assert.is(before?.overdue, true)
  assert.is(before?.lastAppliedAt, null)
  assert.is(before?.archived, 0)
  await apply({ cwd: made.folder, now, before: '2026-05-14' })
  const [between] = (await status({ cwd: made.folder, now })).policies
  // Due since last midnight: the next nightly run takes it.
  assert.is(between?.due, 1)
  assert.is(between?.overdue, false)
  await apply({ cwd: made.folder, now })
  const [after] = (await status({ cwd: made.folder, now })).policies
  assert.is(after?.due, 0)
  assert.is(after?.archived, 2)
  assert.is(after?.archives, 2)
  assert.ok(after?.lastAppliedAt !== null)
  assert.match(after?.oldest ?? '', /^2026-06-01T00:00:00/)
})

overDatabases(test, 'status shows a policy that has changed since it last archived something', async (scene) => {
  const made = await archived(scene)
  assert.is((await status({ cwd: made.folder, now })).policies[0]?.changed, false)
  const changed = { ...logPolicy, days: 7 }
  const other = scene.project({ log: changed })
  assert.is((await status({ cwd: other.folder, now })).policies[0]?.changed, true)
  assert.match((await other.run(['status'])).stdout, /Policy "log" has changed since/)
})

overDatabases(test, 'how runs ended is kept: good ones, refused ones, and the last', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  const made = project({ log: logPolicy })
  const events: string[] = []
  const told = await apply({ cwd: made.folder, now, run: 'first', onEvent: ({ type }) => void events.push(type) })
  assert.equal(events, ['run-started', 'policy-started', 'step-finished', 'policy-finished', 'run-finished'])
  made.policy('log', { ...logPolicy, column: 'missing' })
  await apply({ cwd: made.folder, now, run: 'second' })
  const { runs, policies } = await status({ cwd: made.folder, now })
  assert.equal(
    runs.map(({ run, policy, status: ended, rows, error }) => [run, policy, ended, rows, error?.code]),
    [
      ['second', 'log', 'refused', 0, 'REFUSED'],
      ['first', 'log', 'applied', 2, undefined],
    ],
  )
  assert.is(runs[1]?.bytes, told.policies[0]?.archives[0]?.bytes)
  const [standing] = policies
  assert.is(standing?.lastRun?.run, 'second')
  assert.is(standing?.lastSuccessAt, runs[1]?.finishedAt)
  assert.is(standing?.failedRuns, 1)
  // Those of long ago are forgotten; sooner where they had nothing to do.
  const old = (run: string, ended: string, days: number): Promise<void> =>
    db.run(`insert into retention_ledger_runs (run, policy, started_at, finished_at, status, rows, bytes, host)
      values ('${run}', 'log', '${daysAgo(days)}', '${daysAgo(days)}', '${ended}', 0, 0, 'here')`)
  await old('idle', 'nothing-due', 40)
  await old('busy', 'applied', 40)
  await old('ancient', 'applied', 800)
  await apply({ cwd: made.folder, now, run: 'third' })
  const left = (await db.rows('select run from retention_ledger_runs order by run')).flat()
  assert.equal(left, ['busy', 'first', 'second', 'third'])
})

function daysAgo(days: number): string {
  return new Date(Date.now() - days * 24 * 60 * 60 * 1000).toISOString()
}

overDatabases(test, 'status of one policy lists its archives, and no other', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  const made = project({ log: { ...logPolicy, where: 'id = 1' }, other: { ...logPolicy, where: 'id = 2' } })
  await apply({ cwd: made.folder, now, policies: ['log'] })
  await apply({ cwd: made.folder, now, policies: ['other'] })
  const { policies, archives } = await status({ cwd: made.folder, now, policies: ['other'] })
  assert.equal([policies.map(({ policy }) => policy), archives.map(({ policy }) => policy)], [['other'], ['other']])
  assert.is((await status({ cwd: made.folder, now })).archives.length, 2)
})

overDatabases(test, 'status --exit-code: 3 when something is due, or a policy cannot work', async ({ db, project }) => {
  await seedLog(db, ['2020-01-01T00:00:00Z'])
  const made = project()
  assert.is((await made.run(['status'])).code, 0)
  assert.is((await made.run(['status', '--exit-code'])).code, 3)
  await made.run(['apply'])
  assert.is((await made.run(['status', '--exit-code'])).code, 0)
  const broken = project({ log: { ...logPolicy, column: 'nope' } })
  const run = await broken.run(['status', '--exit-code', '--json'])
  assert.is(run.code, 3)
  assert.match(run.json<StatusReport>().policies[0]?.error?.message ?? '', /no column "nope"/)
})

overDatabases(test, 'verify: all is well, and what is missing, changed or unknown', async (scene) => {
  const made = await archived(scene, 5)
  const good = await verify({ cwd: made.folder })
  assert.equal(good.findings, [])
  assert.is(good.checked, 3)
  assert.is(good.rows, 5)
  assert.is((await made.run(['verify'])).code, 0)

  const [one = '', , two = '', , three = ''] = made.list()
  rmSync(made.path(`backups/${one}`))
  made.write(`backups/${two}`, made.read(`backups/${two}`).replace('text', 'TEXT'))
  rmSync(made.path(`backups/${three}.manifest.json`))
  made.write('backups/log_backup_20200101.csv', 'unknown')
  made.write('backups/.log_backup_20260516_0009.csv.0123456789ab.tmp', 'unfinished')
  made.write('backups/notes.txt', 'no archive')
  const bad = await verify({ cwd: made.folder })
  assert.equal(
    bad.findings.map(({ kind, name }) => `${kind} ${name}`).toSorted(),
    [
      `changed ${two}`,
      `missing ${one}`,
      `missing ${three}.manifest.json`,
      'orphan .log_backup_20260516_0009.csv.0123456789ab.tmp',
      'orphan log_backup_20200101.csv',
    ].toSorted(),
  )
  const run = await made.run(['verify', '--json'])
  assert.is(run.code, 3)
  assert.is(run.json<VerifyReport>().findings.length, 5)
  // Named, only these are looked at.
  assert.equal(
    (await verify({ cwd: made.folder, files: [one] })).findings.map(({ kind }) => kind),
    ['missing'],
  )
  assert.is((await made.run(['verify', 'nothing.csv'])).code, 1)
})

overDatabases(test, 'verify: rows that do not add up, a manifest that was changed', async (scene) => {
  const made = await archived(scene)
  await scene.db.run(`update retention_ledger set rows = 7 where name = '${file}'`)
  made.write(`backups/${file}.manifest.json`, made.read(`backups/${file}.manifest.json`).replace('"rows"', ' "rows"'))
  const texts = (await verify({ cwd: made.folder })).findings.map(({ text }) => text)
  assert.match(texts[0] ?? '', /2 rows, not 7/)
  assert.match(texts[1] ?? '', /SHA-256 is/)
})

overDatabases(test, 'verify: one file that cannot be read does not hide what is wrong with others', async (scene) => {
  const made = await archived(scene, 5)
  const [one = '', , two = ''] = made.list()
  rmSync(made.path(`backups/${one}`))
  mkdirSync(made.path(`backups/${one}`))
  rmSync(made.path(`backups/${two}`))
  const { findings } = await verify({ cwd: made.folder })
  assert.equal(findings.map(({ kind, name }) => `${kind} ${name}`).toSorted(), [`changed ${one}`, `missing ${two}`])
})

overDatabases(
  test,
  'verify: a file of a known name in another place is an orphan, the same place twice is not',
  async (scene) => {
    const made = await archived(scene)
    symlinkSync(made.path('backups'), made.path('link'))
    made.policy('other', { ...logPolicy, archive: { to: './link', durable: true } })
    assert.equal((await verify({ cwd: made.folder })).findings, [])
    made.write(`elsewhere/${file}`, 'not ours')
    made.policy('other', { ...logPolicy, archive: { to: './elsewhere', durable: true } })
    assert.equal(
      (await verify({ cwd: made.folder })).findings.map(({ kind, location }) => `${kind} ${location}`),
      [`orphan ${made.path(`elsewhere/${file}`)}`],
    )
  },
)

overDatabases(test, 'verify finds archives where they were stored, though the config has moved on', async (scene) => {
  const made = await archived(scene)
  made.configure({ database: scene.db.address, archive: { to: './elsewhere', durable: true } })
  assert.equal((await verify({ cwd: made.folder })).findings, [])
  assert.is((await restore({ cwd: made.folder, file, now })).restored, 2)
})

overDatabases(test, 'a folder that has moved with its project is found', async (scene) => {
  const made = await archived(scene)
  const moved = `${made.folder}-moved`
  renameSync(made.folder, moved)
  try {
    assert.equal((await verify({ cwd: moved })).findings, [])
    assert.is((await restore({ cwd: moved, file, now })).restored, 2)
  } finally {
    renameSync(moved, made.folder)
  }
})

overDatabases(test, 'a restored archive may be gone; an archived one may not', async (scene) => {
  const made = await archived(scene)
  await restore({ cwd: made.folder, file, now })
  rmSync(made.path(`backups/${file}`))
  rmSync(made.path(`backups/${file}.manifest.json`))
  assert.equal((await verify({ cwd: made.folder })).findings, [])
})

overDatabases(test, 'files of a run that is under way are not orphans', async (scene) => {
  const made = await archived(scene)
  writeFileSync(made.path('backups/log_backup_20260516_0077.csv'), 'being written')
  const database = await openDatabase(await loadConfig({ cwd: made.folder }), 'write')
  try {
    const lock = await database.lock('retention_ledger log')
    const during = await verify({ cwd: made.folder })
    assert.equal(during.findings, [])
    assert.is(during.inProgress.length, 1)
    await lock?.release()
    assert.is((await verify({ cwd: made.folder })).findings.length, 1)
  } finally {
    await database.close()
  }
})

/** The statements of one of the README's blocks of GRANTs, for a database, table and role of this test. */
function grants(block: string, base: string, role: string): string {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const [, statements] = new RegExp(`<!-- grants: ${block} -->\\s+\`\`\`sql\\n([^\`]+)\`\`\``).exec(readme) ?? []
  if (statements === undefined) throw new Error(`the README has no GRANTs for ${block}`)
  return statements
    .replaceAll('conversation_log', 'log')
    .replaceAll('DATABASE app', `DATABASE "${base}"`)
    .replaceAll(/\b(archiver|reader|counsel);/g, `"${role}";`)
}

overDatabases(
  test,
  'the GRANTs of the README are enough, and without them it says which are missing',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 4))
    const role = `archiver_${Math.random().toString(36).slice(2)}`
    const base = String(await db.value('select current_database()'))
    await onCluster(`create role "${role}" login password 'x'`)
    // As it is from version 15 on.
    await db.run('revoke create on schema public from public')
    try {
      const made = project(undefined, {
        database: db.address.replace('postgres:password@', `${role}:x@`),
        lockTimeout: '200ms',
      })
      const refused = await made.run(['apply'])
      assert.is(refused.code, 1)
      assert.match(refused.stderr, /permission denied for schema public/)

      await db.run(grants('first', base, role))
      const [without] = (await apply({ cwd: made.folder, now })).policies
      assert.match(
        without?.error?.message ?? '',
        new RegExp(`Role "${role}" may not read and delete rows of public\\.log`),
      )
      assert.match(without?.error?.hint ?? '', /GRANT SELECT, DELETE ON public\.log TO /)
      await db.run(`revoke create on schema public from "${role}"`)

      await db.run(grants('apply', base, role))
      await db.run('begin; update log set body = null where id = 1')
      assert.is((await apply({ cwd: made.folder, now })).policies[0]?.skipped, 1)
      await db.run('rollback')
      assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 1)

      const noInsert = await made.run(['restore', file])
      assert.match(noInsert.stderr, /may not read and insert rows of public\.log/)
      await db.run(grants('restore', base, role))
      const restored = await made.run(['restore', file])
      assert.is(restored.code, 0, restored.stderr)
    } finally {
      await db.run(`drop owned by "${role}"`)
      await onCluster(`drop owned by "${role}"; drop role "${role}"`)
    }
  },
  ['postgres'],
)

overDatabases(
  test,
  'the GRANTs of the README for a ledger that somebody else owns, and for a role that may only read',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 4))
    const role = `archiver_${Math.random().toString(36).slice(2)}`
    const reader = `${role}_reader`
    const counsel = `${role}_counsel`
    const base = String(await db.value('select current_database()'))
    for (const name of [role, reader, counsel]) await onCluster(`create role "${name}" login password 'x'`)
    const as = (user: string): string => db.address.replace('postgres:password@', `${user}:x@`)
    try {
      const made = project()
      await apply({ cwd: made.folder, now, limitRows: 1 })
      for (const block of ['apply', 'restore', 'ledger']) await db.run(grants(block, base, role))
      await db.run(grants('read', base, reader))

      made.configure({ database: as(reader) })
      for (const args of [['status'], ['verify'], ['plan']]) {
        const run = await made.run(args)
        assert.is(run.code, 0, run.stderr)
      }
      assert.is((await status({ cwd: made.folder, now })).policies[0]?.error, undefined)
      assert.match((await made.run(['apply'])).stderr, /permission denied for table retention_ledger_held_runs/)

      made.configure({ database: as(role) })
      for (const args of [['apply'], ['restore', file], ['status', '--exit-code'], ['verify']]) {
        const run = await made.run(args)
        assert.is(run.code, 0, run.stdout + run.stderr)
      }
      // Holds that have ended are forgotten.
      assert.is((await apply({ cwd: made.folder, now: new Date('2099-01-01') })).policies[0]?.error, undefined)

      // What is pruned takes no rights of its own.
      await db.run("update retention_ledger set archived_at = '2000-01-01' where state = 'restored'")
      const archive = { to: './backups', durable: true, expireAfter: '20 years' }
      made.configure({ database: as(role), archive })
      const pruned = await prune({ cwd: made.folder, yes: true })
      assert.is(
        pruned.policies[0]?.archives.every((one) => one.pruned && one.error === undefined),
        true,
      )
      assert.is(pruned.policies[0]?.pruned, 1)
      made.configure({ database: as(role) })

      const wish = { cwd: made.folder, policy: 'log', where: 'id = 2', reason: 'x' }
      assert.is((await erase(wish)).erased, 1)
      const [denied] = (await erase({ ...wish, yes: true })).archives
      assert.match(denied?.error?.message ?? '', /permission denied for table retention_ledger_erasures/)
      await db.run(grants('erase', base, role))
      assert.is((await erase({ ...wish, yes: true })).erased, 1)

      made.configure({ database: as(role), archive: { to: './vault', durable: true } })
      const there = { cwd: made.folder, policy: 'log', to: './vault', yes: true }
      const [unmoved] = (await move(there)).archives
      assert.match(unmoved?.error?.message ?? '', /permission denied for table retention_ledger_moved_files/)
      await db.run(grants('move', base, role))
      assert.ok((await move(there)).archives.every(({ error }) => error === undefined))

      // Whoever archives may hold rows, and not release them.
      const held = await addHold({ cwd: made.folder, on: 'log', reason: 'x' })
      const refused = await releaseHold({ cwd: made.folder, id: held.hold.id }).catch((error: unknown) => error)
      assert.match(String(refused), /permission denied for table retention_ledger_holds/)
      made.configure({ database: as(counsel) })
      const blind = await addHold({ cwd: made.folder, on: 'log', where: 'id = 1', reason: 'x' }).catch(
        (error: unknown) => error,
      )
      assert.match(String(blind), /Error: Postgres: permission denied for table log/)
      await db.run(grants('hold', base, counsel))
      await releaseHold({ cwd: made.folder, id: held.hold.id })
      await addHold({ cwd: made.folder, on: 'log', where: 'id = 1', reason: 'x' })
      const kept = (await ledgerEntries(db)).find(({ state }) => state === 'archived')
      await addHold({ cwd: made.folder, archive: kept?.name ?? '', reason: 'x' })
      made.configure({ database: as(reader) })
      assert.is((await listHolds({ cwd: made.folder })).holds.filter(({ kind }) => kind === 'legal').length, 2)
    } finally {
      const roles = `"${role}", "${reader}", "${counsel}"`
      await db.run(`drop owned by ${roles}`)
      await onCluster(`drop owned by ${roles}; drop role ${roles}`)
    }
  },
  ['postgres'],
)

overDatabases(
  test,
  'row-level security that hides rows is refused, for apply and for restore',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 4))
    const role = `tenant_${Math.random().toString(36).slice(2)}`
    await onCluster(`create role "${role}" login password 'x'`)
    try {
      await db.run(`grant create on schema public to "${role}"; grant select, insert, delete on log to "${role}"`)
      const made = project(undefined, { database: db.address.replace('postgres:password@', `${role}:x@`) })
      assert.is((await apply({ cwd: made.folder, now, limitRows: 1 })).policies[0]?.archived, 1)
      await db.run('alter table log enable row level security; create policy partly on log using (id > 2)')
      const [policy] = (await apply({ cwd: made.folder, now })).policies
      assert.is(policy?.status, 'refused')
      assert.match(policy?.error?.message ?? '', /Row-level security hides rows of public\.log/)
      assert.match((await made.run(['restore', file])).stderr, /Row-level security on public\.log applies/)
    } finally {
      await db.run(`drop owned by "${role}"`)
      await onCluster(`drop role "${role}"`)
    }
  },
  ['postgres'],
)

overDatabases(test, 'verify of a path looks at that file, and no other', async (scene) => {
  const made = await archived(scene)
  made.write(`cold/${file}`, `${made.read(`backups/${file}`)}junk`)
  const { findings } = await verify({ cwd: made.folder, files: [`cold/${file}`] })
  assert.equal(
    findings.map(({ kind, location }) => `${kind} ${location}`),
    [`changed ${made.path(`cold/${file}`)}`, `missing ${made.path(`cold/${file}.manifest.json`)}`],
  )
  assert.is((await verify({ cwd: made.folder, files: [`nowhere/${file}`] })).findings[0]?.kind, 'missing')
  assert.equal((await verify({ cwd: made.folder, files: [`backups/${file}`, file] })).findings, [])
})

test.run()
