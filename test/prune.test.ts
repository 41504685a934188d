/** retention prune: archives go when they have outlived their retention, and no earlier; the ledger knows of every one. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { expiryAt, parsePeriod } from '../src/cutoff.ts'
import { codeOfPrune } from '../src/exit-codes.ts'
import {
  addHold,
  apply,
  erase,
  prune,
  readArchive,
  releaseHold,
  restore,
  status,
  verify,
  type PruneOptions,
  type PruneReport,
} from '../src/index.ts'
import { printPrune } from '../src/print/prune.ts'
import type { TestDatabase } from './support/database.ts'
import { fails } from './support/fails.ts'
import { ledgerEntries } from './support/judge.ts'
import { atPoints } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('prune')

const [first, second, third] = ['', '_0002', '_0003'].map((number) => `log_backup_20260516${number}.csv`) as [
  string,
  string,
  string,
]
const archive = { to: './backups', durable: true, expireAfter: '7 years' }

/** Three archives of two rows each; all but the last were archived so long ago that they have expired at `now`. */
async function archived({ db, project }: Scene, config: object = archive): Promise<TestProject> {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 6))
  const made = project({ log: { ...logPolicy, batch: 2, concurrency: 1 } }, { archive: { ...archive, ...config } })
  assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 6)
  await age(db, first, '2018-02-28T12:00:00Z')
  await age(db, second, '2019-06-14T23:59:59Z')
  await age(db, third, '2019-06-15T00:00:00Z')
  return made
}

async function age(db: TestDatabase, name: string, archivedAt: string): Promise<void> {
  await db.run(`update retention_ledger set archived_at = '${archivedAt}' where name = '${name}'`)
}

async function pruneIn({ folder }: TestProject, options: PruneOptions = {}): Promise<PruneReport> {
  return prune({ cwd: folder, now, by: 'dba', yes: true, ...options })
}

/** By the real clock; from the command line where a process takes the least time. */
async function pruneNow({ db }: Scene, made: TestProject): Promise<PruneReport> {
  if (db.kind === 'postgres') return pruneIn(made, { policies: ['log'], now: new Date() })
  const done = await made.cli(['prune', 'log', '--yes', '--by', 'dba', '--json'])
  assert.is(done.code, 0, done.stderr)
  return done.json<PruneReport>()
}

async function states(db: TestDatabase): Promise<string[]> {
  return (await ledgerEntries(db)).map(({ name, state }) => `${name} ${state}`).toSorted()
}

async function ledgerText(db: TestDatabase): Promise<string> {
  return (await db.rows('select * from retention_ledger order by name'))
    .map((row) => row.map(String).join('|'))
    .join('\n')
}

function filesOf(made: TestProject): Map<string, string> {
  return new Map(made.list().map((name) => [name, made.read(`backups/${name}`)]))
}

/** For each expired archive its name, whether it went, and what kept it. */
function shape({ policies }: PruneReport): unknown[] {
  return policies.flatMap(({ archives }) =>
    archives.map(({ name, pruned, holds, error }) => [name, pruned, error?.code ?? holds[0]?.reason ?? '']),
  )
}

const both = (...names: string[]): string[] => names.flatMap((name) => [name, `${name}.manifest.json`]).toSorted()

