/** Several databases under one config: each has its ledger and its archives, and every command works on all of them, or on one. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, overDatabases as overAll, type ApplyReport, type DatabasesReport, type RunEvent } from '../src/index.ts'
import { createDatabase, type TestDatabase } from './support/database.ts'
import type { TestProject } from './support/project.ts'
import { minutesBefore, logPolicy, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('databases')

// The command line goes by the clock.
const file = /^log_backup_\d{8}\.csv$/

/** Runs a body with a second database of the kind, and a project over both: eu has three due rows, us two. */
async function withTwo(
  { db: eu, project }: Scene,
  body: (made: TestProject, eu: TestDatabase, us: TestDatabase) => Promise<void>,
): Promise<void> {
  const us = await createDatabase(eu.kind)
  try {
    await seedLog(eu, minutesBefore('2020-05-16T00:00:00Z', 3))
    await seedLog(us, minutesBefore('2020-05-16T00:00:00Z', 2))
    // Undefined takes the place of the scene's one database.
    const one = { database: undefined } as object
    const made = project({ log: logPolicy }, { ...one, databases: { eu: eu.address, us: { database: us.address } } })
    await body(made, eu, us)
  } finally {
    await us.drop()
  }
}

interface Of<Report> {
  readonly database: string
  readonly report?: Report
  readonly error?: { readonly code: string; readonly message: string }
}

overDatabases(test, 'apply, status, restore and the rest: all, or the one that is named or meant', async (scene) =>
  withTwo(scene, async (made, eu, us) => {
    const before = await us.dump('log')
    const plan = (await made.run(['plan', '--json'])).json<{ databases: Of<ApplyReport>[] }>()
    assert.equal(
      plan.databases.map(({ database, report }) => [database, report?.policies[0]?.due]),
      [
        ['eu', 3],
        ['us', 2],
      ],
    )
    const one = await made.run(['apply', '--database', 'us', '--json'])
    assert.is(one.json<ApplyReport>().policies[0]?.archived, 2)
    assert.equal([made.list('backups'), made.list('backups/us').length], [['us'], 2])
    const all = await made.run(['apply'])
    assert.is(all.code, 0, all.stderr)
    assert.match(all.stdout, /^eu\n[^]*3 rows[^]*\nus\n[^]*nothing due/i)
    const [archive = ''] = made.list('backups/eu')
    assert.match(archive, file)
    assert.is(Number(await eu.value('select count(*) from retention_ledger')), 1)
    const status = (await made.run(['status', '--json'])).json<{ databases: Of<{ archives: unknown[] }>[] }>()
    assert.equal(
      status.databases.map(({ report }) => report?.archives.length),
      [1, 1],
    )
    assert.is((await made.run(['verify'])).code, 0)
    const query = await made.run(['query', 'select count(*) as n from log', '--json'])
    assert.equal(
      query.json<{ databases: Of<{ rows: unknown }>[] }>().databases.map(({ report }) => report?.rows),
      [[[3]], [[2]]],
      query.stdout,
    )
    // Both have an archive of that name; where it lies tells them apart.
    const which = await made.run(['restore', archive])
    assert.is(which.code, 2)
    assert.match(which.stderr, /Several databases have it: eu, us\n.*--database/)
    assert.is((await made.run(['cat', `backups/us/${archive}`])).stdout.trim().split('\n').length, 3)
    const back = await made.run(['restore', `backups/us/${archive}`])
    assert.is(back.code, 0, back.stderr)
    assert.equal(await us.dump('log'), before)
    assert.is(Number(await eu.value('select count(*) from log')), 0)
    assert.match((await made.run(['restore', 'log_backup_20000101.csv'])).stderr, /None of the databases has it/)
    const held = await made.run(['hold', 'add', 'log', '--reason', 'case 7', '--database', 'eu', '--json'])
    const { id } = held.json<{ hold: { id: string } }>().hold
    assert.is((await made.run(['hold', 'release', id])).code, 0)
    const moved = await made.run(['move', 'log', '--to', './elsewhere'])
    assert.is(moved.code, 2)
    assert.match(moved.stdout + moved.stderr, /cannot all go to one place/)
  }),
)

overDatabases(test, 'one that fails stops no other; a wrong name says which there are', async (scene) =>
  withTwo(scene, async (made, eu, us) => {
    const gone = eu.kind === 'sqlite' ? `${eu.address}.gone` : 'postgres://nobody:geheim@localhost:1/gone'
    made.configure({ databases: { gone, us: us.address }, parallel: 1 })
    const run = await made.run(['apply', '--json'])
    const [first, second] = run.json<{ databases: Of<ApplyReport>[] }>().databases
    assert.is(first?.error?.code, 'DATABASE_UNREACHABLE')
    assert.is(second?.report?.policies[0]?.archived, 2)
    assert.is(run.code, 1)
    const told = await made.run(['status'])
    assert.is(told.code, 1)
    assert.not.match(run.stdout + run.stderr + told.stdout + told.stderr, /geheim/)
    const wrong = await made.run(['apply', '--database', 'use'])
    assert.is(wrong.code, 2)
    assert.match(wrong.stderr, /No database is called "use".*did you mean "us"/i)
    assert.match(wrong.stderr, /gone, us/)
    made.configure({ database: us.address })
    assert.match((await made.run(['status', '--database', 'us'])).stderr, /has one database alone/)
    made.configure({ database: us.address, databases: { us: us.address } })
    assert.match((await made.run(['status'])).stderr, /"database" is .*; allowed: nothing, where "databases"/)
    made.configure({ databases: { us: us.address }, archive: 'gdrive://abcdefghijklmnopqrstuvwxyz' })
    assert.match((await made.run(['status'])).stdout, /share a Google Drive folder/)
  }),
)

overDatabases(test, 'as functions: events say which database they are of', async (scene) =>
  withTwo(scene, async ({ folder }) => {
    const events: RunEvent[] = []
    const onEvent = (event: RunEvent): void => void events.push(event)
    const told: DatabasesReport<ApplyReport> = await overAll({ cwd: folder }, (one) => apply({ ...one, now, onEvent }))
    assert.equal(
      told.databases.map(({ database }) => database),
      ['eu', 'us'],
    )
    const steps = events.filter(({ type }) => type === 'step-finished').map(({ database }) => database)
    assert.equal(new Set(steps), new Set(['eu', 'us']))
    const alone = await apply({ cwd: folder }).catch((error: unknown) => error)
    assert.match(String(alone), /several databases: name one/)
  }),
)

test.run()
