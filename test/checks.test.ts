/** What cannot work or would do harm is refused before anything is touched, and again inside the step. */
import { chmodSync } from 'node:fs'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan, restore, type PolicyReport } from '../src/index.ts'
import { afterStep } from './support/after-step.ts'
import type { Kind } from './support/database.ts'
import { atPoints } from './support/points.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene, sqlCommand } from './support/scene.ts'

const test = suite('checks')

const cutoff = '2026-05-16T00:00:00Z'
const id = (kind: Kind): string => (kind === 'sqlite' ? 'integer primary key autoincrement' : 'serial primary key')

/** Applies the log's policy and asserts that it is refused, with nothing touched. */
async function refuses({ db, project }: Scene, message: RegExp, policy = logPolicy): Promise<PolicyReport> {
  const before = await db.dump('log')
  const made = project({ log: policy })
  const planned = (await plan({ cwd: made.folder, now })).policies[0]
  assert.is(planned?.status, 'refused')
  const report = (await apply({ cwd: made.folder, now })).policies[0]
  assert.is(report?.status, 'refused')
  assert.match(report?.error?.message ?? '', message)
  assert.is(report?.error?.message, planned?.error?.message)
  assert.equal(await db.dump('log'), before)
  assert.equal(made.list(), [])
  if (report === undefined) throw new Error('no report')
  return report
}

/** Plans the log's policy and gives its warnings. */
async function warningsOf({ project }: Scene): Promise<string> {
  const report = (await plan({ cwd: project().folder, now })).policies[0]
  assert.is(report?.status, 'applied', report?.error?.message)
  return (report?.warnings ?? []).map(({ text, hint }) => `${text} | ${hint ?? ''}`).join('\n')
}

overDatabases(test, 'no such table: names the near miss', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await refuses(scene, /There is no table "logs" \(did you mean "log"\?\)/, { ...logPolicy, table: 'logs' })
})

overDatabases(test, 'no such column: names the near miss', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await refuses(scene, /has no column "att" \(did you mean "at"\?\)/, { ...logPolicy, column: 'att' })
})

overDatabases(test, 'a column that does not age rows', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await refuses(scene, scene.db.kind === 'sqlite' ? /does not store time/ : /"body" of public\.log is of type text/, {
    ...logPolicy,
    column: 'body',
  })
})

overDatabases(test, 'a view', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await scene.db.run('create view recent as select * from log')
  await refuses(scene, /"?(public\.)?recent"? is a view, not a table/, { ...logPolicy, table: 'recent' })
})

for (const where of [
  'id = 1) or (true',
  'nonsense = 1',
  'id = 1; delete from log',
  "body = 'x",
  'id = 1 /* open',
  'count(*) > 0',
  '',
]) {
  overDatabases(test, `a where that is no whole predicate: ${JSON.stringify(where)}`, async (scene) => {
    await seedLog(scene.db, minutesBefore(cutoff, 2))
    if (where !== '') {
      await refuses(scene, /"where" is not a predicate/, { ...logPolicy, where })
      return
    }
    const made = scene.project({ log: { ...logPolicy, where } })
    await assertRejects(() => plan({ cwd: made.folder, now }), /field "where" is ""/)
  })
}

for (const [action, words] of [
  ['cascade', 'deletes'],
  ['set null', 'sets to NULL'],
  ['set default', 'sets to their default'],
] as const) {
  overDatabases(test, `a foreign key ON DELETE ${action}, even without rows`, async (scene) => {
    await seedLog(scene.db, minutesBefore(cutoff, 2))
    await scene.db.run(
      `create table note (id ${id(scene.db.kind)}, log_id integer default 1, constraint note_log foreign key (log_id) references log (id) on delete ${action})`,
    )
    const { error } = await refuses(scene, new RegExp(`${words} rows of .*note"?, unarchived`))
    assert.match(error?.message ?? '', scene.db.kind === 'sqlite' ? /\(log_id\)/ : /"note_log"/)
  })
}

for (const action of ['no action', 'restrict']) {
  overDatabases(test, `a foreign key ON DELETE ${action} is refused when a row hangs on a due one`, async (scene) => {
    await seedLog(scene.db, [...minutesBefore(cutoff, 2), '2026-06-10T00:00:00Z'])
    await scene.db.run(
      `create table note (id ${id(scene.db.kind)}, log_id integer references log (id) on delete ${action}); insert into note (log_id) values (1), (null)`,
    )
    await refuses(scene, /Rows of .*note"? refer to due rows/)
    await scene.db.run('update note set log_id = 3 where log_id is not null')
    const report = (await apply({ cwd: scene.project().folder, now })).policies[0]
    assert.is(report?.archived, 2, report?.error?.message)
  })
}

overDatabases(test, 'a table that refers to itself', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await scene.db.run('alter table log add column parent integer references log (id) on delete cascade')
  await refuses(scene, /deletes rows of/)
})