overDatabases(test, 'from the command line: told first, then exactly the expired ones go', async (scene) => {
  const { db } = scene
  const made = await archived(scene)
  const before = { files: filesOf(made), ledger: await ledgerText(db) }
  const told = await pruneIn(made, { yes: false })
  assert.equal(shape(told), [
    [first, true, ''],
    [second, true, ''],
  ])
  assert.match(printPrune(told), /log: 2 archives, .* would be pruned after 7 years; the next expires 2026-06-16/)
  assert.match(printPrune(told), /Nothing has been changed\. --yes does it/)
  assert.equal(filesOf(made), before.files)
  assert.is(await ledgerText(db), before.ledger)

  // By the real clock the third has expired as well.
  await age(db, third, new Date().toISOString())
  const [policy] = (await pruneNow(scene, made)).policies
  assert.equal(
    [policy?.pruned, policy?.expireAfter, policy?.archives[0]?.expiredAt],
    [2, '7 years', '2025-03-01T00:00:00Z'],
  )
  assert.equal(made.list(), both(third))
  assert.equal(await states(db), [`${first} pruned`, `${second} pruned`, `${third} archived`].toSorted())
  const [entry] = (await status({ cwd: made.folder, now })).archives
  assert.equal([entry?.name, entry?.prunedBy, entry?.sha256], [first, 'dba', policy?.archives[0]?.sha256])
  assert.ok(entry?.prunedAt !== null && entry?.removedAt !== null)

  // Nobody takes them for lost, finds them again, or uses their names.
  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
  const gone = /^log_backup_20260516\.csv was pruned at 20.* by dba: it had outlived its own retention$/
  await fails(restore({ cwd: made.folder, file: first, now }), 'ARCHIVE_NOT_FOUND', gone)
  await fails(readArchive({ cwd: made.folder, file: first }).next(), 'ARCHIVE_NOT_FOUND', gone)
  await fails(addHold({ cwd: made.folder, archive: first, reason: 'x', now }), 'ARCHIVE_NOT_FOUND', /has been pruned/)
  assert.is((await erase({ cwd: made.folder, now, policy: 'log', where: 'true', reason: 'x' })).checked, 1)
  const bytes = before.files.get(first) ?? ''
  made.write(`backups/${first}`, bytes)
  made.write(`backups/${first}.manifest.json`, before.files.get(`${first}.manifest.json`) ?? '')
  const { findings, repairs } = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
  assert.equal(
    [findings.map(({ kind }) => kind), repairs.map(({ action }) => action)],
    [
      ['pruned', 'pruned'],
      ['leave', 'leave'],
    ],
  )
  assert.match(findings[0]?.text ?? '', /was pruned at .* by dba, and it was removed at .*: somebody has put it back/)
  await fails(restore({ cwd: made.folder, file: first, now }), 'ARCHIVE_NOT_FOUND', gone)
  await db.run("insert into log (at) values ('2026-01-01T00:00:00Z')")
  await apply({ cwd: made.folder, now })
  assert.is(made.list().filter((name) => name === 'log_backup_20260516_0004.csv').length, 1)
})

