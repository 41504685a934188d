/** retention erase: what matches is in no file any more, and every other row is where it was, byte for byte. */
import { execSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { withoutRecords } from '../src/archive/without-records.ts'
import { loadConfig } from '../src/config/project.ts'
import { openDatabase } from '../src/database/open.ts'
import { codeOfErase } from '../src/exit-codes.ts'
import {
  addHold,
  apply,
  erase,
  releaseHold,
  restore,
  status,
  verify,
  type EraseOptions,
  type EraseReport,
} from '../src/index.ts'
import { printErase } from '../src/print/erase.ts'
import { readArchive } from './support/archive.ts'
import { connectToSqlite, untilAlone, type TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { fails } from './support/fails.ts'
import { judge, ledgerEntries, tableRows, type RowText } from './support/judge.ts'
import { atPoints, type Plan } from './support/points.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('erase')

const cutoff = '2026-05-16T00:00:00Z'
const first = 'log_backup_20260516.csv'
const points = path.join(import.meta.dirname, 'support/points.ts')

/** Eight due rows in two archives of five and three; those of customer 4711 are 2, 3 and 7. One row's customer is not known. */
async function archived(
  { db, project }: Scene,
  policy: object = {},
): Promise<{ made: TestProject; rows: readonly RowText[] }> {
  await seedLog(db, [...minutesBefore(cutoff, 8), '2099-01-01T00:00:00Z'])
  await db.run('alter table log add column customer bigint')
  await db.run(
    'update log set customer = case when id in (2, 3, 7) then 4711 when id <> 5 then id end, body = \'a,"b"\' || id',
  )
  await db.run('update log set body = \'line\nbreak, "김철수"\' where id in (3, 4)')
  const rows = await tableRows(db, 'log')
  const made = project({ log: { ...logPolicy, batch: 5, concurrency: 1, ...policy } })
  const [report] = (await apply({ cwd: made.folder, now })).policies
  assert.is(report?.archived, 8, JSON.stringify(report))
  return { made, rows }
}

async function eraseIn({ folder }: TestProject, options: Partial<EraseOptions> = {}): Promise<EraseReport> {
  return erase({
    cwd: folder,
    now,
    policy: 'log',
    where: 'customer = 4711',
    reason: 'asked for',
    by: 'dpo',
    yes: true,
    ...options,
  })
}

/** How many rows went from each archive, how many are held, and what is left of it. */
function shape({ archives }: EraseReport): (string | number | null)[][] {
  return archives.map(({ name, erased, held, after }) => [name, erased, held, after])
}

function without(rows: readonly RowText[], ...idsGone: number[]): RowText[] {
  return rows.filter((row) => !idsGone.some((id) => row.includes(`["id","v${id}"]`)))
}

/** All that the ledger's tables hold, as text. */
async function ledgerText(db: TestDatabase): Promise<string> {
  const names =
    db.kind === 'sqlite'
      ? "select name from sqlite_schema where type = 'table' and name like 'retention_ledger%'"
      : "select relname from pg_class where relkind = 'r' and relname like 'retention_ledger%'"
  const texts: string[] = []
  for (const [name] of await db.rows(names)) {
    const rows = await db.rows(`select * from ${String(name)}`)
    texts.push(rows.map((row) => row.map(String).join('|')).join('\n'))
  }
  return texts.join('\n')
}

/** All that lies in a folder, with its content. */
function files(folder: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name)
    if (entry.isFile()) found.set(path.relative(folder, file), readFileSync(file))
  }
  return found
}

overDatabases(test, 'from the command line: told first, then done; what is left is as it was', async (scene) => {
  const { db } = scene
  const { made, rows } = await archived(scene)
  const before = { files: files(made.path('backups')), ledger: await ledgerText(db) }
  const told = await eraseIn(made, { yes: false })
  assert.match(printErase(told), /3 rows would be erased from 2 archives, of 2 looked at/)
  assert.match(printErase(told), /Nothing has been changed\. --yes does it/)
  assert.equal(files(made.path('backups')), before.files)
  assert.is(await ledgerText(db), before.ledger)

  await db.run('update log set customer = 4711')
  const words = ['erase', 'log', '--where', 'customer = 4711', '--reason', 'request 17', '--by', 'dpo']
  const done = await made.cli([...words, '--yes', '--json'])
  assert.is(done.code, 0, done.stderr)
  const report = done.json<EraseReport>()
  const { erasure, archives, ...rest } = report
  const table = db.kind === 'sqlite' ? 'log' : 'public.log'
  assert.equal(rest, {
    policy: 'log',
    table,
    reason: 'request 17',
    by: 'dpo',
    dryRun: false,
    checked: 2,
    erased: 3,
    held: 0,
    live: 1,
    removed: [],
    warnings: [],
    left: [],
  })
  assert.equal(archives[0], {
    name: first,
    location: made.path(`backups/${first}`),
    state: 'archived',
    after: 'log_backup_20260516_0003.csv',
    erased: 2,
    held: 0,
    files: [{ file: first, table, rows: 5, erased: 2, held: 0, references: false }],
    holds: [],
  })
  // Nothing of the person is anywhere: not what was asked for either.
  const everything = [done.stdout, await ledgerText(db), ...[...files(made.folder).values()].map(String)]
  assert.is(everything.join('').includes('4711'), false)
  const [record] = (await status({ cwd: made.folder, now })).erasures
  assert.is(record?.id, erasure)
  assert.equal(
    record?.files.map(({ file, rows: count, rowsErased, removedAt }) => [file, count, rowsErased, removedAt === null]),
    [
      [first, 5, 2, false],
      [`${first}.manifest.json`, null, null, false],
      ['log_backup_20260516_0002.csv', 3, 1, false],
      ['log_backup_20260516_0002.csv.manifest.json', null, null, false],
    ],
  )
  assert.ok(record?.files.every(({ storedSha256, storedSha256After }) => storedSha256 !== storedSha256After))

  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
  await db.run('update log set customer = id')
  await judge(db, 'log', made.path('backups'), without(rows, 2, 3, 7))
  await fails(
    restore({ cwd: made.folder, file: first, now }),
    'ARCHIVE_NOT_FOUND',
    /^Rows were erased from .*, and it is no more$/,
  )
  for (const { name } of await ledgerEntries(db)) await restore({ cwd: made.folder, file: name, now })
  assert.equal((await tableRows(db, 'log')).toSorted(), without(rows, 2, 3, 7).toSorted())
})

