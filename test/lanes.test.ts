/** Steps side by side: each is made once, limits hold, and what one step does to the others is what it should. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply } from '../src/apply/apply.ts'
import { RetentionError } from '../src/errors.ts'
import { inLanes } from '../src/apply/lanes.ts'
import { restore } from '../src/restore/restore.ts'
import { verify } from '../src/verify/verify.ts'
import { compareRows, tableRows } from './support/judge.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('lanes')

const cutoff = '2026-05-16T00:00:00Z'

test('every step is made once, in as many lanes as allowed, and none is begun after a stop', async () => {
  const step = fc.record({
    turns: fc.integer({ min: 1, max: 4 }),
    ends: fc.constantFrom('goes on', 'goes on', 'goes on', 'stops', 'fails'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.integer({ min: 1, max: 4 }), async (steps, lanes) => {
      const begun: number[] = []
      let [under, most, isOver] = [0, 0, false]
      const numbered = steps.map((one, index) => ({ ...one, index }))
      const failed = await inLanes(numbered, lanes, async ({ index, turns, ends }) => {
        assert.not(isOver, 'begun after a stop')
        begun.push(index)
        under += 1
        most = Math.max(most, under)
        for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate)
        under -= 1
        isOver ||= ends !== 'goes on'
        if (ends === 'fails') throw new RetentionError('DATABASE_FAILED', `step ${index}`)
        return ends === 'goes on'
      }).then(
        () => undefined,
        (error: unknown) => error,
      )
      assert.is(under, 0, 'something is still under way')
      assert.ok(most <= lanes)
      assert.equal(begun, [...begun.keys()], 'not in their order, or not once')
      if (numbered.every(({ ends }) => ends === 'goes on')) assert.is(begun.length, steps.length)
      const failures = numbered.filter(({ index, ends }) => begun.includes(index) && ends === 'fails')
      assert.is(failed !== undefined, failures.length > 0)
      for (const { index } of failures) assert.match(String(failed), new RegExp(`step ${index}\\b`))
    }),
  )
})

test('of several failures, a commit that nobody can tell about comes first', async () => {
  const errors = [
    new RetentionError('DATABASE_UNREACHABLE', 'gone'),
    new RetentionError('COMMIT_UNKNOWN', 'what became of it', { hint: 'look' }),
  ]
  const failed = await inLanes(errors, 2, async (error) => {
    await new Promise(setImmediate)
    throw error
  }).then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(failed instanceof RetentionError)) throw new Error('not an error of ours')
  assert.is(failed.code, 'COMMIT_UNKNOWN')
  assert.is(failed.hint, 'look')
  assert.match(failed.message, 'what became of it')
  assert.match(failed.message, 'gone')
})

overDatabases(test, 'archives made side by side hold every row once, and bring it back', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 60))
  const original = await tableRows(db, 'log')
  for (const concurrency of [1, 2, 3, 8]) {
    const { folder } = project({ log: { ...logPolicy, batch: 7, concurrency } })
    const [policy] = (await apply({ cwd: folder, now })).policies
    assert.is(policy?.status, 'applied', policy?.error?.message)
    assert.is(policy?.archived, 60)
    const archives = policy?.archives ?? []
    assert.is(archives.length, 9)
    assert.equal(
      archives.map(({ from }) => from),
      archives.map(({ from }) => from).toSorted(),
      'the report is not in the order of time',
    )
    assert.equal((await verify({ cwd: folder })).findings, [])
    for (const { name } of archives) await restore({ file: name, cwd: folder, hold: 'none', now })
    compareRows(await tableRows(db, 'log'), original)
  }
})

overDatabases(test, 'a limit of rows holds, however many steps are under way', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 50))
  const { folder } = project({ log: { ...logPolicy, batch: 4, concurrency: 8 } })
  let left = 50
  for (const limitRows of [1, 9, 16, 3]) {
    const [policy] = (await apply({ cwd: folder, now, limitRows })).policies
    assert.is(policy?.status, 'partial')
    assert.is(policy?.archived, limitRows)
    left -= limitRows
    assert.is(Number(await db.value('select count(*) from log')), left)
  }
})

overDatabases(
  test,
  'where deleting a row runs a trigger, or a row depends on others, one step follows the other',
  async ({ db, project }) => {
    // What stays is the newest row but one of what is there; taken side by side, steps would not see one another's work.
    await seedLog(db, minutesBefore(cutoff, 40))
    const others = project({
      log: { ...logPolicy, batch: 5, concurrency: 8, where: 'id < (select max(id) from log) - 4' },
    })
    const [first] = (await apply({ cwd: others.folder, now })).policies
    assert.is(first?.status, 'applied', first?.error?.message)
    assert.is(first?.archived, 35)
    await db.run('create table counted (rows integer)')
    await db.run('insert into counted values (0)')
    await db.run(
      db.kind === 'sqlite'
        ? 'create trigger count_deleted after delete on log begin update counted set rows = rows + 1; end'
        : `create function count_deleted() returns trigger language plpgsql as $$ begin
             -- Two steps side by side would wait for one another's count.
             update counted set rows = rows + 1; return old; end $$;
           create trigger count_deleted after delete on log for each row execute function count_deleted()`,
    )
    const { folder } = project({ log: { ...logPolicy, batch: 1, concurrency: 8 } }, { lockTimeout: '1ms' })
    const [policy] = (await apply({ cwd: folder, now })).policies
    assert.is(policy?.status, 'applied', policy?.error?.message)
    assert.is(policy?.skipped, 0)
    assert.is(Number(await db.value('select rows from counted')), policy?.archived)
  },
)

test.run()
