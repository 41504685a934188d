/** The down migration: an archive's rows come back, all or none, and stay for a while. */
import { copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore, RetentionError, status, type RestoreOptions, type RestoreReport } from '../src/index.ts'
import { createDatabase, untilAlone, type Kind } from './support/database.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'
import type { TestProject } from './support/project.ts'

const test = suite('restore')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'

/** A log of which three rows have been archived, and one is left. */
async function archived({ db, project }: Scene): Promise<TestProject> {
  await seedLog(db, [...minutesBefore(cutoff, 3), '2026-06-10T00:00:00Z'])
  const made = project()
  assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 3)
  return made
}

async function restored(made: TestProject, options: Partial<RestoreOptions> = {}): Promise<RestoreReport> {
  return restore({ cwd: made.folder, file, now, ...options })
}

/** Restores and asserts that it fails with that code and message, and changes nothing. */
async function fails(
  { db }: Scene,
  made: TestProject,
  code: string,
  message: RegExp,
  options: Partial<RestoreOptions> = {},
): Promise<RetentionError> {
  const dump = async (): Promise<string[][]> => [
    await db.dump('log'),
    await db.dump('retention_ledger'),
    await db.dump('retention_ledger_held_runs'),
    await db.dump('retention_ledger_held_rows'),
  ]
  const before = await dump()
  const error = await restored(made, options).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.instance(error, RetentionError)
  if (!(error instanceof RetentionError)) throw new Error('not ours')
  assert.is(error.code, code, error.message)
  assert.match(error.message, message)
  assert.equal(await dump(), before)
  return error
}

const ids = async ({ db }: Scene, table = 'log'): Promise<number[]> =>
  (await db.rows(`select id from ${table} order by id`)).map(([id]) => Number(id))

overDatabases(test, 'by name, by path and by location', async (scene) => {
  const made = await archived(scene)
  for (const name of [
    file,
    `${file}.manifest.json`,
    `backups/${file}`,
    `./backups/${file}`,
    made.path(`backups/${file}`),
  ]) {
    const report = await restored(made, { file: name, dryRun: true })
    assert.is(report.restored, 3, name)
  }
  assert.equal(await ids(scene), [4])
  const report = await restored(made)
  assert.is(report.restored, 3)
  assert.is(report.rows, 3)
  assert.is(report.conflicts, 0)
  assert.equal(await ids(scene), [1, 2, 3, 4])
})

overDatabases(test, 'marks the archive, and refuses a second time', async (scene) => {
  const made = await archived(scene)
  await restored(made)
  const [first] = (await status({ cwd: made.folder, now })).archives
  assert.is(first?.state, 'restored')
  assert.is(first?.restoredAt, now.toISOString())
  await fails(scene, made, 'ALREADY_RESTORED', /was restored at 2026-06-15T12:00:00\.000Z/)
  // Again only where its rows have gone: whoever asks for it may be wrong.
  await fails(scene, made, 'RESTORE_CONFLICT', /3 of the 3 rows/, { again: true })
  await scene.db.run('delete from log where id < 4')
  const later = new Date(now.getTime() + 1000)
  assert.is((await restored(made, { again: true, now: later })).restored, 3)
  assert.equal(await ids(scene), [1, 2, 3, 4])
  const entry = async (): Promise<unknown[]> => {
    const [one] = (await status({ cwd: made.folder, now })).archives
    return [one?.state, one?.restoredAt]
  }
  assert.equal(await entry(), ['restored', later.toISOString()])
  // What only some rows have come back from has the others alone.
  await scene.db.run('delete from log where id < 3')
  await restored(made, { again: true, where: 'id = 1' })
  assert.equal(await entry(), ['archived', null])
  await restored(made, { onConflict: 'skip', hold: 'none' })
  assert.is((await made.cli(['restore', file])).code, 1)
})

overDatabases(test, 'what was restored and archived again is not restored again', async (scene) => {
  const made = await archived(scene)
  await restored(made, { hold: 'none' })
  const later = new Date(now.getTime() + 1000)
  assert.is((await apply({ cwd: made.folder, now: later })).policies[0]?.archived, 3)
  await fails(scene, made, 'REFUSED', /rows of its times were archived again since, into log_.*_0002\.csv/, {
    again: true,
  })
})