overDatabases(test, 'holds keep, and so does damage; restored ones go', async (scene) => {
  const { db } = scene
  const made = await archived(scene)
  const place = { cwd: made.folder, now }
  const one = await addHold({ ...place, archive: first, reason: 'lawsuit' })
  assert.equal(shape(await pruneIn(made, { yes: false })), [
    [first, false, 'lawsuit'],
    [second, true, ''],
  ])
  const rows = await addHold({ ...place, on: 'log', where: 'id = 1', reason: 'audit' })
  const held = await pruneIn(made)
  assert.equal(
    shape(held).map((line) => (line as unknown[])[1]),
    [false, false],
  )
  assert.match(printPrune(held), /kept by legal hold .*\(lawsuit, by /)
  assert.is(codeOfPrune(held), 4)
  await releaseHold({ ...place, id: one.hold.id })
  await releaseHold({ ...place, id: rows.hold.id })
  // A table that had another name when its rows were archived.
  await db.run('alter table log rename to journal')
  made.policy('log', { ...logPolicy, table: 'journal' })
  const renamed = await addHold({ ...place, on: 'journal', reason: 'court' })
  assert.equal(shape(await pruneIn(made, { yes: false })), [
    [first, false, 'court'],
    [second, false, 'court'],
  ])
  await releaseHold({ ...place, id: renamed.hold.id })
  await db.run('alter table journal rename to log')
  made.policy('log', logPolicy)

  const file = made.path(`backups/${first}`)
  const bytes = readFileSync(file)
  const manifest = readFileSync(`${file}.manifest.json`)
  writeFileSync(file, `${bytes.toString()}x`)
  const damaged = await pruneIn(made)
  assert.equal(shape(damaged), [
    [first, false, 'ARCHIVE_CHANGED'],
    [second, true, ''],
  ])
  assert.is(codeOfPrune(damaged), 1)
  assert.equal(made.list(), both(first, third))
  writeFileSync(file, bytes)
  rmSync(`${file}.manifest.json`)
  assert.equal(shape(await pruneIn(made)), [[first, false, 'ARCHIVE_NOT_FOUND']])
  writeFileSync(`${file}.manifest.json`, `${manifest.toString()} `)
  assert.equal(shape(await pruneIn(made)), [[first, false, 'ARCHIVE_CHANGED']])
  writeFileSync(`${file}.manifest.json`, manifest)

  // A hold that comes while it is read.
  const meanwhile = async (): Promise<void> => {
    const late = await addHold({ ...place, archive: first, reason: 'late' })
    id = late.hold.id
  }
  let id = ''
  const { result } = await atPoints([{ point: 'read csv', meanwhile }], () => pruneIn(made))
  assert.equal(shape(result), [[first, false, 'late']])
  await releaseHold({ ...place, id })

  // Its rows are in the table again, and nobody needs the file.
  await restore({ ...place, file: first })
  const restored = await pruneIn(made)
  assert.equal([shape(restored), restored.policies[0]?.archives[0]?.state], [[[first, true, '']], 'restored'])
  assert.equal(made.list(), both(third))
  assert.is(Number(await db.value('select count(*) from log')), 2)
})

overDatabases(
  test,
  'archives of several files, and of redactions; a policy may keep its own for ever',
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, ['2020-01-01T00:00:00Z', '2099-01-01T00:00:00Z'])
    await db.run(`create table note (id int primary key, log_id ${db.kind === 'sqlite' ? 'integer' : 'bigint'} references log (id));
    create index note_log on note (log_id); insert into note values (7, 1);
    create table person (id int primary key, at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'}, mail text);
    insert into person select id, at, body from log`)
    const kept = { to: './backups', durable: true, compress: 'gzip', expireAfter: 'never' } as const
    const person = { ...logPolicy, table: 'person', action: 'redact', set: { mail: 'gone' } } as const
    const made = project({ log: { ...logPolicy, children: 'archive' }, person }, { archive })
    const { policies } = await apply({ cwd: made.folder, now })
    assert.equal(
      policies.map(({ archived: rows, error }) => [rows, error?.message]),
      [
        [1, undefined],
        [1, undefined],
      ],
    )
    assert.is(made.list().length, 5)
    made.policy('log', { ...logPolicy, children: 'archive', archive: kept })
    const later = { now: new Date('2050-01-01T00:00:00Z') }
    const one = await pruneIn(made, later)
    assert.equal(
      one.policies.map(({ policy, expireAfter, pruned }) => [policy, expireAfter, pruned]),
      [
        ['log', null, 0],
        ['person', '7 years', 1],
      ],
    )
    assert.match(printPrune(one), /log: archives never expire/)
    assert.is(made.list().length, 3)
    assert.equal(await db.rows('select mail from person order by id'), [['gone'], ['text 2']])

    // Nobody says for how long the archives of a policy that is no more are kept.
    rmSync(made.path('policies/log.ts'))
    assert.match(
      (await pruneIn(made, later)).warnings[0]?.text ?? '',
      /^Archives of policies that are no more are kept.*: 1 of log$/,
    )
    made.policy('log', { ...logPolicy, children: 'archive', archive: { ...kept, expireAfter: '1 week' } })
    assert.is((await status({ cwd: made.folder, ...later })).policies[0]?.expired, 1)
    assert.is((await pruneIn(made, { ...later, policies: ['log'] })).policies[0]?.pruned, 1)
    assert.equal([made.list(), (await verify({ cwd: made.folder })).findings], [[], []])
    made.configure({ database: db.address, archive: { ...archive, expireAfter: '7 yaers' } })
    await fails(
      pruneIn(made),
      'CONFIG_INVALID',
      /field "archive.expireAfter".*"7 yaers"; allowed: a period, such as "7 years"/,
    )
  },
)

