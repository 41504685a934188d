/** The two ways into a table: straight, where it is certain what comes of the rows, and else staged and compared. */
import { rmSync } from 'node:fs'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore, RetentionError, type RestoreOptions, type RestoreReport } from '../src/index.ts'
import { NumberPicker } from '../src/archive/numbers.ts'
import { Runs } from '../src/database/runs.ts'
import { formatRows } from '../src/archive/csv.ts'
import type { Kind, TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { atPoints } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('restore ways')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'

type Way = 'straight' | 'staged'

/** Restores; tells which way the rows went, and what was wrong. */
async function going(
  made: TestProject,
  options: Partial<RestoreOptions> = {},
): Promise<{ way: Way; report: RestoreReport | undefined; error: RetentionError | undefined }> {
  let error: RetentionError | undefined
  const { result: report, points } = await atPoints([], () =>
    restore({ cwd: made.folder, file, now, ...options }).catch((reason: unknown) => {
      if (!(reason instanceof RetentionError)) throw reason
      error = reason
      return undefined
    }),
  )
  return { way: points.includes('stage row') ? 'staged' : 'straight', report, error }
}

interface Case {
  /** How the table is made, where it is not the usual one; its rows are those before the cutoff. */
  readonly table?: string
  /** What happens to it between apply and restore. */
  readonly meanwhile?: string
  readonly options?: Partial<RestoreOptions>
  readonly way: Way
  /** How many due rows come meanwhile, and are not held. */
  readonly more?: number
  /** What the restore says; undefined where the rows come back as they were. */
  readonly error?: readonly [code: string, message: RegExp]
}

const at = "timestamptz '2020-01-01'"
const cases: Record<Kind, Record<string, Case>> = {
  postgres: {
    'a plain table': { way: 'straight' },
    'a dry run': { options: { dryRun: true }, way: 'straight' },
    'no hold': { options: { hold: 'none' }, way: 'straight' },
    'an identity that is always generated, an enum, arrays, a column that is not archived': {
      table: `create type mood as enum ('good', 'bad');
        create table log (id bigint generated always as identity primary key, at timestamptz, mood mood, moods mood[], n int[], twice bigint generated always as (id * 2) stored);
        insert into log (at, mood, moods, n) select ${at}, 'bad', '{good,NULL}', '{{1,2}}' from generate_series(1, 3)`,
      way: 'straight',
    },
    'a partitioned table': {
      table: `create table log (id int, at timestamptz not null, primary key (id, at)) partition by range (at);
        create table log_a partition of log for values from ('2020-01-01') to ('2021-01-01');
        create table log_b partition of log default;
        insert into log values (1, '2020-02-01'), (2, '2019-02-01')`,
      way: 'straight',
    },
    'a key that is text': {
      table: `create table log (name text primary key, at timestamptz); insert into log values ('a', ${at}), ('b', ${at})`,
      way: 'straight',
    },
    'a key that is text, beside rows of the same times': {
      table: `create table log (name text primary key, at timestamptz); insert into log values ('a', ${at}), ('b', ${at})`,
      meanwhile: `insert into log values ('c', ${at})`,
      more: 1,
      way: 'straight',
    },
    'a key that is a UUID': {
      table: `create table log (id uuid primary key, at date); insert into log select gen_random_uuid(), date '2020-01-01' + n from generate_series(1, 5) n`,
      way: 'straight',
    },
    'no key': {
      table: `create table log (at timestamp, n bigint); insert into log values ('2020-01-01', 1), ('2020-01-03', 1)`,
      way: 'straight',
    },
    'skip, and nothing is in the way': { options: { onConflict: 'skip' }, way: 'staged' },
    'overwrite, and nothing is in the way': { options: { onConflict: 'overwrite' }, way: 'staged' },
    'a trigger before': {
      meanwhile: `create function f() returns trigger language plpgsql as $$ begin return new; end $$;
        create trigger t before insert on log for each row execute function f()`,
      way: 'staged',
    },
    'a trigger after, for the whole statement': {
      meanwhile: `create function f() returns trigger language plpgsql as $$ begin return null; end $$;
        create trigger t after insert or update on log execute function f()`,
      way: 'staged',
    },
    'a trigger for replicas, which is none of ours': {
      meanwhile: `create function f() returns trigger language plpgsql as $$ begin return new; end $$;
        create trigger t before insert on log for each row execute function f(); alter table log enable replica trigger t`,
      way: 'staged',
    },
    'a trigger that is disabled': {
      meanwhile: `create function f() returns trigger language plpgsql as $$ begin new.body = 'x'; return new; end $$;
        create trigger t before insert on log for each row execute function f(); alter table log disable trigger t`,
      way: 'straight',
    },
    'a trigger on a partition that changes rows': {
      table: `create table log (id int, at timestamptz not null, body text, primary key (id, at)) partition by range (at);
        create table log_a partition of log for values from ('2020-01-01') to ('2021-01-01');
        insert into log values (1, '2020-02-01', 'was')`,
      meanwhile: `create function f() returns trigger language plpgsql as $$ begin new.body = 'is'; return new; end $$;
        create trigger t before insert on log_a for each row execute function f()`,
      way: 'staged',
      error: ['RESTORE_MISMATCH', /other than they went in/],
    },
    'a rule': {
      meanwhile: 'create table other (n int); create rule r as on insert to log do also insert into other values (1)',
      way: 'staged',
      error: ['DATABASE_FAILED', /rules/],
    },
    'a wider type': { meanwhile: 'alter table log alter body type varchar(100)', way: 'staged' },
    'a domain': {
      table: `create domain percent as numeric(5, 2); create table log (id int primary key, at timestamptz, share percent);
        insert into log values (1, ${at}, 12.25)`,
      way: 'staged',
    },
    'a domain made anew under its name, coarser': {
      table: `create domain percent as numeric(5, 2); create table log (id int primary key, at timestamptz, share percent);
        insert into log values (1, ${at}, 12.25)`,
      meanwhile: `alter table log alter share type text; drop domain percent; create domain percent as numeric(5, 1);
        alter table log alter share type percent using share::percent`,
      way: 'staged',
      error: ['RESTORE_MISMATCH', /other than they went in/],
    },
    'another unique index in the way': {
      meanwhile: `create unique index log_body on log (body); insert into log (id, at, body) values (100, now(), 'text 2')`,
      way: 'staged',
      error: ['ROWS_UNFIT', /duplicate key for unique index "log_body" \(body\): 1 row: id = 2: "text 2"/],
    },
    'a constraint in the way': {
      meanwhile: "alter table log add constraint short check (body <> 'text 2')",
      way: 'staged',
      error: ['ROWS_UNFIT', /check constraint "short" \(.*\): 1 row: id = 2$/],
    },
    'a foreign key that is checked at the end': {
      meanwhile: `create table parent (id text primary key); insert into parent values ('text 1');
        alter table log add constraint child foreign key (body) references parent deferrable initially deferred not valid`,
      way: 'staged',
      error: [
        'ROWS_UNFIT',
        /foreign key "child", whose \(body\) is not in public\.parent: 2 rows: id = 2: "text 2", id = 3: "text 3"/,
      ],
    },
    'the key in use': {
      meanwhile: "insert into log (id, at, body) values (3, now(), 'new')",
      way: 'staged',
      error: ['RESTORE_CONFLICT', /1 of the 3 rows .* \(id\) = \(3\)$/],
    },
  },
  sqlite: {
    'a plain table': { way: 'straight' },
    'a dry run': { options: { dryRun: true }, way: 'straight' },
    'no hold': { options: { hold: 'none' }, way: 'straight' },
    'a key that is text': {
      table:
        "create table log (name text primary key not null, at text); insert into log values ('a', '2020-01-01'), ('b', '2020-01-01')",
      way: 'straight',
    },
    'a key that is text, beside rows of the same times': {
      table:
        "create table log (name text primary key not null, at text); insert into log values ('a', '2020-01-01'), ('b', '2020-01-01')",
      meanwhile: "insert into log values ('c', '2020-01-01')",
      more: 1,
      way: 'straight',
    },
    'a key that is numbers and text': {
      table:
        "create table log (name primary key not null, at text); insert into log values (1, '2020-01-01'), ('1', '2020-01-01'), (1.5, '2020-01-01')",
      way: 'straight',
    },
    'no key': {
      table:
        "create table log (at text, n); insert into log values ('2020-01-01', 1), ('2020-01-03', -0.0), ('2020-01-04', x'00')",
      way: 'straight',
    },
    'no key, and the highest number in use': {
      table: "create table log (at text, n); insert into log (rowid, at) values (1, '2020-01-01'), (2, '2020-01-02')",
      meanwhile: "insert into log (rowid, at) values (9223372036854775807, '2026-06-14')",
      way: 'staged',
    },
    'numbers in another order than the times': {
      table:
        "create table log (id integer primary key autoincrement, at text); insert into log values (5, '2020-01-01'), (3, '2020-01-02'), (4, '2020-01-03'), (-9, '2020-01-04')",
      way: 'straight',
    },
    'a wider type': {
      table:
        "create table log (id integer primary key autoincrement, at text, n int); insert into log values (1, '2020-01-01', 5)",
      meanwhile: 'drop table log; create table log (id integer primary key autoincrement, at text, n)',
      way: 'straight',
    },
    'another type, which changes values': {
      table:
        "create table log (id integer primary key autoincrement, at text, n); insert into log values (1, '2020-01-01', '05')",
      meanwhile: 'drop table log; create table log (id integer primary key autoincrement, at text, n int)',
      way: 'staged',
      error: ['ROWS_UNFIT', /n \(no type → INT, affinity INTEGER\), would become another value: 1 row: id = 1: "05"$/i],
    },
    'text that is not valid UTF-8': {
      table:
        "create table log (id integer primary key autoincrement, at text, body text); insert into log values (1, '2020-01-01', cast(x'ff41' as text))",
      way: 'staged',
    },
    'no row numbers': {
      table:
        "create table log (id text primary key, at text) without rowid; insert into log values ('a', '2020-01-01')",
      way: 'staged',
    },
    'skip, and nothing is in the way': { options: { onConflict: 'skip' }, way: 'staged' },
    'overwrite, and nothing is in the way': { options: { onConflict: 'overwrite' }, way: 'staged' },
    'a trigger that changes nothing': {
      meanwhile: 'create trigger t after insert on log begin select 1; end',
      way: 'staged',
    },
    'a trigger that changes a row which is in already': {
      meanwhile:
        "create trigger t after insert on log begin update log set body = 'x' where id = 1 and new.id = 3; end",
      way: 'staged',
      error: ['RESTORE_MISMATCH', /other than they went in/],
    },
    'another unique index in the way': {
      meanwhile:
        "create unique index log_body on log (body); insert into log (id, at, body) values (100, '2026-06-14', 'text 2')",
      way: 'staged',
      error: ['ROWS_UNFIT', /UNIQUE constraint failed: log\.body: 1 row: id = 2$/],
    },
    'a constraint in the way': {
      meanwhile:
        "drop table log; create table log (id integer primary key autoincrement, at text, body text check (body <> 'text 2'))",
      way: 'staged',
      error: ['ROWS_UNFIT', /CHECK constraint failed: body <> 'text 2': 1 row: id = 2$/],
    },
    'a column that would replace rows in the way': {
      meanwhile:
        "drop table log; create table log (id integer primary key on conflict replace, at text, body text); insert into log values (3, '2026-06-14', 'new')",
      way: 'staged',
      error: ['RESTORE_CONFLICT', /1 of the 3 rows .* \(id\) = \(3\)$/],
    },
    'the key in use': {
      meanwhile: "insert into log (id, at, body) values (3, '2026-06-14', 'new')",
      way: 'staged',
      error: ['RESTORE_CONFLICT', /1 of the 3 rows .* \(id\) = \(3\)$/],
    },
  },
}

for (const kind of ['sqlite', 'postgres'] as const) {
  for (const [what, { table, meanwhile, options, more = 0, way, error }] of Object.entries(cases[kind])) {
    overDatabases(
      test,
      `${what}: ${way}${error === undefined ? '' : `, ${error[0]}`}`,
      async ({ db, project }) => {
        await (table === undefined ? seedLog(db, minutesBefore(cutoff, 3)) : db.run(table))
        const original = await db.dump('log')
        // All of them in one archive.
        const made = project({ log: { ...logPolicy, partitions: 'rows' } })
        const [policy] = (await apply({ cwd: made.folder, now })).policies
        assert.is(policy?.archived, original.length, policy?.error?.message)
        if (meanwhile !== undefined) await db.run(meanwhile)
        const before = await db.dump('log')
        const went = await going(made, options)
        assert.is(went.error?.code, error?.[0], went.error?.message)
        if (error !== undefined) assert.match(went.error?.message ?? '', error[1])
        assert.is(went.way, way)
        const isBack = error === undefined && options?.dryRun !== true
        assert.equal(await db.dump('log'), isBack ? [...before, ...original].toSorted() : before)
        if (!isBack || options?.hold === 'none') return
        const [again] = (await apply({ cwd: made.folder, now })).policies
        assert.is(again?.held, original.length, again?.error?.message)
        assert.is(again?.archived, more)
      },
      [kind],
    )
  }
}

overDatabases(test, 'without the manifest, types cannot be compared', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const before = await db.dump('log')
  const made = project()
  await apply({ cwd: made.folder, now })
  rmSync(made.path(`backups/${file}.manifest.json`))
  const { way, error } = await going(made)
  assert.is(error, undefined)
  // On SQLite the rows are read back, whatever their types.
  assert.is(way, db.kind === 'postgres' ? 'staged' : 'straight')
  assert.equal(await db.dump('log'), before)
})

