/** retention move: every archive is whole in one place that the ledger knows, and afterwards nowhere else. */
import { execSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { codeOfMove } from '../src/exit-codes.ts'
import { apply, erase, move, restore, status, verify, type MoveOptions, type MoveReport } from '../src/index.ts'
import { printMove } from '../src/print/move.ts'
import { connectToSqlite, untilAlone, type TestDatabase } from './support/database.ts'
import { fails } from './support/fails.ts'
import { judge, tableRows, type RowText } from './support/judge.ts'
import { atPoints, type Plan } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { credentials, startS3 } from './support/s3.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

Object.assign(process.env, credentials, { AWS_MAX_ATTEMPTS: '2', AWS_EC2_METADATA_DISABLED: 'true' })
const s3 = await startS3()
const test = suite('move')
test.after(() => s3.stop())

const points = path.join(import.meta.dirname, 'support/points.ts')
const first = 'log_backup_20260516.csv'
const second = 'log_backup_20260516_0002.csv'
const all = [first, second].flatMap((name) => [name, `${name}.manifest.json`]).toSorted()

const backups = { to: './backups', durable: true }
const vault = { to: './vault', durable: true }

/** Two archives of five and three rows in `backups`; those of customer 4711 are 2, 3 and 7. The config's own target is `vault`. */
async function archived({ db, project }: Scene): Promise<{ made: TestProject; rows: readonly RowText[] }> {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 8))
  await db.run("update log set body = case when id in (2, 3, 7) then 'customer 4711' else 'another' end")
  const rows = await tableRows(db, 'log')
  const made = project({ log: { ...logPolicy, batch: 5, concurrency: 1, archive: backups } }, { archive: vault })
  const [report] = (await apply({ cwd: made.folder, now })).policies
  assert.is(report?.archived, 8, JSON.stringify(report))
  return { made, rows }
}

async function moveIn({ folder }: TestProject, options: Partial<MoveOptions> = {}): Promise<MoveReport> {
  return move({ cwd: folder, now, policy: 'log', to: './vault', by: 'ops', yes: true, ...options })
}

/** The errors of archives and of what could not be finished. */
function errorsOf({ archives, left }: MoveReport): string[] {
  return [...archives.flatMap(({ error }) => error?.message ?? []), ...left.map(({ message }) => message)]
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

overDatabases(
  test,
  'told first, then done; new archives go where they went, and restore finds the old ones',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    const before = files(made.path('backups'))
    const told = await moveIn(made, { yes: false })
    assert.match(printMove(told), /→ log: 2 archives, \d+ B, would be moved from .*\/backups to \.\/vault\n/)
    assert.match(printMove(told), /Nothing has been changed\. --yes does it/)
    assert.equal([files(made.path('backups')), existsSync(made.path('vault'))], [before, false])

    const done = await made.cli(['move', 'log', '--to', './vault', '--by', 'ops', '--yes', '--json'])
    assert.is(done.code, 0, done.stderr)
    const { archives, warnings, ...rest } = done.json<MoveReport>()
    const bytes = archives.reduce((sum, one) => sum + one.bytes, 0)
    assert.equal(rest, {
      policy: 'log',
      to: './vault',
      by: 'ops',
      dryRun: false,
      moved: 2,
      bytes,
      there: 0,
      removed: [],
      left: [],
    })
    assert.equal(archives[0], {
      name: first,
      state: 'archived',
      rows: 5,
      bytes: before.get(first)?.length,
      from: made.path(`backups/${first}`),
      to: made.path(`vault/${first}`),
      moved: true,
    })
    assert.match(warnings[0]?.text ?? '', /^New archives of policy "log" go to \.\/backups, as before$/)
    assert.equal([made.list(), files(made.path('vault'))], [[], before])
    const { archives: known, moves } = await status({ cwd: made.folder, now })
    assert.equal(
      known.map(({ target, location }) => [target, location]),
      [first, second].map((name) => ['./vault', made.path(`vault/${name}`)]),
    )
    assert.equal(
      moves.map(({ file, from, to, by }) => [file, from, to, by]),
      all.map((name) => [name, './backups', './vault', 'ops']),
    )
    assert.ok(moves.every(({ movedAt, removedAt }) => movedAt !== null && removedAt !== null))
    assert.equal((await verify({ cwd: made.folder, deep: true })).findings, [])
    await judge(db, 'log', made.path('vault'), rows)

    const again = await moveIn(made)
    assert.match(printMove(again), /✔ log: nothing was moved to \.\/vault; 2 archives are there already\n/)
    await db.run("insert into log (at, body) values ('2020-01-01T00:00:00Z', 'late')")
    await apply({ cwd: made.folder, now })
    assert.equal(made.list().length, 2)
    assert.is((await restore({ cwd: made.folder, file: first, now })).restored, 5)
    // A restored archive may be gone; one that is there moves as any other.
    rmSync(made.path(`vault/${first}`))
    const back = await moveIn(made, { to: made.path('backups') })
    assert.equal([back.moved, back.there, codeOfMove(back), back.to], [1, 1, 0, './backups'])
    assert.match(back.warnings[0]?.text ?? '', /was restored, is not there whole any more, and so is not moved/)
    assert.is((await restore({ cwd: made.folder, file: second, now })).restored, 3)
    assert.is((await moveIn(made)).archives.find(({ name }) => name === second)?.state, 'restored')

    await fails(moveIn(made, { to: 'ftp://x' }), 'USAGE', /^"to" is "ftp:\/\/x"; allowed: a folder/)
    await fails(moveIn(made, { policy: 'lgo' }), 'POLICY_UNKNOWN', /did you mean "log"/)
  },
)