overDatabases(test, 'restored rows are held: apply leaves them alone until the hold ends', async (scene) => {
  const made = await archived(scene)
  const report = await restored(made)
  assert.is(report.heldUntil, '2026-06-22T12:00:00.000Z')
  await scene.db.run("insert into log (at, body) values ('2020-01-01T00:00:00Z', 'not held')")
  const [during] = (await apply({ cwd: made.folder, now })).policies
  assert.is(during?.status, 'applied')
  assert.is(during?.archived, 1)
  assert.is(during?.held, 3)
  assert.equal(await ids(scene), [1, 2, 3, 4])
  const [standing] = (await status({ cwd: made.folder, now })).policies
  assert.is(standing?.due, 0)
  assert.is(standing?.held, 3)
  assert.is(standing?.holds[0]?.archive, file)
  const later = new Date('2026-06-22T12:00:01Z')
  const [after] = (await apply({ cwd: made.folder, now: later })).policies
  assert.is(after?.archived, 3)
  assert.equal(await ids(scene), [4])
  // Its keys are kept for a while, should that clock have been ahead.
  const keys = async (): Promise<number> =>
    Number(
      await scene.db.value(
        'select coalesce(sum(retention_last - retention_first + 1), 0) from retention_ledger_held_runs',
      ),
    )
  assert.is(await keys(), 3)
  await apply({ cwd: made.folder, now: new Date('2026-08-01T00:00:00Z') })
  assert.is(await keys(), 0)
})

overDatabases(test, 'rows stay held by what they were held by, whatever becomes the key', async ({ db, project }) => {
  // Columns with names that mean something of their own to a database.
  const names = db.kind === 'sqlite' ? ['rowid', 'key'] : ['order', 'key']
  await db.run(`create table log ("${names[0]}" text not null, "${names[1]}" integer not null, at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'});
    create unique index log_key on log ("${names[0]}", "${names[1]}");
    insert into log values ('a', 1, '2020-01-01'), ('b', 2, '2020-01-01')`)
  const made = project()
  await apply({ cwd: made.folder, now })
  await restored(made)
  await db.run(`drop index log_key; alter table log add column id integer; update log set id = "${names[1]}";
    create unique index log_id on log (id); insert into log values ('c', 3, '2020-01-01', 3)`)
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.archived, 1, policy?.error?.message)
  assert.is(policy?.held, 2)
  await db.run(`alter table log rename column "${names[1]}" to renamed`)
  const [refused] = (await apply({ cwd: made.folder, now })).policies
  assert.is(refused?.status, 'refused')
  assert.match(refused?.error?.message ?? '', /are held by .* which (public\.)?log does not have any more/)
})

overDatabases(
  test,
  'a primary key that SQLite would let be NULL is one as long as no row has it so',
  async ({ db, project }) => {
    await db.run(
      "create table log (id text primary key, at text); insert into log values ('a', '2020-01-01'), ('b', '2020-01-01')",
    )
    const made = project()
    await apply({ cwd: made.folder, now })
    await db.run("insert into log values ('a', '2026-06-14')")
    const error = await restored(made).catch((reason: unknown) => reason)
    assert.match(String(error), /\(id\) = \(a\)/)
    await db.run("delete from log; insert into log values (null, '2026-06-14')")
    assert.match((await restored(made)).warnings.map(({ text }) => text).join(), /has no key/)
  },
  ['sqlite'],
)

overDatabases(test, 'hold: for ever, not at all, for as long as said', async (scene) => {
  const made = await archived(scene)
  await restored(made, { hold: 'forever' })
  const [standing] = (await status({ cwd: made.folder, now: new Date('2099-01-01') })).policies
  assert.is(standing?.holds[0]?.until, null)
  assert.is(standing?.held, 3)
  const other = await archivedAgain(scene, 'none')
  assert.is(other.heldUntil, null)
  assert.is((await archivedAgain(scene, '30d')).heldUntil, '2026-07-15T12:00:00.000Z')
  const bad = await restored(made, { hold: 'soon' }).catch((error: unknown) => error)
  assert.match(String(bad), /--hold is "soon"/)
})

/** Another log, archived and restored with a hold. */
async function archivedAgain({ db, project }: Scene, hold: string): Promise<RestoreReport> {
  await db.run("insert into log (at, body) values ('2020-01-01T00:00:00Z', 'again')")
  const made = project()
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  return restored(made, { file: policy?.archives[0]?.name ?? '', hold })
}

