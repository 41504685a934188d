/** The main job: what is due is archived, verified, deleted and recorded; what is not stays. */
import { execSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan, restore, status } from '../src/index.ts'
import { readArchive } from './support/archive.ts'
import { afterStep } from './support/after-step.ts'
import { kinds } from './support/database.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, sqlCommand } from './support/scene.ts'

const test = suite('apply')

const cutoff = '2026-05-16T00:00:00Z'

overDatabases(test, 'archives rows before the cutoff, and no other', async ({ db, project }) => {
  await seedLog(db, ['2026-05-15T23:59:59Z', cutoff, '2026-05-16T00:00:01Z', '2020-01-01T00:00:00Z'])
  const { folder } = project()
  const report = await apply({ cwd: folder, now })

  const [policy] = report.policies
  assert.is(report.dryRun, false)
  assert.is(policy?.status, 'applied')
  assert.is(policy?.cutoff, cutoff)
  assert.is(policy?.due, 2)
  assert.is(policy?.archived, 2)
  assert.is(policy?.remaining, 0)
  const [archive] = policy?.archives ?? []
  assert.is(archive?.name, 'log_backup_20260516.csv')
  assert.is(archive?.rows, 2)
  assert.match(archive?.from ?? '', /^2020-01-01T00:00:00/)
  assert.match(archive?.to ?? '', /^2026-05-15T23:59:59/)
  assert.equal(
    (await db.rows('select id from log order by id')).map(([id]) => Number(id)),
    [2, 3],
  )
  assert.equal(
    readArchive(folder, archive?.name ?? '')
      .rows.map(([id]) => Number(id))
      .toSorted((a, b) => a - b),
    [1, 4],
  )
})

overDatabases(test, 'a microsecond before the cutoff is due, the cutoff itself is not', async ({ db, project }) => {
  await seedLog(db, ['2026-05-15T23:59:59.999999Z', '2026-05-16T00:00:00.000000Z', '2026-05-16T00:00:00.000001Z'])
  await apply({ cwd: project().folder, now })
  assert.equal(
    (await db.rows('select id from log order by id')).map(([id]) => Number(id)),
    [2, 3],
  )
})

overDatabases(test, 'applied again, does nothing', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 20))
  const { folder } = project()
  await apply({ cwd: folder, now })
  const before = await db.dump('retention_ledger')
  const again = await apply({ cwd: folder, now })
  assert.is(again.policies[0]?.status, 'nothing-due')
  assert.equal(again.policies[0]?.archives, [])
  assert.equal(await db.dump('retention_ledger'), before)
})

overDatabases(test, 'cuts steps of at most a batch, without a gap or an overlap', async ({ db, project }) => {
  await seedLog(db, [...minutesBefore(cutoff, 25), '2026-06-01T00:00:00Z'])
  const { folder } = project({ log: { ...logPolicy, batch: 10 } })
  const report = await apply({ cwd: folder, now })
  const archives = report.policies[0]?.archives ?? []
  assert.equal(
    archives.map(({ name, rows }) => [name, rows]),
    [
      ['log_backup_20260516.csv', 10],
      ['log_backup_20260516_0002.csv', 10],
      ['log_backup_20260516_0003.csv', 5],
    ],
  )
  const ids = archives.flatMap(({ name }) => readArchive(folder, name).rows.map(([id]) => Number(id)))
  // Postgres gives a step's rows in no certain order, but each step only its own.
  assert.equal(
    ids.toSorted((a, b) => a - b),
    Array.from({ length: 25 }, (_, index) => index + 1),
  )
  assert.is(Number(await db.value('select count(*) from log')), 1)
})