overDatabases(test, 'cut off in between: nothing is lost, and the next one makes an end of it', async (scene) => {
  const { db } = scene
  const made = await archived(scene)
  const before = filesOf(made)
  const failing = async (point: string): Promise<PruneReport> =>
    (await atPoints([{ point, act: 'fail', with: 'EIO' }], () => pruneIn(made))).result
  const report = await failing('unlink csv')
  assert.match(
    report.policies[0]?.archives[0]?.error?.message ?? '',
    /was pruned, but its files at .* could not be removed: .*EIO/,
  )
  assert.equal([shape(report)[1], codeOfPrune(report)], [[second, true, ''], 1])
  assert.equal(made.list(), [first, ...both(third)].toSorted())
  const { findings, repairs } = await verify({ cwd: made.folder, repair: true })
  assert.equal([findings.map(({ kind }) => kind), repairs.map(({ action }) => action)], [['pruned'], ['remove']])
  await fails(restore({ cwd: made.folder, file: first, now }), 'ARCHIVE_NOT_FOUND', /was pruned at/)
  assert.equal((await pruneIn(made, { yes: false })).policies[0]?.removed, [made.path(`backups/${first}`)])

  // In a folder in which nothing is mounted nothing is taken for removed, and nothing for gone.
  await age(db, third, '2018-01-01T00:00:00Z')
  renameSync(made.path('backups'), made.path('elsewhere'))
  mkdirSync(made.path('backups'))
  const unseen = await pruneIn(made)
  assert.match(unseen.policies[0]?.left[0]?.message ?? '', /^Whether the files .* are gone cannot be told/)
  assert.match(unseen.policies[0]?.archives[0]?.error?.message ?? '', /^Whether log_.*3\.csv is gone cannot be told/)
  rmSync(made.path('backups'), { recursive: true })
  renameSync(made.path('elsewhere'), made.path('backups'))
  await age(db, third, '2026-06-01T00:00:00Z')

  // Somebody has put another file in its place meanwhile: that is not ours to remove.
  made.write(`backups/${first}`, 'another')
  assert.match(
    (await pruneIn(made)).policies[0]?.left[0]?.message ?? '',
    /is not the file that was pruned, and so is left/,
  )
  writeFileSync(made.path(`backups/${first}`), before.get(first) ?? '')
  assert.equal((await pruneIn(made)).policies[0]?.removed, [made.path(`backups/${first}`)])
  assert.equal([made.list(), (await verify({ cwd: made.folder })).findings], [both(third), []])

  // Two at once: one of them does it, and the other finds the policy locked or nothing to do.
  await age(db, third, '2018-01-01T00:00:00Z')
  const two = await Promise.all([pruneIn(made), pruneIn(made)])
  assert.is(
    two.reduce((sum, { policies }) => sum + (policies[0]?.pruned ?? 0), 0),
    1,
  )
  assert.ok(two.every((one) => [0, 11].includes(codeOfPrune(one))))
  assert.equal([made.list(), (await verify({ cwd: made.folder })).findings], [[], []])
})

test('a period ends with the day on which it is over, where the zone is', () => {
  for (const [from, text, timezone, at] of [
    ['2026-01-31T12:00:00Z', '1 month', 'UTC', '2026-03-01T00:00:00Z'],
    ['2024-02-29T12:00:00Z', '1 year', 'UTC', '2025-03-01T00:00:00Z'],
    ['2024-02-29T12:00:00Z', '4 years', 'UTC', '2028-03-01T00:00:00Z'],
    ['2026-06-14T15:00:00Z', '90 days', 'Asia/Seoul', '2026-09-13T15:00:00Z'],
    ['2026-06-14T14:59:59Z', '90 days', 'Asia/Seoul', '2026-09-12T15:00:00Z'],
    ['2026-03-20T12:00:00Z', '2 Weeks', 'Europe/Paris', '2026-04-03T22:00:00Z'],
  ] as const) {
    const period = parsePeriod(text)
    assert.ok(period)
    assert.is(expiryAt(from, { period, timezone }), at, `${from} ${text} ${timezone}`)
  }
  for (const text of ['', '7', '7 yards', '0 days', '-1 day', '1.5 years', '1001 years', '1e2 days', 'never'])
    assert.is(parsePeriod(text), undefined, text)
})

test('a period is never shorter than it says, and at most a day longer (property)', () => {
  const zone = fc.constantFrom('UTC', 'Asia/Seoul', 'America/New_York', 'Pacific/Apia', 'Australia/Lord_Howe')
  const instant = fc.date({ min: new Date('1990-01-01'), max: new Date('2090-01-01'), noInvalidDate: true })
  fc.assert(
    fc.property(instant, fc.integer({ min: 1, max: 4000 }), zone, (from, count, timezone) => {
      const days = (text: string): number => (Date.parse(text) - from.getTime()) / 86_400_000
      const at = days(expiryAt(from.toISOString(), { period: { count, unit: 'days' }, timezone }))
      // Clocks that change, and the day that Samoa skipped.
      assert.ok(at > count - 1.1 && at < count + 1.1, String(at))
      const months = days(expiryAt(from.toISOString(), { period: { count: 12, unit: 'months' }, timezone }))
      const years = days(expiryAt(from.toISOString(), { period: { count: 1, unit: 'years' }, timezone }))
      assert.is(months, years)
    }),
  )
})

test.run()