overDatabases(test, 'a table without a key is held by time range, with a warning', async ({ db, project }) => {
  const type = db.kind === 'sqlite' ? 'text' : 'timestamptz'
  await db.run(
    `create table log (at ${type}, body text); insert into log values ('2020-01-01T00:00:00Z', 'a'), ('2020-01-03T00:00:00Z', 'b')`,
  )
  const made = project()
  await apply({ cwd: made.folder, now })
  const report = await restored(made)
  assert.ok(report.warnings.some(({ text }) => /has no key: every row whose at lies between/.test(text)))
  await db.run("insert into log values ('2020-01-02T00:00:00Z', 'between'), ('2020-01-04T00:00:00Z', 'after')")
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.archived, 1)
  assert.is(policy?.held, 3)
  const again = restore({ cwd: made.folder, file: report.archive, now, again: true })
  assert.is(await again.catch((error: RetentionError) => error.code), 'RESTORE_CONFLICT')
})

overDatabases(test, 'a conflict restores nothing, and names the first keys', async (scene) => {
  const made = await archived(scene)
  await scene.db.run("insert into log (id, at, body) values (2, '2026-06-11T00:00:00Z', 'new')")
  const error = await fails(scene, made, 'RESTORE_CONFLICT', /1 of the 3 rows .* \(id\) = \(2\)$/)
  assert.match(error.hint ?? '', /--on-conflict skip/)
})

overDatabases(test, 'on-conflict skip keeps the rows of the table, overwrite replaces them', async (scene) => {
  const made = await archived(scene)
  await scene.db.run("insert into log (id, at, body) values (2, '2026-06-11T00:00:00Z', 'new')")
  const skipped = await restored(made, { onConflict: 'skip', dryRun: true })
  assert.is(skipped.restored, 2)
  assert.is(skipped.conflicts, 1)
  const body = async (): Promise<unknown> => scene.db.value('select body from log where id = 2')
  assert.is(await body(), 'new')
  const overwritten = await restored(made, { onConflict: 'overwrite' })
  assert.is(overwritten.restored, 3)
  assert.is(await body(), 'text 2')
  assert.equal(await ids(scene), [1, 2, 3, 4])
})

overDatabases(test, 'skip restores the others', async (scene) => {
  const made = await archived(scene)
  await scene.db.run(
    "insert into log (id, at, body) values (1, '2026-06-11T00:00:00Z', 'new'), (3, '2026-06-11T00:00:00Z', 'new')",
  )
  const report = await restored(made, { onConflict: 'skip' })
  assert.is(report.restored, 1)
  // Two of its rows are nowhere but in the archive.
  assert.match(report.warnings.map(({ text }) => text).join(), /stays archived: 2 of its rows/)
  assert.is((await status({ cwd: made.folder, now })).archives[0]?.state, 'archived')
  assert.equal((await scene.db.rows('select body from log order by id')).flat(), ['new', 'text 2', 'new', 'text 4'])
  assert.equal(
    (await scene.db.rows('select retention_first, retention_last from retention_ledger_held_runs')).flat().map(Number),
    [2, 2],
  )
})

overDatabases(test, 'into another table: neither the state nor a hold changes', async (scene) => {
  const made = await archived(scene)
  await scene.db.run(
    scene.db.kind === 'sqlite'
      ? 'create table copy (id integer, at text, body text, more text)'
      : 'create table copy (id bigint, at timestamptz, body text, more text)',
  )
  const report = await restored(made, { into: 'copy' })
  assert.is(report.heldUntil, null)
  assert.equal(await ids(scene, 'copy'), [1, 2, 3])
  assert.equal(await ids(scene), [4])
  assert.is((await status({ cwd: made.folder, now })).archives[0]?.state, 'archived')
  assert.is(Number(await scene.db.value('select count(*) from retention_ledger_holds')), 0)
  await restored(made)
  await restored(made, { into: 'copy' })
  assert.is((await ids(scene, 'copy')).length, 6)
})

overDatabases(test, 'from the manifest alone, into a database whose ledger knows nothing', async (scene) => {
  const made = await archived(scene)
  const before = await scene.db.dump('log')
  await scene.db.run('delete from retention_ledger; delete from log')
  const elsewhere = path.join(made.folder, 'elsewhere')
  mkdirSync(elsewhere)
  for (const name of made.list()) copyFileSync(made.path(`backups/${name}`), path.join(elsewhere, name))
  assert.is((await restored(made, { file: `elsewhere/${file}` })).restored, 3)
  assert.is((await scene.db.dump('log')).length + 1, before.length + 3)
  // It is in the ledger now, and so is not restored twice.
  await fails(scene, made, 'ALREADY_RESTORED', /was restored/, { file: `elsewhere/${file}` })
})