overDatabases(test, 'no step exceeds a batch even where all rows share one time', async ({ db, project }) => {
  await seedLog(db, [
    ...Array.from({ length: 23 }, () => '2026-01-01T00:00:00Z'),
    '2026-01-02T00:00:00Z',
    '2026-06-10T00:00:00Z',
  ])
  const { folder } = project({ log: { ...logPolicy, batch: 10 } })
  const archives = (await apply({ cwd: folder, now })).policies[0]?.archives ?? []
  assert.equal(
    archives.map(({ rows }) => rows),
    [10, 10, 3, 1],
  )
  assert.is(Number(await db.value('select count(*) from log')), 1)
})

const keys = {
  text: 'id text primary key not null',
  'two columns': 'a integer, b text, primary key (a, b)',
  'two columns, without rowid': 'a integer, b text, primary key (a, b)',
}
for (const [what, columns] of Object.entries(keys)) {
  const withoutRowid = what.endsWith('without rowid')
  overDatabases(
    test,
    `cuts rows that share one time by a key of ${what}`,
    async ({ db, project }) => {
      const values = columns.startsWith('a') ? 'n / 5, n % 5' : "'id ' || n"
      await db.run(`create table log (at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'}, body text, ${columns}) ${withoutRowid ? 'without rowid' : ''};
        insert into log select '2026-01-01T00:00:00Z', 'text', ${values} from
          (with recursive counter(n) as (select 1 union all select n + 1 from counter where n < 23) select n from counter) as c`)
      const before = await db.dump('log')
      const { folder } = project({ log: { ...logPolicy, batch: 10, concurrency: 1 } })
      const [policy] = (await apply({ cwd: folder, now })).policies
      const archives = policy?.archives ?? []
      assert.equal(
        archives.map(({ rows }) => rows),
        [10, 10, 3],
      )
      assert.is(Number(await db.value('select count(*) from log')), 0)
      for (const { name } of archives) await restore({ cwd: folder, file: name, now })
      assert.equal(await db.dump('log'), before)
    },
    withoutRowid ? ['sqlite'] : kinds,
  )
}

overDatabases(test, 'what was archived is deleted, whatever is due when asked again', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 300))
  const all = (await db.rows('select id from log')).map(([id]) => Number(id))
  const coin = db.kind === 'sqlite' ? 'abs(random()) % 2 = 0' : 'random() < 0.5'
  const { folder } = project({ log: { ...logPolicy, where: coin, batch: 100 } })
  const [policy] = (await apply({ cwd: folder, now })).policies
  const archived = (policy?.archives ?? []).flatMap(({ name }) =>
    readArchive(folder, name).rows.map(([id]) => Number(id)),
  )
  assert.is(policy?.error, undefined)
  assert.is(policy?.archived, archived.length)
  assert.ok(archived.length > 0)
  assert.ok((policy?.archives ?? []).every(({ rows }) => rows <= 100))
  const left = (await db.rows('select id from log')).map(([id]) => Number(id))
  assert.equal(
    [...left, ...archived].toSorted((a, b) => a - b),
    all,
  )
})

overDatabases(test, 'cuts rows that share one time in a table without a key', async ({ db, project }) => {
  const type = db.kind === 'sqlite' ? 'text' : 'timestamptz'
  await db.run(`create table log (at ${type}, body text)`)
  await db.run(
    `insert into log values ${Array.from({ length: 23 }, (_, index) => `('2026-01-01T00:00:00Z', 'same ${index % 2}')`).join(', ')}`,
  )
  const { folder } = project({ log: { ...logPolicy, batch: 10 } })
  const [policy] = (await apply({ cwd: folder, now })).policies
  assert.equal(
    policy?.archives.map(({ rows }) => rows),
    [10, 10, 3],
  )
  assert.ok(policy?.warnings.some(({ text }) => /no primary key/.test(text)))
  assert.is(Number(await db.value('select count(*) from log')), 0)
})