overDatabases(
  test,
  'a foreign key that is added between plan and step is met inside the step',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 20))
    const made = project({ log: { ...logPolicy, batch: 10 } })
    const cascade = 'create table note (log_id integer references log (id) on delete cascade)'
    // With the first step somebody migrates the schema; the second must not go on as planned.
    if (db.kind === 'postgres') {
      await apply({ cwd: made.folder, now, before: '2000-01-01' })
      await db.run(`create function migrate() returns trigger language plpgsql as $$ begin execute '${cascade}'; return null; end $$;
      create trigger migrate after insert on retention_ledger for each row execute function migrate()`)
    }
    const then = (): void => void (db.kind === 'sqlite' && db.run(cascade))
    const report = (await apply({ cwd: made.folder, now, onEvent: afterStep(then) })).policies[0]
    // Not "refused": that is what was stopped before anything was touched.
    assert.is(report?.status, 'failed')
    assert.is(report?.error?.code, 'REFUSED')
    assert.match(report?.error?.message ?? '', /deletes rows of .*note/)
    assert.is(report?.archived, 10)
    assert.is(Number(await db.value('select count(*) from log')), 10)
    assert.is(made.list().length, 2)
  },
)

overDatabases(test, 'warns about a missing index, with the command', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await scene.db.run('drop index log_at')
  const [text, hint] = (await warningsOf(scene)).split(' | ')
  assert.match(text ?? '', /has no index/)
  await scene.db.run(hint ?? '')
  assert.not.match(await warningsOf(scene), /has no index/)
})

overDatabases(test, 'warns about triggers that run on delete', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  await scene.db.run(
    scene.db.kind === 'sqlite'
      ? 'create table gone (id); create trigger on_delete after delete on log begin insert into gone values (old.id); end'
      : 'create function f() returns trigger language plpgsql as $$ begin return null; end $$; create trigger on_delete after delete on log for each row execute function f()',
  )
  assert.match(await warningsOf(scene), /Triggers run .*: on_delete/)
})

overDatabases(test, 'a trigger that keeps rows: nothing is archived that is not deleted', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 4))
  await db.run(
    db.kind === 'sqlite'
      ? 'create trigger keep before delete on log when old.id = 2 begin select raise(ignore); end'
      : 'create function keep() returns trigger language plpgsql as $$ begin return case when old.id = 2 then null else old end; end $$; create trigger keep before delete on log for each row execute function keep()',
  )
  const made = project()
  const report = (await apply({ cwd: made.folder, now })).policies[0]
  if (db.kind === 'sqlite') {
    assert.is(report?.status, 'failed')
    assert.match(report?.error?.message ?? '', /4 rows were archived, but DELETE took 3/)
    assert.is(Number(await db.value('select count(*) from log')), 4)
    assert.equal(made.list(), [])
  } else {
    // What Postgres archives is what it deleted.
    assert.is(report?.status, 'partial')
    assert.is(report?.archived, 3)
    assert.equal(await db.rows('select id::int from log'), [[2]])
  }
})

const byRoot = process.getuid?.() === 0
overDatabases(test, 'a target that cannot be written', async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  const made = scene.project(undefined, { archive: { to: './file/backups', durable: true } })
  made.write('file', 'not a folder')
  const report = (await apply({ cwd: made.folder, now })).policies[0]
  assert.is(report?.status, 'refused')
  assert.is(report?.error?.code, 'TARGET_UNUSABLE')
  assert.is(Number(await scene.db.value('select count(*) from log')), 2)
  if (byRoot) return
  const readOnly = scene.project()
  readOnly.write('backups/x', '')
  chmodSync(readOnly.path('backups'), 0o500)
  assert.is((await plan({ cwd: readOnly.folder, now })).policies[0]?.error?.code, 'TARGET_UNUSABLE')
})

overDatabases(
  test,
  'a folder on a machine that is thrown away, unless it is said to be durable',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 2))
    const made = project(undefined, { archive: './backups' })
    const clean = { CI: '', GITHUB_ACTIONS: '', KUBERNETES_SERVICE_HOST: '' }
    for (const name of ['CI', 'GITHUB_ACTIONS', 'RENDER', 'FLY_APP_NAME', 'KUBERNETES_SERVICE_HOST']) {
      const { stdout, code } = await made.run(['apply'], { env: { ...clean, [name]: 'true' } })
      assert.is(code, 1)
      assert.match(stdout, new RegExp(`thrown away \\(${name}\\)`))
      assert.match(stdout, /durable: true/)
    }
    assert.is(Number(await db.value('select count(*) from log')), 2)
    assert.is((await made.cli(['apply'], { env: clean })).code, 0)
  },
  // It is no matter of the database.
  ['sqlite'],
)