overDatabases(test, 'from the manifest alone, tried first: not even a ledger is made', async (scene) => {
  const made = await archived(scene)
  const tables = [
    'ledger',
    'ledger_version',
    'ledger_names',
    'ledger_holds',
    'ledger_held_runs',
    'ledger_held_rows',
    'ledger_erasures',
    'ledger_erased_files',
    'ledger_moved_files',
    'ledger_runs',
  ]
  for (const table of tables) await scene.db.run(`drop table retention_${table}`)
  assert.is((await restored(made, { dryRun: true })).restored, 3)
  const left = await scene.db.rows(
    scene.db.kind === 'sqlite'
      ? "select name from sqlite_schema where name like 'retention%'"
      : "select relname from pg_class where relname like 'retention%'",
  )
  assert.equal(left, [])
  assert.is((await restored(made)).restored, 3)
})

overDatabases(test, 'the manifest makes the table in an empty database, and the archive fills it', async (scene) => {
  const { db } = scene
  await db.run(
    db.kind === 'sqlite'
      ? `create table "log" (id integer primary key autoincrement, at text not null default 'x', mood text collate nocase check (mood <> 'bad'));
         create index log_mood on log (mood) where mood is not null`
      : `create schema other; create type other.mood as enum ('good', 'it''s fine');
         create domain percent as numeric(5, 2) default 1 not null check (value between 0 and 100);
         create type pair as (a int, b text);
         create table log (id serial primary key, at timestamptz default now(), mood other.mood, moods other.mood[], share percent,
           both_of pair, same int generated always as (1) stored, constraint "short" check (id < 100));
         create index log_mood on log (mood) where mood is not null`,
  )
  await db.run(
    db.kind === 'sqlite'
      ? "insert into log (at, mood) values ('2020-01-01', 'Good')"
      : `insert into log (at, mood, moods, share, both_of) values ('2020-01-01', 'good', '{good,"it''s fine"}', 12.5, '(1,x)')`,
  )
  const made = scene.project()
  await db.run("insert into log (at) values ('2026-06-14')")
  const [kept] = (await db.rows('select id from log order by id limit 1')).flat()
  const before = await db.dump('log')
  assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 1)
  const { files } = JSON.parse(made.read(`backups/${file}.manifest.json`)) as { files: { ddl: string[] }[] }
  const empty = await createDatabase(db.kind)
  try {
    if (db.kind === 'postgres') await empty.run('create schema other')
    for (const statement of files[0]?.ddl ?? []) await empty.run(statement)
    made.configure({ database: empty.address })
    assert.is((await restored(made)).restored, 1)
    const back = await empty.dump('log')
    assert.is(back.length, 1)
    assert.ok(before.includes(back[0] ?? ''))
    await empty.run("insert into log (at) values ('2026-06-14')")
    assert.is(Number(await empty.value('select max(id) from log')), Number(kept) + 1)
  } finally {
    await empty.drop()
  }
})

overDatabases(test, 'from the ledger alone, when the manifest is missing', async (scene) => {
  const made = await archived(scene)
  rmSync(made.path(`backups/${file}.manifest.json`))
  assert.is((await restored(made)).restored, 3)
})

overDatabases(test, 'columns added since take their default; a vanished one stops it', async (scene) => {
  const made = await archived(scene)
  await scene.db.run("alter table log add column extra text default 'new'")
  await restored(made, { dryRun: true })
  await scene.db.run('alter table log rename column body to text')
  await fails(scene, made, 'REFUSED', /has no column "body", which log_backup_20260516\.csv has/)
  await scene.db.run('alter table log rename column text to body')
  await restored(made)
  assert.equal((await scene.db.rows('select extra from log order by id')).flat(), ['new', 'new', 'new', 'new'])
})

overDatabases(test, 'columns in another order than they were', async (scene) => {
  const made = await archived(scene)
  const before = (await scene.db.rows('select id, body from log')).length
  await scene.db.run(
    scene.db.kind === 'sqlite'
      ? 'drop table log; create table log (body text, at text, id integer primary key autoincrement)'
      : 'drop table log; create table log (body text, at timestamptz, id bigint primary key)',
  )
  assert.is(before, 1)
  await restored(made)
  assert.equal((await scene.db.rows('select body from log order by id')).flat(), ['text 1', 'text 2', 'text 3'])
})