overDatabases(test, 'leaves undated rows, and counts them', async ({ db, project }) => {
  await seedLog(db, ['2026-01-01T00:00:00Z'])
  await db.run(
    db.kind === 'sqlite'
      ? "insert into log (at) values (null), (''), ('0000-00-00'), ('soon')"
      : "insert into log (at) values (null), ('infinity'), ('-infinity')",
  )
  const { folder } = project()
  const [policy] = (await apply({ cwd: folder, now })).policies
  const undated = db.kind === 'sqlite' ? 4 : 3
  // SQLite sees one time among five values, and does not take the column for a column of times.
  if (db.kind === 'sqlite') return assert.is(policy?.status, 'refused')
  assert.is(policy?.undated, undated)
  assert.is(policy?.archived, 1)
  assert.is(Number(await db.value('select count(*) from log')), undated)
})

overDatabases(test, 'where: only rows it is true for are due', async ({ db, project }) => {
  await seedLog(
    db,
    minutesBefore(cutoff, 6),
    "case when id % 2 = 0 then 'closed' when id = 1 then null else 'open' end",
  )
  const { folder } = project({ log: { ...logPolicy, where: "body = 'closed' -- a comment" } })
  const [policy] = (await apply({ cwd: folder, now })).policies
  assert.is(policy?.archived, 3)
  assert.equal(
    (await db.rows('select id from log order by id')).map(([id]) => Number(id)),
    [1, 3, 5],
  )
})

overDatabases(test, 'limitRows stops early, says so, and the next run goes on', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 25))
  const { folder } = project({ log: { ...logPolicy, batch: 10 } })
  const [first] = (await apply({ cwd: folder, now, limitRows: 13 })).policies
  assert.is(first?.status, 'partial')
  assert.equal(
    first?.archives.map(({ rows }) => rows),
    [10, 3],
  )
  assert.is(first?.remaining, 12)
  const [second] = (await apply({ cwd: folder, now })).policies
  assert.equal(
    second?.archives.map(({ name, rows }) => [name, rows]),
    [
      ['log_backup_20260516_0003.csv', 10],
      ['log_backup_20260516_0004.csv', 2],
    ],
  )
})

overDatabases(test, 'maxTime begins no step after it', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 5))
  const [policy] = (await apply({ cwd: project().folder, now, maxTime: 0 })).policies
  assert.is(policy?.status, 'partial')
  assert.is(policy?.archived, 0)
  assert.is(policy?.remaining, 5)
})

overDatabases(test, 'before narrows what is due, and never widens it', async ({ db, project }) => {
  await seedLog(db, ['2026-01-10T00:00:00Z', '2026-02-10T00:00:00Z', '2026-06-10T00:00:00Z'])
  const { folder } = project()
  const [narrow] = (await apply({ cwd: folder, now, before: '2026-02-01' })).policies
  assert.is(narrow?.archived, 1)
  assert.is(narrow?.archives[0]?.name, 'log_backup_20260201.csv')
  const [wide] = (await apply({ cwd: folder, now, before: '2026-07-01' })).policies
  assert.is(wide?.archived, 1)
  assert.is(Number(await db.value('select count(*) from log')), 1)
})

overDatabases(
  test,
  'maxRows and maxPercent refuse a plan that is too large, unless told to go on',
  async ({ db, project }) => {
    await seedLog(db, [...minutesBefore(cutoff, 6), '2026-06-10T00:00:00Z', '2026-06-11T00:00:00Z'])
    const rows = project({ log: { ...logPolicy, maxRows: 5 } })
    const [byRows] = (await apply({ cwd: rows.folder, now })).policies
    assert.is(byRows?.status, 'refused')
    assert.is(byRows?.error?.code, 'PLAN_TOO_LARGE')
    assert.is(byRows?.due, 6)
    const percent = project({ log: { ...logPolicy, maxPercent: 70 } })
    const [byPercent] = (await plan({ cwd: percent.folder, now })).policies
    assert.match(byPercent?.error?.message ?? '', /75\.0 % of the table/)
    assert.is(Number(await db.value('select count(*) from log')), 8)
    const [large] = (await apply({ cwd: rows.folder, now, allowLarge: true })).policies
    assert.is(large?.archived, 6)
  },
)