overDatabases(test, 'whatever is left keeps its bytes, and predicates see the types of then', async (scene) => {
  const { db, project } = scene
  const [number, data] = db.kind === 'sqlite' ? ['numeric', 'blob'] : ['numeric(12, 2)', 'bytea']
  await seedLog(db, minutesBefore(cutoff, 9))
  await db.run(`alter table log add column amount ${number}; alter table log add column data ${data}`)
  const bodies = ['plain', '', null, 'a,"b",\n\n"c"', '안녕 🙂\r\n', '"', '\ufeffmark', "it's", '\n']
  for (const [at, body] of bodies.entries())
    await db.run(
      db.kind === 'sqlite'
        ? 'update log set body = ?, amount = ? where id = ?'
        : 'update log set body = $1, amount = $2 where id = $3',
      [body, at * 1.5, at + 1],
    )
  const made = project(undefined, { archive: { to: './backups', durable: true, bom: db.kind === 'sqlite' } })
  await apply({ cwd: made.folder, now })
  const predicates: [string, number][] = [
    // Written as 1.50 and 1.5; as 10.50 and 10.5.
    ['amount = 1.5', 1],
    ['amount between 4 and 9.99 and amount <> 7.5', 3],
    // For the row that has none it is unknown, and so is not true.
    ["body <> 'plain' and length(body) < 2", 3],
    ['body is null', 1],
    ['id in (select 8 union select 9) -- or all', 2],
  ]
  for (const [where, rows] of predicates) assert.is((await eraseIn(made, { where, yes: false })).erased, rows, where)
  const before = splitRecords(made.read(`backups/${first}`))
  const last = (await eraseIn(made, { where: 'id in (4, 5, 9) or "log"."id" = (1)' })).archives[0]?.after ?? ''
  assert.is(made.read(`backups/${last}`), before.filter((_, line) => ![1, 4, 5, 9].includes(line)).join(''))
  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
})

/** The records of a CSV with their line ends, the header first: a line end inside quotes ends none. */
function splitRecords(text: string): string[] {
  const records: string[] = []
  let record = ''
  for (const piece of text.split(/(?<=\n)/)) {
    record += piece
    if (record.split('"').length % 2 === 0) continue
    records.push(record)
    record = ''
  }
  return record === '' ? records : [...records, record]
}

test('records are left out of a CSV wherever its pieces end', async () => {
  const field = fc.oneof(
    fc.constantFrom('', 'x', '1.50', '""', '"a,""b""\n\n"', '"\n"', '"안녕\r\n🙂"'),
    fc.string().map((text) => `"${text.replaceAll('"', '""')}"`),
  )
  const record = fc.array(field, { minLength: 1, maxLength: 3 }).map((fields) => `${fields.join(',')}\n`)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(record, fc.boolean()), { maxLength: 12 }),
      fc.boolean(),
      fc.boolean(),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
      async (records, hasMark, endsOpen, sizes) => {
        const header = `${hasMark ? '\ufeff' : ''}"id","b\n"\n`
        const texts = records.map(([text], at) =>
          endsOpen && at === records.length - 1 ? text.replace(/\n$/, '') : text,
        )
        const bytes = Buffer.from(header + texts.join(''))
        const pieces = async function* (): AsyncGenerator<Buffer> {
          for (let at = 0, n = 0; at < bytes.length; n += 1) {
            const size = sizes[n % sizes.length] ?? 1
            yield bytes.subarray(at, at + size)
            at += size
          }
        }
        const numbers = Uint32Array.from(records.flatMap(([, goes], at) => (goes ? [at + 1] : [])))
        const left: Buffer[] = []
        for await (const piece of withoutRecords(pieces(), numbers)) left.push(Buffer.from(piece))
        const expected = header + texts.filter((_, at) => records[at]?.[1] === false).join('')
        assert.is(Buffer.concat(left).toString(), expected)
      },
    ),
    { numRuns: timesOf(100) },
  )
})