const meddlers: Record<string, Record<Kind, string>> = {
  'changes rows before they go in': {
    sqlite:
      'create trigger meddle after insert on log begin update log set body = upper(new.body) where id = new.id; end',
    postgres:
      'create function f() returns trigger language plpgsql as $$ begin new.body = upper(new.body); return new; end $$; create trigger meddle before insert on log for each row execute function f()',
  },
  'changes rows after they went in': {
    sqlite: "create trigger meddle after insert on log begin update log set body = 'x' where id = new.id - 1; end",
    postgres:
      "create function f() returns trigger language plpgsql as $$ begin update log set body = 'x' where id = new.id; return null; end $$; create trigger meddle after insert on log for each row execute function f()",
  },
  'keeps a row out': {
    sqlite: 'create trigger meddle before insert on log when new.id = 2 begin select raise(ignore); end',
    postgres:
      'create function f() returns trigger language plpgsql as $$ begin return case when new.id = 2 then null else new end; end $$; create trigger meddle before insert on log for each row execute function f()',
  },
}

for (const [what, statements] of Object.entries(meddlers)) {
  overDatabases(test, `a trigger that ${what} rolls it back, and is named`, async (scene) => {
    const made = await archived(scene)
    await scene.db.run(statements[scene.db.kind])
    const error = await fails(scene, made, 'RESTORE_MISMATCH', /came out of .*log" other than they went in/)
    assert.match(error.hint ?? '', /meddle/)
  })
}

overDatabases(
  test,
  'a trigger that changes rows at the end of the transaction rolls it back as well',
  async (scene) => {
    const made = await archived(scene)
    await scene.db
      .run(`create function late() returns trigger language plpgsql as $$ begin update log set body = 'late' where id = new.id; return null; end $$;
      create constraint trigger late after insert on log deferrable initially deferred for each row execute function late()`)
    await fails(scene, made, 'RESTORE_MISMATCH', /came out of/)
  },
  ['postgres'],
)

overDatabases(test, 'a column whose type has changed so that values do not survive', async (scene) => {
  const { db } = scene
  await db.run(
    db.kind === 'sqlite'
      ? 'create table log (id integer primary key autoincrement, at text, body)'
      : 'create table log (id int primary key, at timestamptz, body numeric)',
  )
  const value = db.kind === 'sqlite' ? "'007'" : '1.55'
  await db.run(`insert into log (id, at, body) values (1, '2020-01-01T00:00:00Z', ${value})`)
  const made = scene.project()
  await apply({ cwd: made.folder, now })
  await db.run(
    db.kind === 'sqlite'
      ? 'drop table log; create table log (id integer primary key autoincrement, at text, body int)'
      : 'alter table log alter body type numeric(10, 1)',
  )
  await fails(scene, made, 'ROWS_UNFIT', /would become another value: 1 row: id = 1: "(007|1\.55)"$/)
})

overDatabases(test, 'bytes that are not those that were stored', async (scene) => {
  const made = await archived(scene)
  const text = made.read(`backups/${file}`)
  made.write(`backups/${file}`, text.replace('text 1', 'text 9'))
  await fails(scene, made, 'ARCHIVE_CHANGED', /is not what was stored/)
  made.write(`backups/${file}`, text.slice(0, -1))
  await fails(scene, made, 'ARCHIVE_CHANGED', /is not what was stored/)
  rmSync(made.path(`backups/${file}`))
  await fails(scene, made, 'ARCHIVE_NOT_FOUND', /There is no file/)
})

overDatabases(test, 'a manifest that was changed, belongs to another archive, or is from the future', async (scene) => {
  const made = await archived(scene)
  const manifest = made.read(`backups/${file}.manifest.json`)
  const change = (from: string, to: string): void =>
    made.write(`backups/${file}.manifest.json`, manifest.replace(from, to))
  change('"rows": 3', '"rows": 2')
  await fails(scene, made, 'MANIFEST_INVALID', /has been changed since it was stored/)
  change(`"file": "${file}"`, '"file": "other.csv"')
  await fails(scene, made, 'MANIFEST_INVALID', /is the manifest of other\.csv/)
  change('"format": 1', '"format": 2')
  await fails(scene, made, 'MANIFEST_INVALID', /has format 2; this version reads up to 1/)
  change('{', '')
  await fails(scene, made, 'MANIFEST_INVALID', /is not JSON/)
  await scene.db.run('delete from retention_ledger')
  change('"rows": 3', '"rows": "3"')
  await fails(scene, made, 'MANIFEST_INVALID', /is no manifest: files\.0\.rows/)
  change('"rows": 3', '"rows": 2')
  await fails(scene, made, 'ARCHIVE_CHANGED', /holds 3 rows, not 2/)
  change('"name": "body"', '"name": "ybod"')
  await fails(scene, made, 'ARCHIVE_CHANGED', /The header of .* is \(id, at, body\), not \(id, at, ybod\)/)
})

overDatabases(test, 'an archive of another kind of database', async (scene) => {
  const made = await archived(scene)
  await scene.db.run('delete from retention_ledger')
  const other = scene.db.kind === 'sqlite' ? 'postgres' : 'sqlite'
  made.write(
    `backups/${file}.manifest.json`,
    made.read(`backups/${file}.manifest.json`).replace(`"kind": "${scene.db.kind}"`, `"kind": "${other}"`),
  )
  await fails(scene, made, 'MANIFEST_INVALID', new RegExp(`is from ${other}, and this database is ${scene.db.kind}`))
})

overDatabases(test, 'an archive that nobody knows: suggests one', async (scene) => {
  const made = await archived(scene)
  await fails(
    scene,
    made,
    'ARCHIVE_NOT_FOUND',
    /There is no archive "log_backup_20260515\.csv" \(did you mean "log_backup_20260516\.csv"\?\)/,
    { file: 'log_backup_20260515.csv' },
  )
})

overDatabases(test, 'a link, or a path out of the target, is not followed', async (scene) => {
  const made = await archived(scene)
  renameSync(made.path(`backups/${file}`), made.path('outside.csv'))
  symlinkSync(made.path('outside.csv'), made.path(`backups/${file}`))
  await fails(scene, made, 'ARCHIVE_CHANGED', /cannot be read as a file/)
  await scene.db.run("update retention_ledger set path = '../outside.csv'")
  await fails(scene, made, 'ARCHIVE_NOT_FOUND', /is not the name of a file/)
})

overDatabases(test, 'no such table to restore into: shows how it was made', async (scene) => {
  const made = await archived(scene)
  await scene.db.run('alter table log rename to gone; create table log (x integer)')
  await fails(scene, made, 'REFUSED', /has no column "id", "at", "body"/)
  await scene.db.run('drop table log')
  const error = await restored(made).catch((reason: unknown) => reason)
  assert.match(String(error), /There is no table "(public\.)?log"/)
  assert.match(error instanceof RetentionError ? (error.hint ?? '') : '', /create table/i)
})

overDatabases(test, 'a dry run changes nothing, not even the ledger', async (scene) => {
  const made = await archived(scene)
  const before = [await scene.db.dump('log'), await scene.db.dump('retention_ledger')]
  const report = await restored(made, { dryRun: true })
  assert.is(report.dryRun, true)
  assert.is(report.restored, 3)
  assert.equal([await scene.db.dump('log'), await scene.db.dump('retention_ledger')], before)
})

overDatabases(
  test,
  'sequences go on behind the restored rows, and never back',
  async (scene) => {
    const { db } = scene
    await db.run(`
      create sequence shared;
      create table log (id serial primary key, at timestamptz, body text, always bigint generated always as identity, other bigint default nextval('shared'));
      insert into log (at, body) select '2020-01-01', 'row ' || i from generate_series(1, 5) i`)
    const made = scene.project()
    await apply({ cwd: made.folder, now })
    await db.run("select setval('log_id_seq', 1), setval('log_always_seq', 100)")
    await db.run('alter sequence shared restart')
    await restored(made)
    await db.run('insert into log (at) values (now())')
    assert.equal(await db.rows('select id, always::int, other::int from log order by id desc limit 1'), [[6, 101, 6]])
  },
  ['postgres'],
)

overDatabases(
  test,
  'AUTOINCREMENT goes on behind the restored rows',
  async (scene) => {
    const made = await archived(scene)
    await scene.db.run('delete from log; delete from sqlite_sequence')
    await restored(made)
    await scene.db.run("insert into log (at) values ('2026-06-15T00:00:00Z')")
    assert.equal(await ids(scene), [1, 2, 3, 4])
  },
  ['sqlite'],
)

overDatabases(test, 'into the table that it is from: refused', async (scene) => {
  const made = await archived(scene)
  await fails(scene, made, 'USAGE', /--into names (public\.)?log, which/, { into: 'log' })
})

overDatabases(
  test,
  "another database's archive of the same name: into a table of its own, and no other",
  async (scene) => {
    const made = await archived(scene)
    const other = await createDatabase(scene.db.kind)
    try {
      await seedLog(other, ['2020-01-01T00:00:00Z'], "'staging'")
      const staging = scene.project(undefined, { database: other.address })
      await apply({ cwd: staging.folder, now })
      const theirs = staging.path(`backups/${file}`)
      await fails(scene, made, 'ARCHIVE_CHANGED', /is another archive than the ledger's log_backup_20260516\.csv/, {
        file: theirs,
      })
      await scene.db.run(
        `create table copy (id integer, at ${scene.db.kind === 'sqlite' ? 'text' : 'timestamptz'}, body text)`,
      )
      assert.is((await restored(made, { file: theirs, into: 'copy' })).restored, 1)
      assert.is(await scene.db.value('select body from copy'), 'staging')
      assert.is((await restored(made)).restored, 3)
    } finally {
      await other.drop()
    }
  },
)