overDatabases(
  test,
  'sealed, with children and a partition, to a bucket and back: no key, and every byte',
  async (scene) => {
    const { db, project } = scene
    const identity = await generateX25519Identity()
    const [key, time] =
      db.kind === 'sqlite' ? ['integer primary key autoincrement', 'text'] : ['bigint primary key', 'timestamptz']
    await db.run(`create table log (id ${key}, at ${time}); create table note (id ${key}, log_id bigint references log (id), body text);
    insert into log values (1, '2020-01-01T00:00:00Z'), (2, '2020-01-02T00:00:00Z'); insert into note values (1, 1, 'a'), (2, 2, 'b')`)
    const tables = ['log', 'note']
    if (db.kind === 'postgres') {
      tables.push('part')
      await db.run(`create table part (id int, at timestamptz not null) partition by range (at); create index on part (at);
      create table part_20 partition of part for values from ('2020-01-01Z') to ('2021-01-01Z'); insert into part values (1, '2020-01-01Z')`)
    }
    const dumps = async (): Promise<string[][]> => {
      const dumped: string[][] = []
      for (const table of tables) dumped.push(await db.dump(table))
      return dumped
    }
    const before = await dumps()
    const sealed = { ...backups, encrypt: { age: [await identityToRecipient(identity)] } }
    const made = project(
      {
        log: { ...logPolicy, children: 'archive' },
        ...(db.kind === 'postgres' ? { part: { ...logPolicy, table: 'part' } } : {}),
      },
      { archive: sealed },
    )
    const applied = await apply({ cwd: made.folder, now })
    assert.ok(
      applied.policies.every(({ status: outcome }) => outcome === 'applied'),
      JSON.stringify(applied.policies),
    )
    const stored = files(made.path('backups'))
    const policies = applied.policies.map(({ policy }) => policy)
    const bucket = `move-${db.kind}`
    for (const policy of policies) assert.equal(errorsOf(await moveIn(made, { policy, to: s3.address(bucket) })), [])
    assert.equal(
      s3.keys().filter((name) => name.startsWith(bucket)),
      [...stored.keys()].map((name) => `${bucket}/${name}`).toSorted(),
    )
    assert.equal(made.list(), [])
    const { findings, unopened } = await verify({ cwd: made.folder })
    assert.equal([findings, unopened.length], [[], db.kind === 'sqlite' ? 2 : 3])

    // What the service keeps is not moved, and nothing is begun.
    s3.fault = ({ operation }) =>
      operation === 'HEAD'
        ? { status: 200, code: '', headers: { 'x-amz-object-lock-retain-until-date': '2091-01-01T00:00:00Z' } }
        : undefined
    const kept = await moveIn(made, { to: './backups', yes: false })
    assert.match(errorsOf(kept).join(), /csv\.age is locked until 2091-01-01T00:00:00.*: nobody can remove it/)
    assert.is(codeOfMove(kept), 1)
    s3.fault = undefined
    for (const policy of policies) assert.equal(errorsOf(await moveIn(made, { policy, to: './backups' })), [])
    assert.equal([s3.keys().filter((name) => name.startsWith(bucket)), files(made.path('backups'))], [[], stored])
    process.env['RETENTION_AGE_IDENTITY'] = identity
    try {
      for (const { name } of (await status({ cwd: made.folder, now })).archives)
        await restore({ cwd: made.folder, file: name, now })
    } finally {
      delete process.env['RETENTION_AGE_IDENTITY']
    }
    assert.equal(await dumps(), before)
  },
)