overDatabases(test, 'nothing left of an archive; a restored one; and one after another', async (scene) => {
  const { db } = scene
  const { made, rows } = await archived(scene)
  // What was restored is in its file still.
  await restore({ cwd: made.folder, file: first, now })
  const report = await eraseIn(made, { where: 'id in (2, 6, 7, 8)' })
  assert.equal(shape(report), [
    [first, 1, 0, 'log_backup_20260516_0003.csv'],
    ['log_backup_20260516_0002.csv', 3, 0, null],
  ])
  assert.is(report.live, 1)
  assert.is(report.archives[0]?.state, 'restored')
  assert.equal(made.list(), ['log_backup_20260516_0003.csv', 'log_backup_20260516_0003.csv.manifest.json'])
  assert.equal((await ledgerEntries(db)).map(({ name, state }) => `${name} ${state}`).toSorted(), [
    'log_backup_20260516_0002.csv pruned',
    'log_backup_20260516_0003.csv restored',
  ])
  // The restored rows are held as before, and go with the table.
  assert.is((await status({ cwd: made.folder, now })).policies[0]?.holds[0]?.archive, 'log_backup_20260516_0003.csv')
  await judge(db, 'log', made.path('backups'), without(rows, 6, 7, 8))
  await fails(restore({ cwd: made.folder, file: 'log_backup_20260516_0002.csv', now }), 'ARCHIVE_NOT_FOUND', /erased/)
  assert.equal(shape(await eraseIn(made, { where: 'id = 3' })).at(0), [
    'log_backup_20260516_0003.csv',
    1,
    0,
    'log_backup_20260516_0004.csv',
  ])
  const gone = await restore({ cwd: made.folder, file: first, now }).catch(
    (error: unknown) => error as { hint: string },
  )
  assert.match((gone as { hint: string }).hint, /0004\.csv/)
  assert.equal((await verify({ cwd: made.folder })).findings, [])
  // A restored archive that is gone is nobody's only copy.
  rmSync(made.path('backups/log_backup_20260516_0004.csv'))
  const { warnings, checked } = await eraseIn(made)
  assert.is(checked, 0)
  assert.match(warnings[0]?.text ?? '', /0004\.csv was restored, and is not there whole any more/)
})

overDatabases(test, 'legal holds: on an archive, on a table, on rows, and one that comes meanwhile', async (scene) => {
  const { db } = scene
  const { made, rows } = await archived(scene)
  const hold = async (options: object): Promise<string> =>
    (await addHold({ cwd: made.folder, now, reason: 'Smith v. Acme', ...options })).hold.id
  const whole = await hold({ archive: first })
  const { archives: looked } = await eraseIn(made, { yes: false })
  assert.equal(
    looked.map(({ erased, held, holds }) => [
      erased,
      held,
      holds.map(({ id, reason, rows: count }) => [id, reason, count]),
    ]),
    [
      [0, 2, [[whole, 'Smith v. Acme', 2]]],
      [1, 0, []],
    ],
  )
  await releaseHold({ cwd: made.folder, id: whole, now })
  const table = await hold({ on: 'log' })
  const kept = await eraseIn(made)
  assert.is(codeOfErase(kept), 4)
  assert.match(printErase(kept), new RegExp(`legal hold ${table.slice(0, 8)} \\(Smith v\\. Acme\\): 2 rows`))
  await judge(db, 'log', made.path('backups'), rows)
  await releaseHold({ cwd: made.folder, id: table, now })

  // On row 3, and on 5, of which nobody knows whose it is.
  const part = await hold({ on: 'log', where: 'customer = 4711 and id between 3 and 6' })
  const comes = { done: false, id: '' }
  const meanwhile = async (): Promise<void> => {
    if (comes.done) return
    comes.done = true
    comes.id = await hold({ archive: 'log_backup_20260516_0002.csv' })
  }
  const { result } = await atPoints([{ point: 'link manifest', nth: 2, meanwhile }], () =>
    eraseIn(made, { where: 'customer = 4711 or customer is null' }),
  )
  assert.equal(shape(result), [
    [first, 1, 2, 'log_backup_20260516_0003.csv'],
    ['log_backup_20260516_0002.csv', 0, 1, null],
  ])
  assert.equal(
    result.archives.map(({ holds }) => holds.map(({ id, rows: count }) => [id, count])),
    [[[part, 2]], [[comes.id, 1]]],
  )
  assert.ok(comes.done)
  assert.equal(
    made.list().filter((name) => !name.endsWith('.json')),
    ['log_backup_20260516_0002.csv', 'log_backup_20260516_0003.csv'],
  )
  await judge(db, 'log', made.path('backups'), without(rows, 2))
  await releaseHold({ cwd: made.folder, id: comes.id, now })
  // A hold that cannot be asked of what was archived is on all of it.
  await db.run('alter table log add column matter text')
  await hold({ on: 'log', where: "matter = 'x'" })
  const { held, warnings } = await eraseIn(made)
  assert.is(held, 2)
  assert.match(warnings[0]?.text ?? '', /cannot be asked of them, and so are on all/)
})