overDatabases(test, 'what the ledger does not know is staged', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const made = project()
  await apply({ cwd: made.folder, now })
  await db.run('delete from retention_ledger')
  const { way, report } = await going(made)
  assert.is(report?.restored, 3)
  assert.is(way, 'staged')
})

overDatabases(
  test,
  'an archive that was damaged is called so, whatever else is wrong, and nothing is restored',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now })
    const text = made.read(`backups/${file}`)
    await db.run(`insert into log (id, at, body) values (3, '2026-06-14', 'new')`)
    const before = await db.dump('log')
    const damages: Record<string, string> = {
      'values that are as good as any': text.replace('text 1', 'text 9'),
      'a key that is in use, and one that is not a number': text.replace(/^"?2"?,/m, 'x,'),
      'a row too few': text.slice(0, text.trimEnd().lastIndexOf('\n') + 1),
      'a row too many': text + text.slice(text.trimEnd().lastIndexOf('\n') + 1),
      'a header with columns exchanged': text.replace(/id(\W+)at/, 'at$1id'),
      'half of it': text.slice(0, text.length / 2),
      nothing: '',
    }
    for (const [what, damaged] of Object.entries(damages)) {
      assert.is.not(damaged, text, what)
      made.write(`backups/${file}`, damaged)
      for (const onConflict of ['error', 'skip'] as const) {
        const { error } = await going(made, { onConflict })
        assert.is(error?.code, 'ARCHIVE_CHANGED', `${what}: ${error?.message}`)
        assert.match(error?.message ?? '', /is not what was stored/, what)
        assert.equal(await db.dump('log'), before, what)
      }
    }
    made.write(`backups/${file}`, text)
    assert.is((await going(made)).error?.code, 'RESTORE_CONFLICT')
  },
)