overDatabases(test, 'plan shows what apply then does, and touches nothing', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 25))
  // Side by side, numbers go to whoever asks first.
  const { folder } = project({ log: { ...logPolicy, batch: 10, concurrency: 1 } })
  const planned = await plan({ cwd: folder, now })
  assert.is(planned.dryRun, true)
  assert.is(Number(await db.value('select count(*) from log')), 25)
  assert.not.ok(existsSync(`${folder}/backups`))
  const tables =
    db.kind === 'sqlite'
      ? "select count(*) from sqlite_schema where name like 'retention%'"
      : "select count(*) from pg_class where relname like 'retention%'"
  assert.is(Number(await db.value(tables)), 0)
  const applied = await apply({ cwd: folder, now })
  const shape = (report: typeof planned): unknown =>
    report.policies.map(({ archives }) =>
      archives.map(({ name, location, rows, from, to }) => ({ name, location, rows, from, to })),
    )
  assert.equal(shape(planned), shape(applied))
  const [estimate] = planned.policies[0]?.archives ?? []
  const [real] = applied.policies[0]?.archives ?? []
  assert.ok((estimate?.bytes ?? 0) > (real?.bytes ?? 0) * 0.5 && (estimate?.bytes ?? 0) < (real?.bytes ?? 0) * 2)
})

overDatabases(
  test,
  'a file in the way is left as it is and reported; the step takes the next number',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    const { folder } = made
    made.write('backups/log_backup_20260516.csv', 'mine')
    made.write('backups/log_backup_20260516_0002.csv.manifest.json', 'mine too')
    const [policy] = (await apply({ cwd: folder, now })).policies
    assert.is(policy?.archives[0]?.name, 'log_backup_20260516_0003.csv')
    assert.is(policy?.warnings.filter(({ text }) => /is in the way/.test(text)).length, 2)
    assert.is(made.read('backups/log_backup_20260516.csv'), 'mine')
    assert.is(made.read('backups/log_backup_20260516_0002.csv.manifest.json'), 'mine too')
  },
)

overDatabases(test, 'archives are private, and nothing but archive and manifest is left', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  const { folder } = made
  await apply({ cwd: folder, now })
  assert.equal(made.list(), ['log_backup_20260516.csv', 'log_backup_20260516.csv.manifest.json'])
  assert.is(statSync(made.path('backups')).mode & 0o777, 0o700)
  for (const file of made.list()) assert.is(statSync(made.path(`backups/${file}`)).mode & 0o777, 0o600)
})

overDatabases(test, 'one policy that fails does not stop the others', async ({ db, project }) => {
  await seedLog(db, [...minutesBefore(cutoff, 3), '2026-06-10T00:00:00Z'])
  const { folder } = project({ a: { ...logPolicy, table: 'lgo' }, b: logPolicy, c: { ...logPolicy, column: 'body' } })
  const report = await apply({ cwd: folder, now })
  assert.equal(
    report.policies.map(({ status: state }) => state),
    ['refused', 'applied', 'refused'],
  )
  assert.match(report.policies[0]?.error?.message ?? '', /no table "lgo" \(did you mean "log"\?\)/)
})

overDatabases(test, 'a step that has grown beyond a batch is cut anew', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 20))
  const made = project({ log: { ...logPolicy, batch: 10, concurrency: 1 } })
  // Into the second step's range, when the first is done.
  const late = `insert into log (at, body) select at, 'late' from log where at > '2026-05-15T23:54:30Z' limit 5`
  if (db.kind === 'postgres') {
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    await db.run(`create function late() returns trigger language plpgsql as $$ begin
        if (select count(*) from retention_ledger) = 1 then ${late}; end if; return null; end $$;
      create trigger late after insert on retention_ledger for each row execute function late()`)
  }
  let isFirst = true
  const then = (): void => {
    if (db.kind === 'sqlite' && isFirst) void db.run(late)
    isFirst = false
  }
  const [policy] = (await apply({ cwd: made.folder, now, onEvent: afterStep(then) })).policies
  assert.is(policy?.status, 'applied', policy?.error?.message)
  assert.is(policy?.archived, 25)
  assert.ok(policy?.archives.every(({ rows }) => rows <= 10))
  assert.is(Number(await db.value('select count(*) from log')), 0)
})