overDatabases(
  test,
  'what refers to an erased row goes too; what a held one refers to stays',
  async ({ db, project }) => {
    const [key, time] =
      db.kind === 'sqlite' ? ['integer primary key autoincrement', 'text'] : ['bigint primary key', 'timestamptz']
    await db.run(`create table parent (id ${key}, at ${time}, who text);
    create table child (id ${key}, parent_id bigint references parent (id) on delete cascade, up bigint references child (id), who text, unique (id, who));
    create table grandchild (id ${key}, child_id bigint, child_who text, foreign key (child_id, child_who) references child (id, who));
    create table bill (id ${key}, parent_id bigint references parent (id) on delete set null);
    insert into parent values (1, '2020-01-01', 'kim'), (2, '2020-01-01', 'lee'), (3, '2020-01-01', 'kim'), (4, '2020-01-02', 'lee');
    insert into child values (10, 1, null, 'a'), (11, 2, 10, 'b'), (12, 2, null, 'c'), (13, 3, null, 'd'), (14, 4, null, 'e');
    insert into grandchild values (100, 10, 'a'), (101, 11, 'b'), (102, 12, 'c'), (103, 13, 'd');
    insert into bill values (1000, 1), (1001, 2), (1002, 3)`)
    const made = project({ parent: { table: 'parent', column: 'at', days: 30, children: 'archive' } })
    await apply({ cwd: made.folder, now })
    assert.equal(await db.rows('select * from child'), [])
    const held = await addHold({ cwd: made.folder, now, on: 'grandchild', where: 'id = 103', reason: 'x' })
    const report = await eraseIn(made, { policy: 'parent', where: "who = 'kim'" })
    const after = 'parent_backup_20260516_0002.csv'
    assert.is(report.archives[0]?.after, after)
    assert.equal(
      report.archives[0]?.files.map(({ table, rows, erased, held: kept, references }) => [
        table.replace('public.', ''),
        rows,
        erased,
        kept,
        references,
      ]),
      [
        ['parent', 4, 1, 1, false],
        ['child', 5, 2, 1, false],
        ['grandchild', 4, 2, 1, false],
        ['bill', 3, 1, 1, true],
      ],
    )
    assert.equal(
      made.list().map((name) => name.replace('parent_backup_20260516_0002.', '')),
      ['bill.links.csv', 'child.csv', 'csv', 'csv.manifest.json', 'grandchild.csv'],
    )
    assert.equal(
      readArchive(made.folder, 'parent_backup_20260516_0002.child.csv').rows.map(([id]) => id),
      ['12', '13', '14'],
    )
    assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
    await releaseHold({ cwd: made.folder, id: held.hold.id, now })

    // Starting from a child: its own rows go, and the parent stays.
    const child = await eraseIn(made, { policy: 'parent', table: 'child', where: "who = 'd'" })
    assert.equal(
      child.archives[0]?.files.map(({ erased }) => erased),
      [0, 1, 1, 0],
    )
    const last = child.archives[0]?.after ?? ''
    const restored = await restore({ cwd: made.folder, file: last, now })
    assert.is(restored.restored, 3)
    const ids = async (table: string): Promise<number[]> =>
      (await db.rows(`select id from ${table} order by id`)).map(([id]) => Number(id))
    assert.equal([await ids('parent'), await ids('child'), await ids('grandchild')], [[2, 3, 4], [12, 14], [102]])
    assert.equal(
      (await db.rows('select parent_id from bill order by id')).map(([id]) => id && Number(id)),
      [null, 2, 3],
    )
    // A table whose rows have all gone has no file any more.
    const all = await eraseIn(made, { policy: 'parent', table: 'grandchild', where: 'true' })
    assert.equal(
      made.list().filter((name) => name.includes('grandchild')),
      [],
    )
    assert.is(all.archives[0]?.files.length, 4)
    await db.run('create table nobody (id int)')
    const none = await eraseIn(made, { policy: 'parent', table: 'nobody', where: 'true' })
    assert.match(none.warnings[0]?.text ?? '', /No archive of policy "parent" has rows of nobody/)
    await fails(eraseIn(made, { policy: 'parent', table: 'bil', where: 'true' }), 'USAGE', /there is no such table/)
  },
)