overDatabases(test, 'many rows, and the last of them in the way: none is restored', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3000))
  const made = project()
  assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 3000)
  await db.run("insert into log (id, at, body) values (3000, '2026-06-14', 'new')")
  const before = await db.dump('log')
  const { error } = await going(made)
  assert.match(error?.message ?? '', /1 of the 3000 rows .* \(id\) = \(3000\)$/)
  assert.equal(await db.dump('log'), before)
  const { report } = await going(made, { onConflict: 'overwrite' })
  assert.is(report?.restored, 3000)
})

overDatabases(
  test,
  'sequences go past the greatest restored value, and never back, whichever way',
  async ({ db, project }) => {
    await db.run(
      `create table log (at timestamptz, note text, id bigint generated always as identity primary key, other serial)`,
    )
    for (const [index, onConflict] of (['error', 'skip'] as const).entries()) {
      await db.run(`delete from log; insert into log (at, note) select '2020-01-01', E'a,"b"\\n' from generate_series(1, 5);
        select setval('log_other_seq', ${1000 * (index + 1)})`)
      const made = project()
      const [policy] = (await apply({ cwd: made.folder, now })).policies
      const highest = 5 * (index + 1)
      await db.run("select setval('log_id_seq', 1)")
      const { way } = await going(made, { file: policy?.archives[0]?.name ?? '', onConflict })
      assert.is(way, onConflict === 'error' ? 'straight' : 'staged')
      assert.is(Number(await db.value('select max(id) from log')), highest)
      assert.is(Number(await db.value('select last_value from log_id_seq')), highest)
      assert.is(Number(await db.value('select last_value from log_other_seq')), 1000 * (index + 1))
    }
  },
  ['postgres'],
)

