/** Legal holds: what is held stays, whatever its age and whoever comes between; what is not, goes. */
import { hostname } from 'node:os'
import path from 'node:path'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import {
  addHold,
  apply,
  listHolds,
  plan,
  releaseHold,
  restore,
  status,
  type AddedHold,
  type AddHoldOptions,
  type PolicyReport,
} from '../src/index.ts'
import { loadConfig } from '../src/config/project.ts'
import { openDatabase } from '../src/database/open.ts'
import { Ledger } from '../src/ledger/ledger.ts'
import { createDatabase, kinds, type TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { fails } from './support/fails.ts'
import { judge, tableRows } from './support/judge.ts'
import { atPoints } from './support/points.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('holds')

const cutoff = '2026-05-16T00:00:00Z'
const later = new Date('2026-07-15T12:00:00Z')

/** The log with a column `customer`: of six rows that are due, two are of customer 42, and of one nobody knows. */
async function seedCustomers(db: TestDatabase): Promise<void> {
  await seedLog(db, [...minutesBefore(cutoff, 6), '2026-06-14T00:00:00Z'])
  await db.run('alter table log add column customer integer')
  await db.run('update log set customer = case when id in (2, 5) then 42 when id <> 3 then 7 end')
}

async function applyIn({ folder }: TestProject, at = now): Promise<PolicyReport> {
  const [report] = (await apply({ cwd: folder, now: at })).policies
  if (report === undefined) throw new Error('no report')
  return report
}

async function hold({ folder }: TestProject, options: Partial<AddHoldOptions> = {}): Promise<AddedHold> {
  return addHold({ cwd: folder, now, reason: 'Smith v. Acme', ...options })
}

async function ids(db: TestDatabase): Promise<number[]> {
  return (await db.rows('select id from log order by id')).map(([id]) => Number(id))
}

overDatabases(
  test,
  'from the command line: held with who, when and why; kept, and told so; released, and gone',
  async ({ db, project }) => {
    await seedCustomers(db)
    const made = project()
    const added = await made.cli([
      'hold',
      'add',
      'log',
      '--where',
      'customer = 42',
      '--reason',
      'Smith v. Acme',
      '--by',
      'J. Doe, counsel',
      '--json',
    ])
    assert.is(added.code, 0, added.stderr)
    const { hold: placed, rows, unknown, archives } = added.json<AddedHold>()
    // Whose row the third is, nobody knows: it may be that customer's.
    assert.equal({ rows, unknown, archives }, { rows: 3, unknown: 1, archives: [] })
    const short = placed.id.slice(0, 8)

    const applied = await made.run(['apply'])
    assert.is(applied.code, 0, applied.stderr)
    assert.match(applied.stdout, /3 rows held/)
    assert.match(applied.stdout, new RegExp(`legal hold ${short} \\(Smith v\\. Acme\\): 3 rows`))
    // By the clock, the newest is due as well.
    assert.equal(await ids(db), [2, 3, 5])
    assert.match(
      (await made.run(['status'])).stdout,
      /Rows of (public\.)?log where customer = 42 are held until released/,
    )

    const [only] = (await listHolds({ cwd: made.folder })).holds
    assert.equal(only, { ...placed, state: 'in-force' })
    const { id: _, createdAt, ...words } = placed
    assert.ok(Math.abs(Date.parse(createdAt) - Date.now()) < 60_000)
    assert.equal(words, {
      kind: 'legal',
      table: db.kind === 'sqlite' ? 'log' : 'public.log',
      policy: 'log',
      archive: null,
      where: 'customer = 42',
      reason: 'Smith v. Acme',
      createdBy: 'J. Doe, counsel',
      until: null,
      releasedAt: null,
      releasedBy: null,
      releaseReason: null,
      byRange: false,
    })

    const released = await made.run(['hold', 'release', placed.id.slice(0, 5), '--reason', 'settled'])
    assert.is(released.code, 0, released.stderr)
    assert.match(released.stdout, new RegExp(`${short} released`))
    assert.match((await made.run(['hold', 'list', '--all'])).stdout, /released .* by .*@.*: settled/)
    await fails(releaseHold({ cwd: made.folder, id: short }), 'HOLD_UNKNOWN', /was released at/)
    assert.is((await applyIn(made, new Date())).archived, 3)
    assert.equal(await ids(db), [])
  },
)

overDatabases(
  test,
  'a whole table, by its name: for every policy on it, under whatever name, until the time comes',
  async ({ db, project }) => {
    await seedCustomers(db)
    const made = project({ first: logPolicy, second: { ...logPolicy, where: 'customer = 7' } })
    const { hold: placed } = await hold(made, { on: 'log', until: '2026-06-30' })
    assert.is(placed.policy, null)
    assert.match(placed.createdBy, new RegExp(`.@${hostname()}$`))
    // To the end of that day.
    assert.is(placed.until, '2026-07-01T00:00:00.000Z')
    const kept = async (at: Date): Promise<number[][]> =>
      (await apply({ cwd: made.folder, now: at })).policies.map(({ archived, held }) => [archived, held])
    const planned = (await plan({ cwd: made.folder, now })).policies.map(({ due, held, holds }) => [
      due,
      held,
      holds.map(({ id, rows }) => `${rows} ${id}`),
    ])
    assert.equal(planned, [
      [0, 6, [`6 ${placed.id}`]],
      [0, 3, [`3 ${placed.id}`]],
    ])
    assert.equal(await kept(now), [
      [0, 6],
      [0, 3],
    ])
    made.policy('renamed', logPolicy)
    assert.equal((await kept(new Date('2026-06-30T23:59:59Z'))).at(1), [0, 6])
    assert.is((await ids(db)).length, 7)
    assert.equal((await kept(later)).at(0), [7, 0])
    assert.equal(
      (await listHolds({ cwd: made.folder, all: true, now: later })).holds.map(({ state }) => state),
      ['ended'],
    )
    assert.equal((await listHolds({ cwd: made.folder, now: later })).holds, [])
  },
)

overDatabases(
  test,
  'a predicate that no longer works, or a table that is gone: refused, not let go',
  async ({ db, project }) => {
    await seedCustomers(db)
    const made = project()
    const { hold: placed } = await hold(made, { on: 'log', where: '"customer" = 42' })
    await db.run('alter table log drop column customer')
    const refused = await applyIn(made)
    assert.is(refused.status, 'refused')
    assert.match(refused.error?.message ?? '', /Legal hold [0-9a-f]{8} .*which is not a predicate on it any more/)
    const [standing] = (await status({ cwd: made.folder, now })).policies
    assert.is(standing?.error?.code, 'REFUSED')
    assert.is(standing?.holds[0]?.id, placed.id)

    await db.run('alter table log add column customer integer; alter table log rename to log2')
    made.policy('log', { ...logPolicy, table: 'log2' })
    const renamed = await applyIn(made)
    assert.is(renamed.status, 'refused')
    assert.match(renamed.error?.message ?? '', /is on (public\.)?log, and there is no such table any more/)
    assert.is(Number(await db.value('select count(*) from log2')), 7)
    await hold(made, { on: 'log', where: 'id = 1' })
    await releaseHold({ cwd: made.folder, id: placed.id, now })
    const { archived, held } = await applyIn(made)
    assert.equal({ archived, held }, { archived: 5, held: 1 })

    const fragile = db.kind === 'sqlite' ? "json(case id when 8 then '{' else '1' end) = '2'" : '1 / (id - 8) > 2'
    await hold(made, { on: 'log', where: fragile })
    await db.run("insert into log2 (at) values ('2020-01-01T00:00:00Z')")
    const failed = await applyIn(made)
    assert.is(failed.status, 'refused')
    assert.match(
      failed.error?.message ?? '',
      /Legal hold [0-9a-f]{8} .*, which fails on one of them: (SQLite|Postgres): /,
    )
    await fails(
      hold(made, { on: 'log', where: fragile }),
      'USAGE',
      /--where is ".*, which fails on a row of (public\.)?log2: /,
    )
  },
)

/** A command that places a hold, for where a test may not wait. */
function holdCommand({ folder }: TestProject, where: string): string {
  const bin = path.join(import.meta.dirname, '../src/bin.ts')
  return `cd ${folder} && ${process.execPath} ${bin} hold add log --reason between --where ${JSON.stringify(where)}`
}

overDatabases(test, 'a hold that comes between plan and step is heeded', async ({ db, project }) => {
  await seedCustomers(db)
  const made = project()
  await apply({ cwd: made.folder, now, before: '2000-01-01' })
  // On SQLite the rows have been read and stored by then, and are deleted next.
  const point = db.kind === 'sqlite' ? 'link manifest' : 'lock table'
  const original = await tableRows(db, 'log')
  const { result } = await atPoints([{ point, act: 'run', with: holdCommand(made, 'customer = 42') }], () =>
    applyIn(made),
  )
  assert.is(result.status, 'applied', result.error?.message)
  assert.equal([result.due, result.archived, result.held, result.remaining], [6, 3, 3, 0])
  assert.equal(
    result.holds.map(({ reason, rows }) => `${reason}: ${rows}`),
    ['between: 3'],
  )
  assert.equal(await ids(db), [2, 3, 5, 7])
  await judge(db, 'log', made.path('backups'), original)
})

overDatabases(
  test,
  'what a hold asks of another table may change between reading and deleting',
  async ({ db, project }) => {
    await seedCustomers(db)
    await db.run('create table litigant (customer integer)')
    const made = project()
    await hold(made, { on: 'log', where: 'customer in (select customer from litigant)' })
    const insert = `${process.execPath} -e ${JSON.stringify(`require('better-sqlite3')('${db.address.slice('sqlite:'.length)}').exec('insert into litigant values (42)')`)}`
    const { result } = await atPoints(
      [{ point: 'link manifest', act: 'run', with: `cd ${path.join(import.meta.dirname, '..')} && ${insert}` }],
      () => applyIn(made),
    )
    assert.is(result.status, 'applied', result.error?.message)
    assert.equal(await ids(db), [2, 3, 5, 7])
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a hold that is placed while a step is under way waits for its end, and later steps for the hold',
  async ({ db, project }) => {
    await seedCustomers(db)
    const made = project({ log: { ...logPolicy, batch: 3, concurrency: 1 } })
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    // At its commit the first step finds the hold waiting for it.
    const seen = `const { Client } = require('pg'); const c = new Client('${db.address}'); c.connect().then(async () => { for (let i = 0; i < 200; i += 1) { const { rowCount } = await c.query("select from pg_locks where locktype = 'advisory' and not granted"); if (rowCount > 0) process.exit(0); await new Promise((done) => setTimeout(done, 50)) } process.exit(1) })`
    const { result } = await atPoints(
      [
        { point: 'link csv', act: 'run', with: `(${holdCommand(made, 'true')}) > ${made.path('held')} 2>&1 &` },
        {
          point: 'commit step',
          act: 'run',
          with: `cd ${path.join(import.meta.dirname, '..')} && ${process.execPath} -e ${JSON.stringify(seen)}`,
        },
      ],
      () => applyIn(made),
    )
    assert.is(result.error, undefined, result.error?.message)
    assert.equal([result.archived, result.held, result.remaining], [3, 3, 0], made.read('held'))
    assert.equal(await ids(db), [4, 5, 6, 7])
  },
  ['postgres'],
)

overDatabases(
  test,
  'a partition that is held is held in the whole table, and the whole table in its partition',
  async ({ db, project }) => {
    await db.run(`create table log (id int, at timestamptz not null) partition by range (at);
      create table log_a partition of log for values from ('2020-01-01') to ('2021-01-01');
      create table log_b partition of log for values from ('2021-01-01') to ('2022-01-01');
      insert into log values (1, '2020-02-01'), (2, '2021-02-01')`)
    const made = project({ log: logPolicy, part: { ...logPolicy, table: 'log_a' } })
    const part = await hold(made, { on: 'log_a' })
    assert.is(part.rows, 1)
    assert.equal([(await applyIn(made)).archived, await ids(db)], [1, [1]])
    await hold(made, { on: 'log', where: 'id = 1' })
    await releaseHold({ cwd: made.folder, id: part.hold.id, now })
    const policies = (await apply({ cwd: made.folder, now })).policies.map(({ archived, held }) => [archived, held])
    assert.equal(policies, [
      [0, 1],
      [0, 1],
    ])
  },
  ['postgres'],
)

overDatabases(
  test,
  'archives: one by its name, all of a table that is held; restored rows are let go',
  async (scene) => {
    const { db, project } = scene
    await seedCustomers(db)
    const made = project()
    const first = (await applyIn(made)).archives[0]?.name ?? ''
    await db.run(`insert into log (at) values ('2020-01-01T00:00:00Z')`)
    const second = (await applyIn(made)).archives[0]?.name ?? ''
    const database = await openDatabase(await loadConfig({ cwd: made.folder }), 'read')
    try {
      const ledger = await Ledger.forReading(database, { schema: undefined, name: 'retention_ledger' })
      const held = async (): Promise<string[]> =>
        database.read(async (own) =>
          [...(await ledger.holds.onArchives(own, await ledger.entries(own), now))].map(
            ([name, holds]) => `${name} ${holds.length}`,
          ),
        )
      assert.equal(await held(), [])
      const one = await hold(made, { archive: `backups/${first}` })
      assert.equal([one.rows, one.archives], [6, [first]])
      assert.equal(await held(), [`${first} 1`])
      const all = await hold(made, { on: 'log', where: 'customer = 42' })
      assert.equal(all.archives, [first, second])
      assert.equal(await held(), [`${first} 2`, `${second} 1`])
      await releaseHold({ cwd: made.folder, id: all.hold.id, now })

      // A hold on an archive hinders nobody from restoring it, and is none on the rows.
      await restore({ cwd: made.folder, file: first, now })
      assert.is((await applyIn(made)).held, 6)
      const ofRestore = (await listHolds({ cwd: made.folder, now })).holds.find(({ kind }) => kind === 'restored')
      assert.is(ofRestore?.archive, first)
      await releaseHold({ cwd: made.folder, id: ofRestore?.id ?? '', now })
      assert.is((await applyIn(made)).archived, 6)
      assert.equal(await held(), [`${first} 1`])
    } finally {
      await database.close()
    }
  },
)

overDatabases(test, 'what cannot be a hold is told, and nothing is held', async ({ db, project }) => {
  await seedCustomers(db)
  await db.run('create table other (id integer, at text)')
  const made = project({ log: logPolicy, other: logPolicy })
  const cases: [Partial<AddHoldOptions>, string, RegExp][] = [
    [{}, 'USAGE', /Name what is to be held/],
    [{ on: 'log', archive: 'x.csv' }, 'USAGE', /Name what is to be held/],
    [{ archive: 'x.csv', where: 'true' }, 'USAGE', /held as a whole/],
    [{ archive: 'x.csv' }, 'ARCHIVE_NOT_FOUND', /knows no archive x\.csv/],
    [{ on: 'logg' }, 'POLICY_UNKNOWN', /"logg" is neither a policy nor a table \(did you mean "log"\?\)/],
    [{ on: 'other' }, 'USAGE', /"other" is a policy on (public\.)?log, and a table of its own/],
    [{ on: 'log', reason: ' ' }, 'USAGE', /"reason" is " "/],
    [
      { on: 'log', where: 'nobody = 1' },
      'USAGE',
      /--where is "nobody = 1", which is not a predicate on (public\.)?log: .*nobody/,
    ],
    [{ on: 'log', where: 'id = 1) or (true' }, 'USAGE', /which is not a predicate/],
    [{ on: 'log', where: `id = ${db.kind === 'sqlite' ? '?' : '$1'}` }, 'USAGE', /which is not a predicate/],
    [{ on: 'log', until: 'soon' }, 'USAGE', /--until is "soon"; allowed/],
    [{ on: 'log', until: '2026-06-31' }, 'USAGE', /--until is "2026-06-31"; allowed/],
    [{ on: 'log', until: '2026-06-14' }, 'USAGE', /which is past/],
    [{ on: 'log', until: '9999y' }, 'USAGE', /past the year 9999/],
  ]
  for (const [options, code, message] of cases) await fails(hold(made, options), code, message)
  await fails(releaseHold({ cwd: made.folder, id: 'abcd' }), 'HOLD_UNKNOWN', /There is no hold abcd/)
  await fails(releaseHold({ cwd: made.folder, id: 'a%' }), 'USAGE', /allowed: its id/)
  assert.equal((await listHolds({ cwd: made.folder, all: true })).holds, [])

  const both = [await hold(made, { on: 'log' }), await hold(made, { on: 'log' })]
  await db.run("update retention_ledger_holds set id = 'abcd' || substr(id, 5)")
  await fails(releaseHold({ cwd: made.folder, id: 'ABCD' }), 'USAGE', /2 holds begin with abcd: abcd/)
  assert.is(both.length, 2)
  if (db.kind === 'postgres') return
  for (const [args, message] of [
    [['hold'], /Say what to do with holds: add, list or release/],
    [['hold', 'add', 'log'], /Missing required argument: reason/],
    [['hold', 'add', 'logg', '--reason', 'x'], /neither a policy nor a table/],
  ] as const) {
    const run = await made.run(args)
    assert.is(run.code, 2, args.join(' '))
    assert.match(run.stderr, message)
  }
})

const words = ['a', 'b', null]
const predicate = fc.letrec<{ tree: string }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom(
      "word = 'a'",
      "word <> 'b'",
      'n > 2',
      'n = 1',
      'word is null',
      'n + n > 5 -- a comment',
      'cast(null as boolean)',
    ),
    fc.tuple(tie('tree'), fc.constantFrom('and', 'or'), tie('tree')).map(([a, by, b]) => `(${a}\n) ${by} (${b}\n)`),
    tie('tree').map((one) => `not (${one}\n)`),
  ),
})).tree
const rowsOf = fc.array(
  fc.record({ word: fc.constantFrom(...words), n: fc.constantFrom(0, 1, 3, null), isDue: fc.boolean() }),
  { maxLength: 20 },
)