overDatabases(
  test,
  'predicates and foreign keys compare as the columns did, and can name nothing of ours',
  async ({ db, project }) => {
    const isSqlite = db.kind === 'sqlite'
    const [key, time, ci, plain] = isSqlite
      ? ['integer primary key autoincrement', 'text', 'collate nocase', 'collate rtrim']
      : ['bigint primary key', 'timestamptz', 'collate "Any Case"', 'collate "C"']
    if (!isSqlite)
      await db.run(`create collation "Any Case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
    // On SQLite the child compares otherwise, on Postgres it may not: there another pair of columns does.
    const [code, zip] = isSqlite ? ['', plain] : [ci, '']
    await db.run(`create table parent (id ${key}, at ${time}, email text ${ci}, code text ${ci}, zip text ${plain}, unique (code, zip));
      create table child (id varchar(9) primary key not null, code text ${code}, zip text ${zip}, foreign key (code, zip) references parent (code, zip));
      insert into parent values (10, '2020-01-01', 'Bob@x.org', 'AbC', '1'), (2, '2020-01-02', 'ann@x.org', 'DEF', '1'), (5, '2020-01-03', 'Cid@x.org', 'g', '1');
      insert into child values ('a', '${isSqlite ? 'abc' : 'ABC'}', '1'), ('b', 'def', '1')`)
    const made = project({ parent: { table: 'parent', column: 'at', days: 30, children: 'archive' } })
    const [report] = (await apply({ cwd: made.folder, now })).policies
    assert.is(report?.archived, 3, report?.error?.message)
    const erased = async (where: string, yes = false): Promise<number[][]> =>
      (await eraseIn(made, { policy: 'parent', where, yes })).archives.flatMap((archive) =>
        archive.files.map(({ erased: went, held }) => [went, held]),
      )
    const hold = async (on: string, where: string): Promise<string> =>
      (await addHold({ cwd: made.folder, now, on, where, reason: 'x' })).hold.id

    assert.equal(await erased("email in ('ANN@x.org', 'cid@X.org')"), [
      [2, 0],
      [1, 0],
    ])
    const bob = await hold('parent', "email = 'BOB@x.org'")
    assert.equal(await erased('id in (2, 10)'), [
      [1, 1],
      [1, 1],
    ])
    await releaseHold({ cwd: made.folder, id: bob, now })
    // A child that stays keeps its parent.
    const child = await hold('child', "id = 'a'")
    assert.equal(await erased('true'), [
      [2, 1],
      [1, 1],
    ])
    await releaseHold({ cwd: made.folder, id: child, now })

    for (const where of ['retention_n = 1', 'n = 1', 'c0 is not null'])
      await fails(erased(where), 'USAGE', /cannot be used on rows of/)
    if (isSqlite) {
      for (const name of ['rowid', 'parent.oid', '"_rowid_"'])
        assert.equal(
          [await erased(`${name} = 1`), await erased(`${name} = 10`)],
          [
            [],
            [
              [1, 0],
              [1, 0],
            ],
          ],
        )
      // The child's rows had numbers that are not in its archive.
      const numbered = await hold('child', 'rowid = 99')
      const kept = await eraseIn(made, { policy: 'parent', where: 'id = 2', yes: false })
      assert.equal([kept.erased, kept.held], [0, 2])
      assert.match(kept.warnings[0]?.text ?? '', /cannot be asked of them, and so are on all: .*no such column: rowid/)
      await releaseHold({ cwd: made.folder, id: numbered, now })
    } else {
      await fails(erased("ctid = '(0,1)'"), 'USAGE', /cannot be used on rows of/)
      assert.equal(await erased("parent::text like '(10,%,1)'"), [
        [1, 0],
        [1, 0],
      ])
    }

    assert.equal(await erased("email = 'BOB@X.ORG'", true), [
      [1, 0],
      [1, 0],
    ])
    const rest = await restore({ cwd: made.folder, file: 'parent_backup_20260516_0002.csv', now })
    assert.is(rest.restored, 2)
    assert.equal(await db.rows('select id from child'), [['b']])
  },
)

overDatabases(
  test,
  'restored by the collations of then; by one that is gone, nothing is asked',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    if (db.kind === 'postgres')
      await db.run(`create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
    const collation = db.kind === 'sqlite' ? 'nocase' : 'any_case'
    await db.run(`alter table log add column email text collate ${collation}`)
    await db.run("update log set email = 'Ann' || id")
    const made = project()
    await apply({ cwd: made.folder, now })
    const chosen = await restore({ cwd: made.folder, file: first, now, where: "email = 'ANN2'" })
    assert.equal([chosen.restored, (await db.rows('select email from log')).flat()], [1, ['Ann2']])
    if (db.kind === 'sqlite') {
      await fails(restore({ cwd: made.folder, file: first, now, where: 'retention_n = 1' }), 'USAGE', /no such column/)
      const none = await restore({ cwd: made.folder, file: first, now, where: 'rowid = 4', dryRun: true })
      assert.is(none.selected, 0)
      return
    }
    await db.run('alter table log alter column email type text collate "default"; drop collation any_case')
    const gone = /column "email" had the collation public\.any_case, which is not there/
    await fails(eraseIn(made, { where: 'id = 1' }), 'USAGE', gone)
    await fails(restore({ cwd: made.folder, file: first, now, where: 'id = 1' }), 'USAGE', gone)
  },
)

overDatabases(test, 'what stands against it: nothing is touched then', async (scene) => {
  const { db } = scene
  const { made } = await archived(scene)
  const before = files(made.path('backups'))
  const untouched = async (): Promise<void> => {
    assert.equal(files(made.path('backups')), before)
    assert.is(Number(await db.value('select count(*) from retention_ledger_erasures')), 0)
  }
  await fails(
    eraseIn(made, { where: 'nobody = 1' }),
    'USAGE',
    /"where" cannot be used on rows of log_backup_20260516\.csv/,
  )
  await fails(eraseIn(made, { where: 'customer = 1) or (1 = 1' }), 'USAGE', /cannot be used/)
  await fails(eraseIn(made, { where: 'customer' }), 'USAGE', /is no condition|must be type boolean/)
  if (db.kind === 'postgres') {
    const { error } = (await eraseIn(made, { where: "id = 'kim@example.org'" }).catch((caught: unknown) => ({
      error: String(caught),
    }))) as { error?: string }
    assert.match(error ?? '', /cannot be used on rows of .*: a value in it, or in a row, is not of the type/)
    assert.not.match(error ?? '', /kim/)
  }
  await fails(eraseIn(made, { where: ' ' }), 'USAGE', /"where" is not a text, or empty/)
  await fails(eraseIn(made, { policy: 'lag' }), 'POLICY_UNKNOWN', /"lag"/)
  await fails(eraseIn(made, { reason: '' }), 'USAGE', /"reason" is not a text, or empty/)
  const database = await openDatabase(await loadConfig({ cwd: made.folder }), 'write')
  const lock = await database.lock('retention_ledger log')
  await fails(eraseIn(made), 'POLICY_LOCKED', /holds policy "log"/)
  assert.is((await eraseIn(made, { yes: false })).erased, 3)
  await lock?.release()
  await database.close()
  await untouched()
  // The last archive is damaged: the first stays as well.
  const last = made.path('backups/log_backup_20260516_0002.csv')
  const bytes = readFileSync(last)
  writeFileSync(last, bytes.toString().replace('4711', '4712'))
  await fails(eraseIn(made), 'ARCHIVE_CHANGED', /is not what was stored/)
  writeFileSync(last, `${bytes.toString()}"`)
  await fails(eraseIn(made), 'ARCHIVE_CHANGED', /is not what was stored/)
  rmSync(last)
  await fails(eraseIn(made), 'ARCHIVE_NOT_FOUND', /There is no file/)
  writeFileSync(last, bytes)
  renameSync(`${last}.manifest.json`, made.path('away'))
  await fails(eraseIn(made), 'MANIFEST_INVALID', /has no manifest/)
  renameSync(made.path('away'), `${last}.manifest.json`)
  await untouched()

  // Neither the table nor the policy is needed. Files that nobody has looked into are told.
  await db.run('drop table log')
  rmSync(made.path('policies/log.ts'))
  mkdirSync(made.path('backups/set-aside'))
  made.write('backups/log_backup_20200101.csv', 'orphan')
  made.write('backups/set-aside/log_backup_20200101.csv.1', 'aside')
  const report = await eraseIn(made)
  assert.equal([report.erased, report.live], [3, null])
  assert.equal(
    report.warnings.map(({ text }) => text.replaceAll(`${made.folder}/`, '')),
    [
      'Files that the ledger does not know may have such rows, and were not looked into: backups/log_backup_20200101.csv',
      'Files that were set aside may have such rows, and were not looked into: backups/set-aside/log_backup_20200101.csv.1',
    ],
  )
})

overDatabases(
  test,
  'a disk that fails: what was begun is taken back, or made an end of the next time',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    const before = files(made.path('backups'))
    const failing = async (point: string): Promise<EraseReport> =>
      (await atPoints([{ point, act: 'fail', with: 'EIO' }], () => eraseIn(made))).result
    for (const point of ['write csv.tmp', 'link csv', 'link manifest', 'insert erasure']) {
      const report = await failing(point)
      assert.equal([report.erased, codeOfErase(report)], [0, 1], point)
      assert.match(report.archives[0]?.error?.message ?? '', /EIO/)
      assert.equal(files(made.path('backups')), before, point)
    }
    const report = await failing('unlink csv')
    assert.equal([report.erased, codeOfErase(report)], [2, 1])
    assert.match(
      report.archives[1]?.error?.message ?? '',
      /^Nothing was erased from log_backup_20260516_0002\.csv, after/,
    )
    assert.match(
      report.archives[0]?.error?.message ?? '',
      /Rows were erased from .*, but its files at .* could not be removed/,
    )
    // Somebody has put another file in its place meanwhile: that is not ours to remove.
    const bytes = readFileSync(made.path(`backups/${first}`))
    made.write(`backups/${first}`, 'another')
    const left = await eraseIn(made)
    assert.match(left.left[0]?.message ?? '', /is not the file that rows were erased from, and so is left/)
    assert.equal([left.erased, codeOfErase(left)], [1, 1])
    writeFileSync(made.path(`backups/${first}`), bytes)
    assert.equal((await eraseIn(made)).removed, [made.path(`backups/${first}`)])
    await judge(db, 'log', made.path('backups'), without(rows, 2, 3, 7))
    // One that is put back later is told, and neither restored nor removed.
    writeFileSync(made.path(`backups/${first}`), bytes)
    const { findings, repairs } = await verify({ cwd: made.folder, repair: true, yes: true })
    assert.equal([findings.map(({ kind }) => kind), repairs.map(({ action }) => action)], [['erased'], ['leave']])
    const [told] = (await eraseIn(made)).warnings
    assert.is(told?.text.endsWith(`were not looked into: ${made.path(`backups/${first}`)}`), true, told?.text)
  },
)

