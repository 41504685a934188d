/** Children through foreign keys: what hangs on a row goes along with it, and comes back with it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan, restore, status, verify, type PolicyInput } from '../src/index.ts'
import { connectTo, type TestDatabase } from './support/database.ts'
import { readArchive } from './support/archive.ts'
import type { TestProject } from './support/project.ts'
import { now, overDatabases, type Scene } from './support/scene.ts'

const test = suite('children')

const old = '2020-01-01T00:00:00Z'
const young = '2026-06-10T00:00:00Z'
const policy: PolicyInput = { table: 'parent', column: 'at', days: 30, children: 'archive' }

/** SQL for either database: `KEY` is a key whose numbers are not used again, `TIME` a time. */
function ddl(db: TestDatabase, text: string): string {
  const [key, time] = db.kind === 'sqlite' ? ['integer primary key autoincrement', 'text'] : ['bigint primary key', 'timestamptz']
  return text.replaceAll('KEY', key).replaceAll('TIME', time)
}

async function applyOnce(made: TestProject): Promise<NonNullable<Awaited<ReturnType<typeof apply>>['policies'][0]>> {
  const [report] = (await apply({ cwd: made.folder, now })).policies
  if (report === undefined) throw new Error('no policy was applied')
  return report
}

async function dumps(db: TestDatabase, tables: readonly string[]): Promise<string> {
  const all: string[] = []
  for (const table of tables) all.push(`${table}: ${(await db.dump(table)).join(' ')}`)
  return all.join('\n')
}

async function ids(db: TestDatabase, table: string): Promise<number[]> {
  return (await db.rows(`select id from ${table} order by id`)).map(([id]) => Number(id))
}

/** Applies, looks at the ids that are left in each table, restores everything, and compares with what was there. */
async function thereAndBack(
  { db, project }: Scene,
  tables: readonly string[],
  left: Readonly<Record<string, readonly number[]>>,
  input: PolicyInput = policy,
): Promise<TestProject> {
  const before = await dumps(db, tables)
  const made = project({ parent: input })
  const [planned] = (await plan({ cwd: made.folder, now })).policies
  const report = await applyOnce(made)
  assert.is(report.status, 'applied', JSON.stringify(report.error))
  for (const [table, expected] of Object.entries(left)) assert.equal(await ids(db, table), expected, `left in ${table}`)
  assert.equal(planned?.children, report.children)
  assert.is(planned?.due, report.archived)
  assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
  // The last first: what one refers to may be in an earlier one.
  for (const { name } of report.archives.toReversed()) {
    await restore({ cwd: made.folder, file: name, now, hold: 'none' })
  }
  assert.is(await dumps(db, tables), before)
  return made
}

overDatabases(test, 'what hangs on a row, at any depth, goes along', async (scene) => {
  const { db } = scene
  await db.run(ddl(db, `create table parent (id KEY, at TIME);
    create table child (id KEY, parent_id bigint references parent (id) on delete cascade, body text);
    create table grandchild (id KEY, child_id bigint references child (id));
    insert into parent values (1, '${old}'), (2, '${old}'), (3, '${young}');
    insert into child values (10, 1, 'a,"b"'), (11, 1, ''), (12, 2, null), (13, 3, 'x'), (14, null, 'y');
    insert into grandchild values (100, 10), (101, 12), (102, 12), (103, 13)`))
  const made = await thereAndBack(scene, ['parent', 'child', 'grandchild'], { parent: [3], child: [13, 14], grandchild: [103] })
  const names = ['parent_backup_20260516.child.csv', 'parent_backup_20260516.csv', 'parent_backup_20260516.csv.manifest.json', 'parent_backup_20260516.grandchild.csv']
  assert.equal(made.list(), names)
  assert.equal(readArchive(made.folder, 'parent_backup_20260516.child.csv').rows, [['10', '1', 'a,"b"'], ['11', '1', ''], ['12', '2', null]])
  assert.is(Number(await db.value('select count(*) from retention_ledger')), 1)
})