for (const key of ['a key', 'no key']) {
  overDatabases(
    test,
    `what a run left that was cut off before its commit, in a table with ${key}: never twice`,
    async (scene) => {
      const { db } = scene
      await seedLog(db, minutesBefore(cutoff, 3))
      if (key === 'no key') {
        await db.run(`create table bare (at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'}, body text); insert into bare select at, body from log;
        drop table log; alter table bare rename to log`)
      }
      const made = scene.project()
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      const plan = [{ point: 'commit step' }]
      const killed = await made.cli(['apply'], {
        node: ['--import', path.join(import.meta.dirname, 'support/points.ts')],
        env: { RETENTION_WATCH: db.kind, RETENTION_POINTS: JSON.stringify(plan) },
      })
      assert.is(killed.signal, 'SIGKILL')
      await untilAlone(db)
      const [orphan = ''] = made.list()
      const before = await db.dump('log')
      assert.is(before.length, 3)
      const error = await fails(scene, made, 'RESTORE_CONFLICT', /3 of the 3 rows/, { file: orphan })
      assert.ok(error.hint)
      if (key === 'a key') {
        const report = await restored(made, { file: orphan, onConflict: 'skip' })
        assert.is(report.restored, 0)
        assert.is(report.heldUntil, null)
        assert.match(report.warnings[0]?.text ?? '', /stays unknown to the ledger/)
        assert.is(Number(await db.value('select count(*) from retention_ledger')), 0)
      } else {
        await fails(scene, made, 'REFUSED', /has no key: there is nothing to skip by/, {
          file: orphan,
          onConflict: 'skip',
        })
      }
      assert.equal(await db.dump('log'), before)
    },
  )
}