overDatabases(
  test,
  'inheritance children, row-level security, rules, foreign partitions',
  async (scene) => {
    const { db } = scene
    await seedLog(db, minutesBefore(cutoff, 2))
    await db.run('create table child (extra text) inherits (log)')
    await refuses(scene, /Other tables inherit from public\.log/)
    await db.run(
      'drop table child; create rule soft as on delete to log do instead update log set body = null where id = old.id',
    )
    await refuses(scene, /Rules rewrite DELETE on public\.log: soft/)
    await db.run('drop rule soft on log')
    await db.run(
      "create publication p for table log with (publish = 'insert, delete'); alter table log replica identity nothing",
    )
    await refuses(scene, /no replica identity, and publication p publishes deletes/)
    await db.run('alter table log replica identity default')
    assert.match(await warningsOf(scene), /Deletes on public\.log are published by p/)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a table that is published with its schema; a role that heeds no foreign keys',
  async (scene) => {
    const { db } = scene
    if (Number(await db.value("select current_setting('server_version_num')::int")) >= 150000) {
      await seedLog(db, minutesBefore(cutoff, 2))
      await db.run('create publication p for tables in schema public; alter table log replica identity nothing')
      await refuses(scene, /no replica identity, and publication p publishes deletes/)
      await db.run('drop publication p; drop table log')
    }
    await seedLog(db, minutesBefore(cutoff, 2))
    const name = new URL(db.address).pathname.slice(1)
    await db.run(`alter database ${name} set session_replication_role = replica`)
    await refuses(scene, /session_replication_role is "replica"/)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a policy on one partition sees the foreign keys of the whole',
  async (scene) => {
    await scene.db.run(`
      create table log (id int, at timestamptz not null, body text, primary key (id, at)) partition by range (at);
      create table log_2020 partition of log for values from ('2020-01-01') to ('2021-01-01');
      create index on log (at);
      insert into log values (1, '2020-02-02', 'x');
      create table note (id int, at timestamptz, foreign key (id, at) references log (id, at) on delete cascade)`)
    await refuses(scene, /deletes rows of public\.note/, { ...logPolicy, table: 'log_2020' })
    await refuses(scene, /deletes rows of public\.note/)
  },
  ['postgres'],
)

overDatabases(
  test,
  'a table in a schema off the search path is suggested with its schema',
  async (scene) => {
    await seedLog(scene.db, minutesBefore(cutoff, 2))
    await scene.db.run('create schema app; create table app.events (id int, at timestamptz)')
    await refuses(scene, /There is no table "events" \(did you mean "app\.events"\?\)/, {
      ...logPolicy,
      table: 'events',
    })
  },
  ['postgres'],
)

overDatabases(
  test,
  'a virtual table, and a table whose rows cannot be told apart',
  async (scene) => {
    await seedLog(scene.db, minutesBefore(cutoff, 2))
    await scene.db.run(
      `create virtual table search using fts5(at, body); create table nameless (rowid text, _rowid_ text, oid text, at text)`,
    )
    await refuses(scene, /"search" is a virtual, not a table/, { ...logPolicy, table: 'search' })
    await refuses(scene, /cannot be told apart/, { ...logPolicy, table: 'nameless' })
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a table that becomes a child when it is too late to look: its rows stay',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project()
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    const late = sqlCommand(
      db.address,
      "create table child (extra text) inherits (log); insert into child (id, at, extra) values (99, '2020-01-01', 'only here')",
    )
    const { result } = await atPoints([{ point: 'copy rows', act: 'run', with: late }], () =>
      apply({ cwd: made.folder, now }),
    )
    assert.is(result.policies[0]?.archived, 0, result.policies[0]?.error?.message)
    assert.match(result.policies[0]?.error?.message ?? '', /Other tables inherit from public\.log/)
    assert.is(await db.value('select extra from child where id = 99'), 'only here')
    assert.is(Number(await db.value('select count(*) from only log')), 3)
    assert.equal(made.list(), [])
  },
  ['postgres'],
)

overDatabases(
  test,
  'a partition with a foreign key that is attached when it is too late to look: rolled back',
  async ({ db, project }) => {
    await db.run(`create table log (id int, at timestamptz not null, body text) partition by range (at);
      create table log_a partition of log for values from ('2020-01-01') to ('2021-01-01');
      create table log_b (id int primary key, at timestamptz not null, body text);
      create table note (log_id int references log_b (id) on delete cascade, text text);
      insert into log values (1, '2020-02-01', 'a'), (3, '2020-03-01', 'c'); insert into log_b values (2, '2020-02-02', 'b'); insert into note values (2, 'only here')`)
    await db.run(
      "create table log_c partition of log for values from ('2021-01-01') to ('2022-01-01'); insert into log values (4, '2021-03-01', 'd'); update log_b set at = '2022-02-02'; insert into log_c values (5, '2021-04-01', 'e')",
    )
    await db.run(
      "create table log_d partition of log for values from ('2023-01-01') to ('2024-01-01'); insert into log values (6, '2023-03-01', 'f')",
    )
    const made = project({ log: { ...logPolicy, partitions: 'rows' } })
    await apply({ cwd: made.folder, now, before: '2000-01-01' })
    const late = sqlCommand(
      db.address,
      "alter table log attach partition log_b for values from ('2022-01-01') to ('2023-01-01')",
    )
    const { result } = await atPoints([{ point: 'copy rows', act: 'run', with: late }], () =>
      apply({ cwd: made.folder, now }),
    )
    assert.is(result.policies[0]?.archived, 0)
    assert.match(result.policies[0]?.error?.message ?? '', /deletes rows of .*note/)
    assert.is(await db.value('select text from note'), 'only here')
    assert.equal(made.list(), [])
  },
  ['postgres'],
)

overDatabases(test, "the ledger's own tables", async (scene) => {
  await seedLog(scene.db, minutesBefore(cutoff, 2))
  const made = scene.project()
  await apply({ cwd: made.folder, now })
  for (const [table, column] of [
    ['retention_ledger', 'archived_at'],
    ['retention_ledger_holds', 'created_at'],
  ] as const) {
    made.policy('log', { table, column, days: 1 })
    const [policy] = (await apply({ cwd: made.folder, now: new Date('2099-01-01') })).policies
    assert.is(policy?.status, 'refused')
    assert.match(policy?.error?.message ?? '', /is one of the ledger's own tables/)
  }
  assert.is(Number(await scene.db.value('select count(*) from retention_ledger')), 1)
})

overDatabases(test, 'a trigger that puts rows back: archived once, and told', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 2))
  const again = 'insert into log (at, body) values (old.at, old.body)'
  await db.run(
    db.kind === 'sqlite'
      ? `create trigger again after delete on log begin ${again}; end`
      : `create function again() returns trigger language plpgsql as $$ begin ${again}; return null; end $$;
         create trigger again after delete on log for each row execute function again()`,
  )
  const made = project()
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.status, 'partial')
  assert.is(policy?.archived, 2)
  assert.is(policy?.remaining, 2)
  assert.match((policy?.warnings ?? []).map(({ text }) => text).join(), /2 rows were archived, and 2 are due as before/)
})