overDatabases(test, 'what stands against it: damage, files in the way, a run, a disk that fails', async (scene) => {
  const { db } = scene
  const { made, rows } = await archived(scene)
  const { folder } = made
  const before = files(made.path('backups'))
  const bytes = before.get(first) ?? Buffer.of()
  // A changed file stays where it is, and so does all of its archive; the other one moves.
  made.write(`backups/${first}`, bytes.toString().replace('another', 'changed'))
  const damaged = await moveIn(made)
  assert.match(errorsOf(damaged).join(), /backups\/log_backup_20260516\.csv is not what was stored/)
  assert.equal(
    [damaged.moved, codeOfMove(damaged), made.list('vault')],
    [1, 1, all.filter((name) => name.startsWith(second))],
  )
  made.write(`backups/${first}`, bytes.toString())
  // Another file in the way is left; the very same is taken, once it has been read.
  made.write(`vault/${first}`, 'mine')
  assert.match(
    errorsOf(await moveIn(made)).join(),
    /vault\/log_backup_20260516\.csv is in the way, and is another file/,
  )
  assert.equal([made.read(`vault/${first}`), made.list()], ['mine', all.filter((name) => !name.startsWith(second))])
  made.write(`vault/${first}`, bytes.toString())
  for (const point of ['insert move', 'write manifest.tmp', 'link manifest', 'move ledger']) {
    const plan: Plan = { point, act: 'fail', with: 'EIO' }
    const { result } = await atPoints([plan], () => moveIn(made))
    assert.match(errorsOf(result).join(), /EIO/, point)
    // What was there before is not ours to take back.
    assert.equal(
      [made.list().length, made.list('vault')],
      [2, [first, second, `${second}.manifest.json`].toSorted()],
      point,
    )
  }
  assert.equal(
    (await verify({ cwd: folder })).findings.map(({ kind, name }) => [kind, name]),
    [['orphan', first]],
  )
  // The old files cannot be removed: told, until they are.
  const { result } = await atPoints([{ point: 'unlink csv', act: 'fail', with: 'EIO' }], () => moveIn(made))
  assert.match(errorsOf(result).join(), /has moved, but its files at \.\/backups could not be removed: .*EIO/)
  assert.equal([result.moved, codeOfMove(result), made.list()], [1, 1, [first]])
  const seen = await verify({ cwd: folder, repair: true })
  assert.equal(
    seen.findings.map(({ kind, text }) => [kind, text]),
    [
      [
        'moved',
        'its archive has moved to ./vault, which was cut off before it was removed: "retention verify --repair --yes" removes it',
      ],
    ],
  )
  assert.equal(
    seen.repairs.map(({ action, done }) => [action, done]),
    [['remove', false]],
  )
  // In another folder of that name nothing is to be seen, and it is not taken for removed.
  renameSync(made.path('backups'), made.path('elsewhere'))
  mkdirSync(made.path('backups'))
  assert.match(errorsOf(await moveIn(made)).join(), /^Whether the files of .* are gone cannot be told/)
  // Nor is an archive's own file, where two places have become one.
  rmSync(made.path('backups'), { recursive: true })
  execSync(`ln -s vault ${made.path('backups')}`)
  assert.match(errorsOf(await moveIn(made)).join(), /is where the ledger has .*, and so is left/)
  rmSync(made.path('backups'))
  renameSync(made.path('elsewhere'), made.path('backups'))
  const finished = await moveIn(made)
  assert.equal([errorsOf(finished), finished.removed, finished.there], [[], [made.path(`backups/${first}`)], 2])
  await judge(db, 'log', made.path('vault'), rows)
  // Put back by somebody, it is neither adopted nor removed.
  made.write(`backups/${first}`, bytes.toString())
  const { findings, repairs } = await verify({ cwd: folder, repair: true, yes: true, decide: async () => true })
  assert.equal([findings.map(({ kind }) => kind), repairs.map(({ action }) => action)], [['moved'], ['leave']])
  rmSync(made.path(`backups/${first}`))
  rmSync(made.path(`vault/${first}.manifest.json`))
  assert.match(
    errorsOf(await moveIn(made, { to: './backups', yes: false })).join(),
    /There is no file .*manifest\.json/,
  )
})