overDatabases(test, 'rows that become due while apply runs are met by another pass', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 5))
  const { folder } = project()
  await apply({ cwd: folder, now, before: '2000-01-01' })
  // When the first archive has been recorded, a row appears that was due long ago.
  const late = "insert into log (at, body) values ('2019-01-01T00:00:00Z', 'late');"
  let isLate = false
  await db.run('create table once (done integer)')
  if (db.kind === 'sqlite')
    await db.run(
      `create trigger late after insert on retention_ledger when not exists (select 1 from once)
        begin ${late} insert into once values (1); end`,
    )
  const then = (): void => {
    if (!isLate && db.kind === 'postgres') execSync(sqlCommand(db.address, late))
    isLate = true
  }
  const [policy] = (await apply({ cwd: folder, now, onEvent: afterStep(then) })).policies
  assert.is(policy?.status, 'applied')
  assert.equal(
    policy?.archives.map(({ rows }) => rows),
    [5, 1],
  )
  assert.is(Number(await db.value('select count(*) from log')), 0)
})

overDatabases(test, 'the ledger and the manifest say what was done', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  const { folder } = made
  const report = await apply({ cwd: folder, now })
  const [archive] = report.policies[0]?.archives ?? []
  const [entry] = (await status({ cwd: folder, now })).archives
  const manifest = JSON.parse(made.read('backups/log_backup_20260516.csv.manifest.json')) as Record<string, unknown>
  assert.is(entry?.name, archive?.name)
  assert.is(entry?.run, report.run)
  assert.is(entry?.state, 'archived')
  assert.is(entry?.sha256, readArchive(folder, 'log_backup_20260516.csv').sha256)
  assert.is(entry?.bytes, statSync(`${folder}/backups/log_backup_20260516.csv`).size)
  assert.equal(entry?.columns, ['id', 'at', 'body'])
  assert.is(manifest['policy'], 'log')
  assert.is(manifest['cutoff'], cutoff)
  // Under the names that scripts rely on.
  const columns = 'name, policy, state, location, rows, bytes, sha256'
  assert.is((await db.rows(`select ${columns} from retention_ledger`)).length, 1)
})

overDatabases(test, 'the archive begins with a byte order mark, unless told not to', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const marked = project()
  await apply({ cwd: marked.folder, now, limitRows: 1 })
  assert.ok(marked.read('backups/log_backup_20260516.csv').startsWith('\ufeff'))
  const plain = project(undefined, { archive: { to: './plain', durable: true, bom: false } })
  await apply({ cwd: plain.folder, now })
  assert.not.ok(plain.read('plain/log_backup_20260516_0002.csv').startsWith('\ufeff'))
})

overDatabases(
  test,
  'without AUTOINCREMENT the highest id stays, and is not used again',
  async ({ db, project }) => {
    await db.run(
      "create table log (id integer primary key, at text, body text); insert into log (at) values ('2020-01-01T00:00:00Z'), ('2020-01-02T00:00:00Z'), ('2020-01-03T00:00:00Z')",
    )
    const { folder } = project()
    const [policy] = (await apply({ cwd: folder, now })).policies
    assert.is(policy?.status, 'applied')
    assert.is(policy?.archived, 2)
    assert.is(policy?.held, 1)
    assert.ok(policy?.warnings.some(({ text }) => /AUTOINCREMENT/.test(text)))
    await db.run("insert into log (at) values ('2026-06-15T00:00:00Z')")
    assert.is(Number(await db.value('select max(id) from log')), 4)
    const [next] = (await apply({ cwd: folder, now })).policies
    assert.is(next?.archived, 1)
  },
  ['sqlite'],
)

test.run()
