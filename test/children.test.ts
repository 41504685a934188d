/** Children through foreign keys: what hangs on a row goes along with it, and comes back with it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan } from '../src/index.ts'
import type { TestDatabase } from './support/database.ts'
import { now, overDatabases } from './support/scene.ts'

const test = suite('children')

const old = '2020-01-01T00:00:00Z'
const young = '2026-06-10T00:00:00Z'
const policy = { table: 'parent', column: 'at', days: 30, children: 'archive' } as const

/** Types of each database: a key, and a time. */
function types(db: TestDatabase): { key: string; time: string } {
  return db.kind === 'sqlite' ? { key: 'integer primary key autoincrement', time: 'text' } : { key: 'bigint primary key', time: 'timestamptz' }
}

overDatabases(test, 'what hangs on a row, at any depth, goes along', async ({ db, project }) => {
  const { key, time } = types(db)
  await db.run(`create table parent (id ${key}, at ${time});
    create table child (id ${key}, parent_id bigint references parent (id) on delete cascade);
    create table grandchild (id ${key}, child_id bigint references child (id));
    insert into parent values (1, '${old}'), (2, '${old}'), (3, '${young}');
    insert into child values (10, 1), (11, 1), (12, 2), (13, 3);
    insert into grandchild values (100, 10), (101, 12), (102, 12), (103, 13)`)
  const made = project({ parent: policy })
  const [planned] = (await plan({ cwd: made.folder, now })).policies
  console.log(JSON.stringify(planned, null, 1))
  const [report] = (await apply({ cwd: made.folder, now })).policies
  console.log(JSON.stringify(report, null, 1))
  assert.is(report?.status, 'applied')
  console.log(made.list(), await db.dump('child'), await db.dump('grandchild'))
})

test.run()