/** Whatever a move was cut off at: nothing is lost, and each of three ways brings it to its end. */
async function afterKill(db: TestDatabase, made: TestProject, rows: readonly RowText[], how: string): Promise<void> {
  const { folder } = made
  // Nobody has the new target in a config: that a copy is there, the ledger alone knows.
  made.configure({ database: db.address, archive: backups })
  const { findings } = await verify({ cwd: folder })
  assert.equal(
    findings.filter(({ kind }) => kind !== 'moved'),
    [],
  )
  const everything = (): string[] =>
    [...files(made.path('backups')), ...files(made.path('vault'))]
      .map(([name]) => name)
      // By which it is known that the two are not one place: the next move removes it.
      .filter((name) => !name.includes('.probe'))
  if (how === 'repair') {
    assert.equal((await verify({ cwd: folder, repair: true, yes: true, decide: async () => true })).findings, [])
    assert.equal(everything().toSorted(), all)
  }
  if (how === 'erase') {
    const wish = { cwd: folder, now, policy: 'log', where: "body = 'customer 4711'", reason: 'x' }
    const told = (await erase({ ...wish, yes: false })).removed.toSorted()
    assert.equal(
      told,
      findings
        .map(({ location }) => location)
        .filter((file) => !file.endsWith('.tmp'))
        .toSorted(),
    )
    const erased = await erase({ ...wish, yes: true })
    assert.equal([erased.erased, erased.left], [3, []])
    const left = [...files(folder)].filter(([, bytes]) => bytes.includes('4711'))
    assert.equal(
      left.map(([name]) => name),
      [],
    )
  }
  made.configure({ database: db.address, archive: vault })
  assert.equal(errorsOf(await moveIn(made)), [])
  assert.equal([made.list(), made.list('vault').length], [[], 4])
  await judge(db, 'log', made.path('vault'), how === 'erase' ? rows.filter((row) => !row.includes('4711')) : rows)
}