const shapes: Record<string, { sql: string; left: Record<string, readonly number[]>; only?: 'postgres' | 'sqlite' }> = {
  'composite keys, and a key to a unique column': {
    sql: `create table parent (id KEY, a int, b text, code text unique, at TIME, unique (a, b));
      create table child (id KEY, x int, y text, foreign key (x, y) references parent (a, b) on delete cascade);
      create table other (id KEY, parent_code text references parent (code));
      insert into parent values (1, 1, 'a', 'one', '${old}'), (2, 1, 'b', 'two', '${young}'), (3, 2, 'a', 'three', '${old}');
      insert into child values (1, 1, 'a'), (2, 1, 'b'), (3, null, 'a'), (4, 2, 'a');
      insert into other values (1, 'one'), (2, 'two'), (3, null)`,
    left: { parent: [2], child: [2, 3], other: [2, 3] },
  },
  'rows that refer to rows of their own table, and restrict': {
    sql: `create table parent (id KEY, at TIME);
      create table child (id KEY, parent_id bigint references parent (id), up bigint references child (id) on delete restrict);
      insert into parent values (1, '${old}'), (2, '${young}');
      insert into child values (1, 1, null), (2, 2, null), (3, null, 1), (4, null, 3), (5, null, 2)`,
    left: { parent: [2], child: [2, 5] },
  },
  'a row that refers to itself, and rows of the policy itself': {
    sql: `create table parent (id KEY, up bigint references parent (id), at TIME);
      insert into parent values (1, 1, '${old}'), (2, 1, '2020-02-01T00:00:00Z'), (3, 2, '2020-03-01T00:00:00Z'), (4, null, '${young}'), (5, 4, '${old}')`,
    left: { parent: [4] },
  },
  'several keys to one parent, and a diamond': {
    sql: `create table parent (id KEY, at TIME);
      create table lefts (id KEY, parent_id bigint references parent (id) on delete cascade);
      create table rights (id KEY, one bigint references parent (id), two bigint references parent (id));
      create table bottom (id KEY, left_id bigint references lefts (id) on delete cascade, right_id bigint references rights (id));
      insert into parent values (1, '${old}'), (2, '${old}'), (3, '${young}');
      insert into lefts values (1, 1), (2, 2), (3, 3);
      insert into rights values (1, 1, 2), (2, 2, null), (3, 3, 3);
      insert into bottom values (1, 1, 1), (2, 2, 1), (3, 3, 3), (4, 1, null)`,
    left: { parent: [3], lefts: [3], rights: [3], bottom: [3] },
  },
  'a circle of tables': {
    sql: `create table parent (id KEY, latest bigint, at TIME);
      create table child (id KEY, parent_id bigint not null references parent (id));
      insert into parent values (1, 11, '${old}'), (2, null, '${old}'), (3, 13, '${young}');
      insert into child values (11, 1), (12, 1), (13, 3), (14, 2)`,
    left: { parent: [3], child: [13] },
  },
  'keys that are checked at the end': {
    sql: `create table parent (id KEY, at TIME);
      create table child (id KEY, parent_id bigint references parent (id) deferrable initially deferred);
      insert into parent values (1, '${old}'), (2, '${young}'); insert into child values (1, 1), (2, 2)`,
    left: { parent: [2], child: [2] },
  },
  'partitions, and a key of one partition': {
    sql: `create table parent (id bigint, at timestamptz, primary key (id, at)) partition by range (at);
      create table parent_old partition of parent for values from ('2000-01-01') to ('2025-01-01');
      create table parent_new partition of parent for values from ('2025-01-01') to ('2030-01-01');
      create table child (id bigint primary key, parent_id bigint, parent_at timestamptz,
        foreign key (parent_id, parent_at) references parent (id, at) on delete cascade) partition by range (id);
      create table child_1 partition of child for values from (0) to (10);
      create table child_2 partition of child for values from (10) to (100);
      create table note (id bigint primary key, child_id bigint references child_2 (id));
      insert into parent values (1, '${old}'), (2, '${young}'), (3, '2025-06-01');
      insert into child values (1, 1, '${old}'), (2, 2, '${young}'), (11, 1, '${old}'), (12, 3, '2025-06-01');
      insert into note values (1, 11), (2, null), (3, 12)`,
    left: { parent: [2], child: [2], note: [2] },
    only: 'postgres',
  },
  'a table without row numbers, a primary key that is left out, a key of another affinity': {
    sql: `create table parent (id integer primary key autoincrement, code text collate nocase unique, at text);
      create table child (id integer primary key autoincrement, parent_id integer references parent on delete cascade);
      create table pair (id integer, code, primary key (id, code), foreign key (code) references parent (code)) without rowid;
      create table loose (id integer primary key autoincrement, n integer references parent (code));
      insert into parent values (1, '01', '${old}'), (2, 'B', '${young}'), (3, '7', '${old}');
      insert into child values (1, 1), (2, 2);
      insert into pair values (1, '01'), (2, 'b'), (3, 'B');
      insert into loose values (1, 7), (2, null)`,
    left: { parent: [2], child: [2], pair: [2, 3], loose: [2] },
    only: 'sqlite',
  },
}

for (const [name, { sql, left, only }] of Object.entries(shapes)) {
  overDatabases(
    test,
    name,
    async (scene) => {
      await scene.db.run(ddl(scene.db, sql))
      if (name === 'a circle of tables') {
        const key = 'latest bigint references child (id)'
        // SQLite takes a key to a table that is not there yet, and no key to one that is.
        if (scene.db.kind === 'postgres') await scene.db.run('alter table parent add foreign key (latest) references child (id)')
        else {
          await scene.db.run(`pragma foreign_keys = off; create table made (id integer primary key autoincrement, ${key}, at text);
            insert into made select * from parent; drop table parent; alter table made rename to parent; pragma foreign_keys = on`)
        }
      }
      await thereAndBack(scene, Object.keys(left), left)
    },
    only === undefined ? undefined : [only],
  )
}

test.run()