overDatabases(
  test,
  'a place that is not the one it was: what could not be removed there is not taken for gone',
  async (scene) => {
    const { db } = scene
    const { made } = await archived(scene)
    await db.run("create table other as select * from log; update other set at = '2020-01-01T00:00:00Z'")
    made.policy('other', { ...logPolicy, table: 'other' })
    assert.is((await apply({ cwd: made.folder, now, policies: ['other'] })).policies[0]?.status, 'applied')
    const plan: Plan[] = [{ point: 'unlink csv', act: 'fail', with: 'EIO' }]
    const { result } = await atPoints(plan, () => eraseIn(made, { where: 'true' }))
    assert.is(result.archives[0]?.after, null)
    assert.is((await eraseIn(made, { where: 'id = 0', yes: false })).removed.length, 1)
    // Whatever is wrong with another archive, and whoever asks: what is left is found, and goes.
    const [leftOver] = (await verify({ cwd: made.folder })).findings
    assert.equal([leftOver?.kind, leftOver?.name], ['erased', first])
    const second = path.join(made.path('backups'), 'log_backup_20260516_0002.csv')
    const bytes = readFileSync(second)
    const copy = readFileSync(made.path(`backups/${first}`), 'utf8')
    writeFileSync(second, 'damaged')
    await fails(eraseIn(made, { where: 'id = 0' }), 'ARCHIVE_CHANGED', /0002\.csv/)
    writeFileSync(second, bytes)
    assert.is(made.list().includes(first), false)
    // A copy of it, in a folder that is the policy's now, is not adopted.
    made.policy('log', { ...logPolicy, archive: { to: './new', durable: true } })
    made.write(`new/${first}`, copy)
    const { repairs } = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
    assert.equal([repairs.length, repairs[0]?.action], [1, 'leave'])
    assert.match(repairs[0]?.text ?? '', /^rows were erased from it, and it holds them still/)
    rmSync(made.path('new'), { recursive: true })
    made.policy('log', logPolicy)
    // The second archive goes as well, so that none of the policy's own is left to be missed.
    await atPoints(plan, () => eraseIn(made, { where: 'true' }))
    renameSync(made.path('backups'), made.path('elsewhere'))
    mkdirSync(made.path('backups'))
    const unseen = await eraseIn(made, { where: 'true' })
    assert.match(
      unseen.left[0]?.message ?? '',
      /^Whether the files .* are gone cannot be told: nothing shows that \.\/backups is the place/,
    )
    assert.is(codeOfErase(unseen), 1)
    rmSync(made.path('backups'), { recursive: true })
    renameSync(made.path('elsewhere'), made.path('backups'))
    // As another machine sees it, with a folder of that name and archives of its own in it.
    const host = String(await db.value('select max(host) from retention_ledger_erased_files'))
    await db.run("update retention_ledger_erased_files set host = 'another'")
    renameSync(second, made.path('elsewhere.csv'))
    assert.match((await eraseIn(made, { where: 'true' })).left[0]?.message ?? '', /nothing shows that/)
    const asked = (yes: boolean): Promise<unknown[]> =>
      verify({ cwd: made.folder, repair: true, yes: true, decide: async () => yes }).then((report) =>
        report.repairs.map(({ name, action, done }) => [name, action, done]),
      )
    assert.equal(await asked(false), [[path.basename(second), 'forget', false]])
    renameSync(made.path('elsewhere.csv'), second)
    await db.run(`update retention_ledger_erased_files set host = '${host}'`)
    const done = await eraseIn(made, { where: 'true' })
    assert.equal([done.left, done.removed.length], [[], 1])
    await db.run("update retention_ledger_erased_files set host = 'another', removed_at = null")
    assert.is((await asked(true)).length, 2)
    assert.equal(await asked(true), [])
    assert.equal(
      made.list().filter((name) => name.startsWith('log_')),
      [],
    )
  },
)