overDatabases(
  test,
  'skip: rows that are there as they were make no difference to an archive that is whole',
  async (scene) => {
    const made = await archived(scene)
    await restored(made, { hold: 'none' })
    await scene.db.run('delete from log where id = 2')
    await scene.db.run("update retention_ledger set state = 'archived', restored_at = null")
    const report = await restored(made, { onConflict: 'skip' })
    assert.is(report.restored, 1)
    assert.equal(report.warnings, [])
    assert.is((await status({ cwd: made.folder, now })).archives[0]?.state, 'restored')
  },
)

overDatabases(test, 'a hold by time is on the column that it was placed by', async ({ db, project }) => {
  const type = db.kind === 'sqlite' ? 'text' : 'timestamptz'
  await db.run(`create table log (at ${type}, seen ${type}); insert into log values ('2020-01-01', '2021-01-01')`)
  const made = project({ log: logPolicy, seen: { ...logPolicy, column: 'seen' } })
  await apply({ cwd: made.folder, now, policies: ['log'] })
  await restored(made)
  await db.run("insert into log values ('2021-01-01', '2020-01-01')")
  const [policy] = (await apply({ cwd: made.folder, now, policies: ['seen'] })).policies
  assert.is(policy?.archived, 1)
  assert.is(policy?.held, 1)
  assert.is(String(await db.value(`select ${db.kind === 'sqlite' ? 'at' : 'at::date::text'} from log`)), '2020-01-01')
  await db.run('alter table log rename column at to renamed')
  const [refused] = (await apply({ cwd: made.folder, now, policies: ['seen'] })).policies
  assert.is(refused?.status, 'refused')
  assert.match(refused?.error?.message ?? '', /are held by at, which (public\.)?log does not have any more/)
})