/** Whole numbers that lie close to one another, and at the ends of what there is. */
const numbers = (min: bigint, max: bigint): fc.Arbitrary<bigint[]> =>
  fc.uniqueArray(
    fc
      .tuple(fc.constantFrom(min, max, 0n, -5n, 1000n), fc.integer({ min: -12, max: 12 }))
      .map(([around, by]) => around + BigInt(by))
      .filter((value) => value >= min && value <= max),
    { minLength: 1, maxLength: 30 },
  )

overDatabases(
  test,
  'held are exactly the rows that were restored, whatever their numbers (property)',
  async ({ db, project }) => {
    await seedLog(db, [])
    const time = (value: bigint): string => `2020-01-01T00:00:${String(Number(value & 31n)).padStart(2, '0')}Z`
    const insert = async (values: readonly bigint[]): Promise<void> =>
      db.run(`insert into log (id, at) values ${values.map((value) => `(${value}, '${time(value)}')`).join(', ')}`)
    const left = async (): Promise<string[]> =>
      (await db.rows('select id from log order by id')).map(([id]) => String(id))
    const sorted = (values: readonly bigint[]): string[] => values.toSorted((a, b) => (a < b ? -1 : 1)).map(String)
    const [min, max] = [-(2n ** 63n), 2n ** 63n - 1n]
    await fc.assert(
      fc.asyncProperty(numbers(min, max), fc.constantFrom('error', 'skip'), async (restored, onConflict) => {
        await db.run('delete from log')
        await clearHolds(db)
        await insert(restored)
        const made = project()
        const [first] = (await apply({ cwd: made.folder, now })).policies
        assert.is(first?.archived, restored.length, first?.error?.message)
        const { error } = await going(made, { file: first?.archives[0]?.name ?? '', onConflict })
        assert.is(error, undefined)
        assert.is(await heldNumbers(db), BigInt(restored.length))
        const others = [...new Set(restored.flatMap((value) => [value - 1n, value + 1n]))].filter(
          (value) => !restored.includes(value) && value >= min && value <= max,
        )
        if (others.length > 0) await insert(others)
        const [again] = (await apply({ cwd: made.folder, now })).policies
        assert.is(again?.archived, others.length, again?.error?.message)
        assert.is(again?.held, restored.length)
        assert.equal(await left(), sorted(restored))
      }),
      { numRuns: timesOf(12) },
    )
  },
)