overDatabases(
  test,
  'what redaction has archived: the old values of a row go, and it stays redacted',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project({ log: { ...logPolicy, action: 'redact', set: { body: null } } })
    await apply({ cwd: made.folder, now })
    const { archives, live } = await eraseIn(made, { where: "body = 'text 2'" })
    assert.equal([archives[0]?.erased, live], [1, 0])
    assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
    await restore({ cwd: made.folder, file: archives[0]?.after ?? '', now })
    assert.equal(
      (await db.rows('select body from log order by id')).map(([body]) => body),
      ['text 1', null, 'text 3'],
    )
  },
)

overDatabases(
  test,
  'sealed archives: refused without the key, or a way to seal the rest; else the rest is sealed',
  async (scene) => {
    const { db } = scene
    process.env['ERASE_TEST_KEY'] = 'a long enough password'
    try {
      const sealed = { to: './backups', durable: true, encrypt: { zip: { password: { env: 'ERASE_TEST_KEY' } } } }
      const { made, rows } = await archived(scene, { archive: sealed })
      const before = files(made.path('backups'))
      delete process.env['ERASE_TEST_KEY']
      await fails(eraseIn(made), 'KEY_MISSING', /ERASE_TEST_KEY/)
      process.env['ERASE_TEST_KEY'] = 'another password, as long'
      await fails(eraseIn(made), 'KEY_WRONG', /log_backup_20260516\.csv\.zip/)
      process.env['ERASE_TEST_KEY'] = 'a long enough password'
      made.configure({ database: db.address, archive: sealed })
      made.policy('log', { ...logPolicy, archive: { to: './backups', durable: true, encrypt: false } })
      await fails(eraseIn(made), 'REFUSED', /is sealed \(zip\), and what is left of it would not be/)
      assert.equal(files(made.path('backups')), before)
      made.policy('log', { ...logPolicy, archive: sealed })
      const { archives } = await eraseIn(made)
      assert.is(archives[0]?.after, 'log_backup_20260516_0003.csv')
      assert.equal(
        made.list().filter((name) => !name.endsWith('.json')),
        ['log_backup_20260516_0003.csv.zip', 'log_backup_20260516_0004.csv.zip'],
      )
      assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
      for (const { name } of await ledgerEntries(db)) await restore({ cwd: made.folder, file: name, now })
      assert.equal((await tableRows(db, 'log')).toSorted(), without(rows, 2, 3, 7).toSorted())
    } finally {
      delete process.env['ERASE_TEST_KEY']
    }
  },
  ['sqlite'],
)

overDatabases(
  test,
  'archives of other columns: those that can be asked are, and the others are told',
  async (scene) => {
    const { db } = scene
    const { made } = await archived(scene)
    await db.run(
      "alter table log drop column customer; insert into log (at, body) values ('2020-01-01T00:00:00Z', 'x')",
    )
    await apply({ cwd: made.folder, now })
    const report = await eraseIn(made)
    assert.is(codeOfErase(report), 1)
    const { archives, erased } = report
    assert.is(erased, 3)
    assert.equal(
      archives.map(({ error }) => error?.code),
      [undefined, undefined, 'USAGE'],
    )
  },
)