overDatabases(
  test,
  'a where that would run more than one statement runs none',
  async (scene) => {
    await seedLog(scene.db, minutesBefore(cutoff, 2))
    const where = 'true then true end; commit; create table pwned (x int); select 1 from log where case when true'
    await refuses(scene, /"where" is not a predicate/, { ...logPolicy, where })
    assert.is(await scene.db.value("select to_regclass('pwned')"), null)
  },
  ['postgres'],
)

overDatabases(
  test,
  'what is left when all dated rows have gone does not stop the policy',
  async ({ db, project }) => {
    await seedLog(db, ['2026-01-01', '2026-01-02', '2026-01-03'])
    await db.run("insert into log (at) values (''), ('now')")
    const made = project()
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 3)
    const [policy] = (await apply({ cwd: made.folder, now })).policies
    assert.is(policy?.status, 'nothing-due', policy?.error?.message)
    assert.is(policy?.undated, 2)
    await db.run("insert into log (at) values ('2026-01-04')")
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archived, 1)
  },
  ['sqlite'],
)

overDatabases(test, 'a table with very many columns', async ({ db, project }) => {
  const columns = Array.from({ length: 1200 }, (_, index) => `c${index}`)
  await db.run(
    `create table log (at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'}, ${columns.map((name) => `${name} smallint`).join(', ')})`,
  )
  await db.run("insert into log (at, c7) values ('2020-01-01', 1)")
  const before = await db.rows('select * from log')
  const made = project()
  const [policy] = (await apply({ cwd: made.folder, now })).policies
  assert.is(policy?.archived, 1, policy?.error?.message)
  await restore({ cwd: made.folder, file: policy?.archives[0]?.name ?? '', now })
  assert.equal(await db.rows('select * from log'), before)
})

test.run()

async function assertRejects(work: () => Promise<unknown>, message: RegExp): Promise<void> {
  const error = await work().then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.instance(error, Error)
  if (error instanceof Error) assert.match(error.message, message)
}