async function clearHolds(db: TestDatabase): Promise<void> {
  await db.run('delete from retention_ledger_holds; delete from retention_ledger_held_runs').catch(() => {})
}

/** How many numbers the runs hold. */
async function heldNumbers(db: TestDatabase): Promise<bigint> {
  const rows = await db.rows('select retention_first, retention_last from retention_ledger_held_runs')
  return rows.reduce((sum, [first, last]) => sum + BigInt(String(last)) - BigInt(String(first)) + 1n, 0n)
}

overDatabases(
  test,
  'a log is held as one run, and forgotten long after its hold has ended',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 500))
    const made = project()
    await apply({ cwd: made.folder, now })
    await going(made)
    assert.equal(
      (await db.rows('select retention_first, retention_last from retention_ledger_held_runs')).flat().map(Number),
      [1, 500],
    )
    assert.is(Number(await db.value('select count(*) from retention_ledger_held_rows')), 0)
    assert.is((await apply({ cwd: made.folder, now: new Date('2026-06-22T12:00:01Z') })).policies[0]?.archived, 500)
    assert.is(await heldNumbers(db), 500n)
    await apply({ cwd: made.folder, now: new Date('2026-08-01T00:00:00Z') })
    assert.is(await heldNumbers(db), 0n)
  },
)