for (const kind of kinds) {
  test(`each row goes, or is held, or is not due, as SQL itself says (property) [${kind}]`, async () => {
    const db = await createDatabase(kind)
    const made = new TestProject({ database: db.address }, { log: { ...logPolicy, batch: 5 } })
    try {
      await seedLog(db, [])
      await db.run('alter table log add column word text; alter table log add column n integer')
      await apply({ cwd: made.folder, now })
      const run = async (
        rows: { word: string | null; n: number | null; isDue: boolean }[],
        where: string,
      ): Promise<void> => {
        await db.run('delete from log; delete from retention_ledger; delete from retention_ledger_holds')
        const value = (text: string | null): string => (text === null ? 'null' : `'${text}'`)
        const values = rows.map(
          ({ word, n, isDue }) =>
            `(${value(isDue ? '2020-01-01T00:00:00Z' : '2026-06-14T00:00:00Z')}, ${value(word)}, ${n})`,
        )
        if (rows.length > 0) await db.run(`insert into log (at, word, n) values ${values.join(', ')}`)
        const original = await tableRows(db, 'log')
        // The rows that the hold lets go are those for which it is plainly false.
        const goes = `at < '2026-05-16T00:00:00Z' and case when (${where}\n) then 1 when not (${where}\n) then 0 else 1 end = 0`
        const stays = (await db.rows(`select id from log where not (${goes})`))
          .map(([id]) => Number(id))
          .toSorted((a, b) => a - b)
        const held = Number(
          await db.value(`select count(*) from log where at < '2026-05-16T00:00:00Z' and not (${goes})`),
        )
        await hold(made, { on: 'log', where })
        const report = await applyIn(made)
        assert.equal(await ids(db), stays)
        assert.equal([report.archived, report.held, report.remaining], [rows.length - stays.length, held, 0])
        await judge(db, 'log', made.path('backups'), original)
      }
      await fc.assert(fc.asyncProperty(rowsOf, predicate, run), { numRuns: timesOf(8) })
    } finally {
      made.remove()
      await db.drop()
    }
  })
}

test.run()