overDatabases(
  test,
  'a hold on a partitioned table is one on its partitions, and the other way round',
  async ({ db, project }) => {
    await db.run(`create table log (id int, at timestamptz not null, primary key (id, at)) partition by range (at);
      create table log_a partition of log for values from ('2020-01-01') to ('2021-01-01');
      insert into log values (1, '2020-02-01')`)
    const made = project({ log: logPolicy, part: { ...logPolicy, table: 'log_a' } })
    for (const [first, then] of [
      ['log', 'part'],
      ['part', 'log'],
    ] as const) {
      const [done] = (await apply({ cwd: made.folder, now, policies: [first] })).policies
      assert.is(done?.archived, 1)
      await restored(made, { file: done?.archives[0]?.name ?? '' })
      const [held] = (await apply({ cwd: made.folder, now, policies: [then] })).policies
      assert.is(held?.archived, 0, `${first}, then ${then}`)
      assert.is(held?.held, 1)
      await db.run('delete from retention_ledger_holds')
    }
  },
  ['postgres'],
)

overDatabases(test, 'a hold goes with a table that is renamed', async (scene) => {
  const made = await archived(scene)
  await restored(made)
  await scene.db.run('alter table log rename to renamed')
  made.policy('log', { ...logPolicy, table: 'renamed' })
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.archived, 0)
  assert.is(policy?.held, 3)
  assert.is((await status({ cwd: made.folder, now })).policies[0]?.holds.length, 1)
})

overDatabases(
  test,
  'a column that would replace rows in the way stops the restore instead',
  async ({ db, project }) => {
    await db.run(`create table log (id integer primary key autoincrement, at text, email text unique on conflict replace);
      insert into log (at, email) values ('2020-01-01', 'a@x')`)
    const made = project()
    await apply({ cwd: made.folder, now })
    await db.run("insert into log (at, email) values ('2026-06-14', 'a@x')")
    const before = await db.dump('log')
    const error = await restored(made).catch((reason: unknown) => reason)
    assert.match(String(error), /UNIQUE constraint failed: log\.email/)
    assert.equal(await db.dump('log'), before)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a sequence that this role may not look at is left, and told',
  async ({ db, project }) => {
    const role = new URL(db.address).pathname.slice(1)
    await db.run(`create role ${role} login password 'x'`)
    try {
      await db.run(`create table log (id bigint generated by default as identity primary key, at timestamptz);
        insert into log (at) select '2020-01-01' from generate_series(1, 3); select setval('log_id_seq', 1000);
        grant all on log to ${role}; grant create on schema public to ${role}; grant update on sequence log_id_seq to ${role}`)
      const made = project(undefined, { database: db.address.replace('postgres:password', `${role}:x`) })
      await apply({ cwd: made.folder, now })
      const report = await restored(made)
      assert.match(report.warnings.map(({ text }) => text).join(), /log_id_seq may be behind the restored values/)
      assert.is(Number(await db.value('select last_value from log_id_seq')), 1000)
    } finally {
      await db.run(`drop owned by ${role}; drop role ${role}`)
    }
  },
  ['postgres'],
)

overDatabases(test, 'a hold ends before the year 10000', async (scene) => {
  const made = await archived(scene)
  for (const hold of ['8000y', '1000000y', '99999999999d']) {
    await fails(scene, made, 'USAGE', /past the year 9999/, { hold })
  }
})

overDatabases(
  test,
  'keys with a NUL in them are told apart',
  async ({ db, project }) => {
    await db.run(
      "create table log (id text primary key not null, at text); insert into log values ('a' || char(0) || 'b', '2020-01-01'), ('a' || char(0) || 'c', '2020-01-01')",
    )
    const before = await db.dump('log')
    const made = project()
    await apply({ cwd: made.folder, now })
    assert.is((await restored(made)).restored, 2)
    assert.equal(await db.dump('log'), before)
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.held, 2)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'sequences that begin elsewhere than at 1, and were never used, stay there',
  async (scene) => {
    const { db } = scene
    await db.run(`create table log (id bigint generated by default as identity (start with 1000 minvalue 500) primary key, at timestamptz);
      insert into log values (1, '2020-01-01'), (2, '2020-01-01'), (4, '2026-06-14')`)
    const made = scene.project()
    await apply({ cwd: made.folder, now })
    await restored(made)
    await db.run("insert into log (at) values ('2026-06-14')")
    assert.is(Number(await db.value('select max(id) from log')), 1000)
  },
  ['postgres'],
)

test.run()