overDatabases(test, 'keys that are text are forgotten as well', async ({ db, project }) => {
  await db.run(`create table log (id text primary key not null, at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'});
    insert into log values ('a', '2020-01-01'), ('b', '2020-01-01')`)
  const made = project()
  await apply({ cwd: made.folder, now })
  await going(made)
  const held = async (): Promise<number> => Number(await db.value('select count(*) from retention_ledger_held_rows'))
  assert.is(await held(), 2)
  await apply({ cwd: made.folder, now: new Date('2026-08-01T00:00:00Z') })
  assert.is(await held(), 0)
})

overDatabases(
  test,
  'rows that are held by their numbers, in a column that holds none any more: refused',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now })
    await going(made)
    await db.run('alter table log alter id drop identity; alter table log alter id type integer')
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.held, 3)
    await db.run('alter table log alter id type text')
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'refused')
    assert.match(
      policy?.error?.message ?? '',
      /are held by the whole numbers of id, which public\.log does not have any more/,
    )
  },
  ['postgres'],
)

test('runs hold what was added, in as few as possible (property)', () => {
  fc.assert(
    fc.property(numbers(-(2n ** 63n), 2n ** 63n - 1n), (values) => {
      const runs = new Runs()
      for (const value of values) runs.add(value)
      const { firsts, lasts } = runs.joined()
      const inside: bigint[] = []
      for (const [index, first] of firsts.entries()) {
        for (let value = first; value <= (lasts[index] ?? first); value += 1n) inside.push(value)
        assert.is(firsts[index + 1] === (lasts[index] ?? 0n) + 1n, false)
      }
      assert.equal(
        inside,
        values.toSorted((a, b) => (a < b ? -1 : 1)),
      )
    }),
  )
  const many = new Runs()
  for (let value = 0n; value < 5000n; value += 2n) many.add(value)
  for (let value = 1n; value < 5000n; value += 2n) many.add(value)
  assert.equal(many.joined(), { firsts: BigInt64Array.of(0n), lasts: BigInt64Array.of(4999n) })
  const twice = new Runs()
  for (const value of [1n, 2n, 2n]) twice.add(value)
  assert.throws(() => twice.joined(), /2 is in two runs/)
})

test('numbers are picked out of a CSV, however its bytes are cut (property)', () => {
  const text = fc.oneof(fc.constantFrom('"', ',', '\n', '1', '"\n2,'), fc.string({ maxLength: 3 }))
  const row = fc.tuple(
    text,
    fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
    text,
    fc.bigInt({ min: -9n, max: 9n }),
  )
  fc.assert(
    fc.property(fc.array(row), fc.integer({ min: 1, max: 40 }), (rows, size) => {
      const bytes = Buffer.from(formatRows([['a', 'b', 'c', 'd'], ...rows]))
      const picked = new Map<number, (bigint | undefined)[]>([
        [1, []],
        [3, []],
      ])
      const picker = new NumberPicker([3, 1], (column, value) => picked.get(column)?.push(value))
      for (let from = 0; from < bytes.length; from += size) picker.update(bytes.subarray(from, from + size))
      assert.equal(
        picked.get(1),
        rows.map(([, value]) => value ?? undefined),
      )
      assert.equal(
        picked.get(3),
        rows.map(([, , , value]) => value),
      )
    }),
  )
  const seen: (bigint | undefined)[] = []
  new NumberPicker([0], (_, value) => seen.push(value)).update(Buffer.from('h\n1\n"1"\n1.5\n\n-2\nx\n'))
  assert.equal(seen, [1n, undefined, undefined, undefined, -2n, undefined])
})

test.run()