/** Whatever an erasure was cut off at: the next brings it to its end, and a repair brings nothing back. */
async function afterKill(db: TestDatabase, made: TestProject, rows: readonly RowText[], how: string): Promise<void> {
  const folder = made.path('backups')
  const names = new Set((await ledgerEntries(db)).flatMap(({ name, state }) => (state === 'archived' ? [name] : [])))
  const isOver = (archive: string): boolean => !names.has(archive)
  // The rows of an archive that the ledger has gone over from are erased, whatever files are there.
  const gone = [...(isOver(first) ? [2, 3] : []), ...(isOver('log_backup_20260516_0002.csv') ? [7] : [])]
  await judge(db, 'log', folder, without(rows, ...gone))
  if (how === 'repair') {
    const seen = await verify({ cwd: made.folder })
    const isPending = seen.findings.some(({ kind }) => kind === 'erased')
    if (isPending) {
      const pending = seen.findings.filter(({ kind }) => kind === 'erased').map(({ name }) => name)
      const told = await eraseIn(made, { yes: false, where: '1 = 0' })
      assert.equal(told.removed.map((file) => path.basename(file)).toSorted(), pending.toSorted())
      await fails(
        restore({ cwd: made.folder, file: made.path(`backups/${first}`), now }),
        'ARCHIVE_NOT_FOUND',
        /erased/,
      )
    }
    const { findings, repairs } = await verify({ cwd: made.folder, repair: true, yes: true })
    assert.equal(findings, [])
    assert.ok(
      repairs.every(({ action, done }) => done && ['set-aside', 'remove'].includes(action)),
      JSON.stringify(repairs),
    )
    const left = [...files(folder)].filter(([, bytes]) => bytes.includes('4711'))
    assert.is(left.length, 2 - Number(gone.includes(2)) - Number(gone.includes(7)), left.map(([name]) => name).join())
    await judge(db, 'log', folder, without(rows, ...gone))
  }
  const report = await eraseIn(made)
  assert.is(report.erased, 3 - gone.length)
  await judge(db, 'log', folder, without(rows, 2, 3, 7))
  const left = [...files(folder)].filter(([, bytes]) => bytes.includes('4711'))
  assert.equal(left, [])
  assert.equal(
    (await verify({ cwd: made.folder })).findings.filter(({ kind }) => kind !== 'orphan'),
    [],
  )
  for (const { name, state } of await ledgerEntries(db))
    if (state === 'archived') await restore({ cwd: made.folder, file: name, now })
  assert.equal((await tableRows(db, 'log')).toSorted(), without(rows, 2, 3, 7).toSorted())
}

overDatabases(
  test,
  'cut off anywhere: as it is on the disk before each call',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    const file = db.address.replace('sqlite:', '')
    const kept = mkdtempSync(path.join(tmpdir(), 'retention-states-'))
    try {
      const copy = mkdtempSync(path.join(kept, 'whole-'))
      const save = (to: string): string =>
        `mkdir -p ${to} && cp -a ${path.dirname(file)} ${to}/db && cp -a ${made.path('backups')} ${to}/backups`
      execSync(save(copy))
      const { points: passed } = await atPoints([], () => eraseIn(made))
      // Again from the start, with a copy made before each call.
      const put = (): void => {
        for (const [from, to] of [
          [`${copy}/db`, path.dirname(file)],
          [`${copy}/backups`, made.path('backups')],
        ] as const) {
          rmSync(to, { recursive: true })
          cpSync(from, to, { recursive: true })
        }
      }
      const counts = new Map<string, number>()
      // With the second archive it is the same again.
      const firstEnd = passed.indexOf('commit removal') + 1
      const plans = passed.flatMap((point, at): Plan[] => {
        const nth = (counts.get(point) ?? 0) + 1
        counts.set(point, nth)
        return at > firstEnd || /^(stage|read|open|fsync|write|close)/.test(point)
          ? []
          : [{ point, nth, act: 'run', with: save(`${kept}/${at}`) }]
      })
      put()
      await atPoints(plans, () => eraseIn(made))
      execSync(save(`${kept}/end`))
      renameSync(made.path('backups'), made.path('elsewhere'))
      const states = new Set<string>()
      for (const name of readdirSync(kept)) {
        if (name.startsWith('whole')) continue
        const hash = createHash('sha256')
        for (const [each, bytes] of files(path.join(kept, name)))
          hash.update(each.replace(/[0-9a-f]{12}/, '')).update(each.startsWith('db') ? bytes : '')
        const state = hash.digest('hex')
        if (states.has(state)) continue
        states.add(state)
        for (const how of states.size % 2 === 0 ? ['erase', 'repair'] : ['repair']) {
          const other = scene.project(
            { log: { ...logPolicy, batch: 5, concurrency: 1 } },
            { database: `sqlite:${kept}/${name}/db-${how}/test.db` },
          )
          cpSync(path.join(kept, name, 'db'), path.join(kept, name, `db-${how}`), { recursive: true })
          cpSync(path.join(kept, name, 'backups'), other.path('backups'), { recursive: true })
          const copied = connectToSqlite(`${kept}/${name}/db-${how}/test.db`)
          try {
            await afterKill(copied, other, rows, how)
          } catch (error) {
            throw new Error(`${how} before ${passed[Number(name)] ?? 'the end'} (${name}): ${String(error)}`, {
              cause: error,
            })
          } finally {
            await copied.drop()
          }
        }
      }
      assert.ok(states.size >= 10, `${states.size} states`)
    } finally {
      rmSync(kept, { recursive: true })
    }
  },
  ['sqlite'],
)

for (const plan of [{ point: 'commit erasure', phase: 'after', nth: 2 }, { point: 'unlink csv' }] as const) {
  overDatabases(
    test,
    `killed ${'phase' in plan ? plan.phase : 'before'} ${plan.point}`,
    async (scene) => {
      const { db } = scene
      const { made, rows } = await archived(scene)
      const { signal, stderr } = await made.cli(
        ['erase', 'log', '--where', 'customer = 4711', '--reason', 'x', '--yes'],
        { node: ['--import', points], env: { RETENTION_WATCH: db.kind, RETENTION_POINTS: JSON.stringify([plan]) } },
      )
      assert.is(signal, 'SIGKILL', stderr)
      await untilAlone(db)
      await afterKill(db, made, rows, plan.point.startsWith('commit') ? 'erase' : 'repair')
    },
    ['postgres'],
  )
}

test.run()