overDatabases(
  test,
  'cut off anywhere: as it is on the disk before each call',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    const folders = [path.dirname(db.address.replace('sqlite:', '')), made.path('backups'), made.path('vault')]
    mkdirSync(made.path('vault'))
    const kept = mkdtempSync(path.join(tmpdir(), 'retention-states-'))
    const save = (to: string): string =>
      folders.map((folder) => `mkdir -p ${to} && cp -a ${folder} ${to}/${path.basename(folder)}`).join(' && ')
    // The folders themselves stay: they are known again.
    const put = (from: string): void => {
      for (const folder of folders) {
        for (const name of readdirSync(folder)) rmSync(path.join(folder, name), { recursive: true })
        cpSync(path.join(from, path.basename(folder)), folder, { recursive: true })
      }
    }
    try {
      execSync(save(`${kept}/whole`))
      const { points: passed } = await atPoints([], () => moveIn(made))
      const counts = new Map<string, number>()
      // With the second archive it is the same again.
      const firstEnd = passed.indexOf('commit removal') + 1
      const plans = passed.flatMap((point, at): Plan[] => {
        const nth = (counts.get(point) ?? 0) + 1
        counts.set(point, nth)
        const isSame = at > firstEnd || /^(read|open|fsync|close)|probe/.test(point)
        return isSame ? [] : [{ point, nth, act: 'run', with: save(`${kept}/${at}`) }]
      })
      put(`${kept}/whole`)
      await atPoints(plans, () => moveIn(made))
      const states = new Set<string>()
      for (const at of readdirSync(kept)
        .map(Number)
        .filter((number) => !Number.isNaN(number))
        .toSorted((a, b) => a - b)) {
        const hash = createHash('sha256')
        for (const [name, bytes] of files(`${kept}/${at}`)) hash.update(name.replace(/[0-9a-f]{12}/, '')).update(bytes)
        const state = hash.digest('hex')
        if (states.has(state)) continue
        states.add(state)
        // A person's rows must be gone whatever was left; of the other two ways, one after the other.
        for (const how of ['erase', ...([['move'], ['repair'], []][states.size % 3] ?? [])]) {
          put(`${kept}/${at}`)
          // The file is another one than before.
          const copied = connectToSqlite(db.address.replace('sqlite:', ''))
          try {
            await afterKill(copied, made, rows, how)
          } catch (error) {
            throw new Error(`${how} before ${passed[at] ?? ''} (${at}): ${String(error)}`, { cause: error })
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

overDatabases(
  test,
  'one place under two names: nothing is moved; what has the rows now is looked at before old files go',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    const { result } = await atPoints([{ point: 'unlink csv', act: 'fail', with: 'EIO' }], () => moveIn(made))
    assert.is(result.archives[0]?.moved, true)
    const name = made.list().find((file) => file.endsWith('.csv')) ?? ''
    renameSync(made.path(`vault/${name}`), made.path('away.csv'))
    const { repairs } = await verify({ cwd: made.folder, repair: true, yes: true })
    assert.equal(repairs.find((one) => one.name === name)?.done, false)
    assert.ok(made.list().includes(name))
    renameSync(made.path('away.csv'), made.path(`vault/${name}`))
    assert.equal(errorsOf(await moveIn(made)), [])
    assert.equal(made.list(), [])
    await judge(db, 'log', made.path('vault'), rows)
    const to = s3.address('twice')
    assert.equal(errorsOf(await moveIn(made, { to })), [])
    const again = moveIn(made, { to: to.replace('127.0.0.1', 'localhost') })
    await fails(again, 'REFUSED', /are one place: what is stored at one is at the other/)
    assert.equal((await verify({ cwd: made.folder })).findings, [])
  },
  ['sqlite'],
)

overDatabases(
  test,
  'killed, and a restore that waited meanwhile',
  async (scene) => {
    const { db } = scene
    const { made, rows } = await archived(scene)
    mkdirSync(made.path('vault'))
    const plan: Plan = { point: 'link csv' }
    const env = { RETENTION_WATCH: db.kind, RETENTION_POINTS: JSON.stringify([plan]) }
    const args = ['move', 'log', '--to', './vault', '--yes']
    const { signal, stderr } = await made.cli(args, { node: ['--import', points], env })
    assert.is(signal, 'SIGKILL', stderr)
    await untilAlone(db)
    await afterKill(db, made, rows, 'erase')
    // A restore that has found its archive, and then waits for a move, finds it again.
    const [name = ''] =
      (await db.rows("select name from retention_ledger where state = 'archived' order by name"))[0] ?? []
    const meanwhile = async (): Promise<void> => {
      assert.equal(errorsOf(await moveIn(made, { to: './backups' })), [])
    }
    const { result } = await atPoints([{ point: 'lock policy', meanwhile }], () =>
      restore({ cwd: made.folder, file: String(name), now }),
    )
    assert.equal([result.restored > 0, result.location], [true, made.path(`backups/${String(name)}`)])
  },
  ['postgres'],
)

test.run()
