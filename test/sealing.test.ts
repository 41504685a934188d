/** Compressed and encrypted archives: what is stored, who can open it, and what becomes of it when something is wrong. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { storedName } from '../src/archive/encoding.ts'
import { sealerOf, openerOf, type SealingOrder } from '../src/archive/seal.ts'
import { store } from '../src/archive/store.ts'
import {
  apply,
  env,
  plan,
  restore,
  RetentionError,
  status,
  verify,
  type ConfigInput,
  type PolicyInput,
  type TargetInput,
} from '../src/index.ts'
import { LocalTarget } from '../src/target/local.ts'
import { kinds, type TestDatabase } from './support/database.ts'
import { timesOf } from './support/depth.ts'
import { compareRows, judge, tableRows, type RowText } from './support/judge.ts'
import { fails } from './support/fails.ts'
import { atPoints } from './support/points.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'
import { unseal } from './support/unseal.ts'

const test = suite('sealing')

const cutoff = '2026-05-16T00:00:00Z'
const password = 'correct horse "battery" staple'
const identity = await generateX25519Identity()
const recipient = await identityToRecipient(identity)
const other = await generateX25519Identity()
const stranger = await generateX25519Identity()
const keys = { password, identity }

const { RETENTION_ZIP_PASSWORD: _none, ...environment } = process.env
test.before.each(() => {
  process.env = { ...environment, RETENTION_ZIP_PASSWORD: password, RETENTION_AGE_IDENTITY: identity }
})
test.after(() => {
  process.env = environment
})

const zip = { zip: { password: env('RETENTION_ZIP_PASSWORD') } }
const sealings: Record<string, Partial<TargetInput>> = {
  '.gz': { compress: 'gzip' },
  '.zip': { encrypt: zip },
  '.zst.age': { compress: { zstd: 3 }, encrypt: { age: [recipient, await identityToRecipient(other)] } },
}
const sealed = (sealing: Partial<TargetInput> | undefined) => ({
  archive: { to: './backups', durable: true, ...sealing },
})

/** A log with rows that are due, archived. */
async function archived(
  { db, project }: Scene,
  sealing: Partial<TargetInput> | undefined,
): Promise<{ made: TestProject; original: RowText[]; file: string }> {
  await seedLog(db, [...minutesBefore(cutoff, 40), '2099-01-01T00:00:00Z'], `'텍스트 "x" ' || id`)
  const original = await tableRows(db, 'log')
  const made = project({ log: logPolicy }, sealed(sealing))
  const [report] = (await apply({ cwd: made.folder, now })).policies
  assert.is(report?.status, 'applied', JSON.stringify(report?.error))
  return { made, original, file: path.basename(report?.archives[0]?.location ?? '') }
}

/** Puts the CSVs of sealed archives, opened from outside, with their manifests into a folder of their own. */
async function opened(made: TestProject): Promise<string> {
  rmSync(made.path('opened'), { recursive: true, force: true })
  for (const name of made.list().filter((file) => !file.endsWith('.tmp'))) {
    const bytes = readFileSync(made.path(`backups/${name}`))
    const isSealed = !name.endsWith('.json') && !name.endsWith('.csv')
    mkdirSync(made.path('opened'), { recursive: true })
    writeFileSync(
      made.path(`opened/${name.replace(/(\.csv)[.a-z]*$/, isSealed ? '$1' : '$&')}`),
      isSealed ? await unseal(name, bytes, keys) : bytes,
    )
  }
  return made.path('opened')
}

async function failure(work: Promise<unknown>): Promise<RetentionError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof RetentionError) return error
  throw error instanceof Error ? error : new Error('it did not fail')
}

async function states(db: TestDatabase): Promise<string> {
  return (await db.rows('select name, state from retention_ledger order by name')).join(' ')
}

overDatabases(
  test,
  'there and back in every form, opened by others, by its ledger and by its manifest',
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, [...minutesBefore(cutoff, 40), '2099-01-01T00:00:00Z'], `'텍스트 "x" ' || id`)
    const original = await tableRows(db, 'log')
    const made = project()
    for (const [ending, sealing] of Object.entries(sealings)) {
      rmSync(made.path('backups'), { recursive: true, force: true })
      made.configure({ database: db.address, ...sealed(sealing) })
      const [planned] = (await plan({ cwd: made.folder, now })).policies
      const [report] = (await apply({ cwd: made.folder, now })).policies
      assert.is(report?.status, 'applied', JSON.stringify(report?.error))
      const { name = '', location = '', bytes } = report?.archives[0] ?? {}
      assert.equal(made.list(), [`${name}.manifest.json`, `${name}${ending}`].toSorted())
      assert.is(location, made.path(`backups/${name}${ending}`))
      assert.is(planned?.archives[0]?.location, location)
      assert.is(bytes, readFileSync(location).length)
      await judge(db, 'log', await opened(made), original)
      const checked = await verify({ cwd: made.folder })
      assert.equal([checked.findings, checked.unopened, checked.rows, checked.bytes], [[], [], 40, bytes])
      assert.is((await restore({ cwd: made.folder, file: `${name}${ending}`, now, hold: 'none' })).location, location)
      compareRows(await tableRows(db, 'log'), original)

      const [again] = (await apply({ cwd: made.folder, now })).policies
      const second = again?.archives[0]?.location ?? ''
      await db.run('delete from retention_ledger')
      const byManifest = await restore({ cwd: made.folder, file: second, now, hold: 'none', onConflict: 'skip' })
      assert.is(byManifest.state, 'restored')
      compareRows(await tableRows(db, 'log'), original)
      assert.equal((await verify({ cwd: made.folder, files: [second] })).findings, [])
    }
  },
)

overDatabases(
  test,
  'bytes that have changed, and files cut off: told by verify, and only the very rows come back',
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, minutesBefore(cutoff, 40))
    const original = await tableRows(db, 'log')
    const made = project()
    for (const sealing of Object.values(sealings)) {
      made.configure({ database: db.address, ...sealed(sealing) })
      const location = (await apply({ cwd: made.folder, now })).policies[0]?.archives[0]?.location ?? ''
      const whole = readFileSync(location)
      const places = [0.1, 0.5, 1].map((share) => Math.floor(share * (whole.length - 1)))
      const changed = places.map((at) => {
        const bytes = Buffer.from(whole)
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8))
        return bytes
      })
      const cut = whole.subarray(0, places[1])
      for (const bytes of [...changed, cut, Buffer.concat([whole, Buffer.from('x')])]) {
        writeFileSync(location, bytes)
        const outcome = await restore({ cwd: made.folder, file: location, now, hold: 'none' }).catch(
          (error: unknown) => error,
        )
        if (outcome instanceof Error) {
          assert.ok(outcome instanceof RetentionError && outcome.code === 'ARCHIVE_CHANGED', outcome.message)
          assert.is(Number(await db.value('select count(*) from log')), 0)
        } else {
          // What a header says of times and systems is no part of what is sealed.
          compareRows(await tableRows(db, 'log'), original)
          await db.run(`delete from log; update retention_ledger set state = 'archived', restored_at = null`)
        }
        const { findings, unopened } = await verify({ cwd: made.folder, files: [location] })
        assert.equal([findings.map(({ kind }) => kind), unopened], [['changed'], []])
      }
      writeFileSync(location, whole)
      assert.is((await restore({ cwd: made.folder, file: location, now, hold: 'none' })).restored, 40)
    }
  },
)

for (const ending of ['.zip', '.zst.age']) {
  overDatabases(
    test,
    `${ending} without its key, and with a wrong one: said so, and nothing touched`,
    async (scene) => {
      const { db } = scene
      const { made, file, original } = await archived(scene, sealings[ending])
      const before = `${await states(db)} ${made.list().join()}`
      const untouched = async (): Promise<void> => {
        assert.is(`${await states(db)} ${made.list().join()}`, before)
        assert.is(Number(await db.value('select count(*) from log')), 1)
      }
      for (const [code, given] of [
        ['KEY_MISSING', undefined],
        ['KEY_WRONG', ending === '.zip' ? 'wrong' : stranger],
      ] as const) {
        process.env['RETENTION_ZIP_PASSWORD'] = given ?? ''
        process.env['RETENTION_AGE_IDENTITY'] = given ?? ''
        for (const onConflict of ['error', 'skip'] as const) {
          const error = await failure(restore({ cwd: made.folder, file, now, onConflict }))
          assert.is(error.code, code, error.message)
          assert.not.ok(given !== undefined && `${error.message}${error.hint}`.includes(given))
          await untouched()
        }
        const { findings, unopened, rows } = await verify({ cwd: made.folder, deep: true })
        assert.equal([findings, unopened.map(({ name }) => name), rows], [[], [file], 0])
        // What was stored is looked at all the same.
        const location = made.path(`backups/${file}`)
        const whole = readFileSync(location)
        writeFileSync(location, Buffer.concat([whole, Buffer.from('x')]))
        assert.is((await verify({ cwd: made.folder })).findings[0]?.kind, 'changed')
        assert.is((await failure(restore({ cwd: made.folder, file, now }))).code, 'ARCHIVE_CHANGED')
        writeFileSync(location, whole)
      }
      // Somebody who is asked has it; once is enough.
      let asked = 0
      const askForKey = async (): Promise<string> => {
        asked += 1
        return ending === '.zip' ? password : identity
      }
      process.env['RETENTION_ZIP_PASSWORD'] = ''
      process.env['RETENTION_AGE_IDENTITY'] = ''
      await restore({ cwd: made.folder, file, now, askForKey })
      assert.is(asked, 1)
      compareRows(await tableRows(db, 'log'), original)
    },
    ending === '.zip' ? kinds : ['sqlite'],
  )
}

overDatabases(
  test,
  'every policy may have a password of its own; a policy with a mistake is not in the way of opening',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 5))
    await db.run('create table other as select * from log')
    const original = [await db.dump('log'), await db.dump('other')]
    const named = (name: string): Partial<PolicyInput> => ({
      archive: { to: './backups', durable: true, encrypt: { zip: { password: env(name) } } },
    })
    const made = project({
      log: { ...logPolicy, ...named('LOG_PASSWORD') },
      other: { ...logPolicy, table: 'other', ...named('OTHER_PASSWORD') },
    })
    Object.assign(process.env, { LOG_PASSWORD: 'one', OTHER_PASSWORD: 'two', RETENTION_ZIP_PASSWORD: 'three' })
    const { policies } = await apply({ cwd: made.folder, now })
    const { findings, unopened } = await verify({ cwd: made.folder })
    assert.equal([findings, unopened], [[], []])
    made.write('policies/wrong.json', '{ "table": 5 }')
    for (const { archives } of policies)
      await restore({ cwd: made.folder, file: archives[0]?.name ?? '', now, hold: 'none' })
    assert.equal([await db.dump('log'), await db.dump('other')], original)
    delete process.env['OTHER_PASSWORD']
    const file = policies[1]?.archives[0]?.name ?? ''
    await fails(restore({ cwd: made.folder, file, now }), 'KEY_WRONG', /^None of 2 passwords is the one that/)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a key is in no output, ledger or manifest; without the one to seal with, nothing is begun',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project(undefined, sealed({ encrypt: { zip: { password: env('LOG_PASSWORD') } } }))
    for (const [value, what] of [
      [undefined, /the password in LOG_PASSWORD, which is empty/],
      ['pässwort', /letters that zip programs read in different ways/],
    ] as const) {
      process.env['LOG_PASSWORD'] = value
      if (value === undefined) delete process.env['LOG_PASSWORD']
      for (const command of [plan, apply]) {
        const [report] = (await command({ cwd: made.folder, now })).policies
        assert.equal([report?.status, report?.error?.code, report?.archived], ['refused', 'KEY_MISSING', 0])
        assert.match(report?.error?.message ?? '', what)
        assert.not.match(JSON.stringify(report), /pässwort/)
      }
    }
    assert.equal(made.list(), [])
    const secret = 'tr0ub4dor&3'
    const run = await made.run(['apply', '--json'], { env: { LOG_PASSWORD: secret } })
    assert.is(run.code, 0, run.stderr)
    const entries = JSON.stringify(await db.rows('select * from retention_ledger'), (_, value: unknown) =>
      String(value),
    )
    const files = made.list().map((file) => made.read(`backups/${file}`))
    for (const text of [run.stdout, run.stderr, entries, ...files]) assert.not.ok(text.includes(secret))
  },
  ['sqlite'],
)

overDatabases(test, 'children: each file is sealed, and all come back', async ({ db, project }) => {
  const [key, time] =
    db.kind === 'sqlite' ? ['integer primary key autoincrement', 'text'] : ['bigint primary key', 'timestamptz']
  await db.run(
    `create table parent (id ${key}, at ${time});
    create table child (id ${key}, parent_id bigint references parent (id) on delete cascade, body text);
    create table note (id ${key}, child_id bigint references child (id) on delete set null);
    insert into parent values (1, '2020-01-01T00:00:00Z'), (2, '2099-01-01T00:00:00Z');
    insert into child values (10, 1, 'a'), (11, 1, ''), (12, 2, null);
    insert into note values (100, 10), (101, null)`,
  )
  const tables = ['parent', 'child', 'note'] as const
  const dumps = async (): Promise<string> => (await Promise.all(tables.map((table) => db.dump(table)))).join('\n')
  const before = await dumps()
  const made = project(
    { parent: { table: 'parent', column: 'at', days: 30, children: 'archive' } },
    sealed({ compress: { gzip: 9 }, encrypt: { age: [recipient] } }),
  )
  for (const forgets of [false, true]) {
    const [report] = (await apply({ cwd: made.folder, now })).policies
    const { name = '' } = report?.archives[0] ?? {}
    const stem = name.replace('.csv', '')
    assert.equal(
      made.list().filter((file) => file.startsWith(`${stem}.`)),
      [`${stem}.child.csv.gz.age`, `${stem}.csv.gz.age`, `${stem}.csv.manifest.json`, `${stem}.note.links.csv.gz.age`],
    )
    const { findings, unopened } = await verify({ cwd: made.folder, deep: true })
    assert.equal([findings, unopened], [[], []])
    if (forgets) await db.run('delete from retention_ledger')
    // Named by one of its further files.
    await restore({ cwd: made.folder, file: made.path(`backups/${stem}.child.csv.gz.age`), now, hold: 'none' })
    assert.is(await dumps(), before)
  }
})

overDatabases(test, 'a redaction: what columns held is sealed, and comes back', async ({ db, project }) => {
  await seedLog(db, minutesBefore(cutoff, 3))
  const before = await tableRows(db, 'log')
  const redact = { ...logPolicy, action: 'redact', set: { body: 'removed' } } as const
  const made = project({ log: redact }, sealed(sealings['.zst.age']))
  const [report] = (await apply({ cwd: made.folder, now })).policies
  assert.equal([report?.archived, report?.error], [3, undefined])
  const { findings, unopened } = await verify({ cwd: made.folder, deep: true })
  assert.equal([findings, unopened], [[], []])
  const file = report?.archives[0]?.name ?? ''
  assert.is((await restore({ cwd: made.folder, file, now })).location, made.path(`backups/${file}.zst.age`))
  compareRows(await tableRows(db, 'log'), before)
})

overDatabases(test, 'what the ledger does not know: set aside or adopted, as plain archives are', async (scene) => {
  const { db } = scene
  const { made, file } = await archived(scene, sealings['.zip'])
  const before = made.list()
  await db.run('create table kept as select * from retention_ledger; delete from retention_ledger')
  process.env['RETENTION_ZIP_PASSWORD'] = 'wrong'
  const closed = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
  assert.equal(
    closed.repairs.map(({ action, name }) => `${action} ${name}`),
    [`leave ${file}`],
  )
  process.env['RETENTION_ZIP_PASSWORD'] = password
  const adopted = await verify({ cwd: made.folder, repair: true, yes: true, decide: async () => true })
  assert.equal([adopted.repairs.map(({ action, done }) => `${action} ${done}`), adopted.findings], [['adopt true'], []])
  const facts = 'name, location, path, encoding, bytes, sha256, stored_sha256, manifest_sha256, files'
  assert.equal(await db.rows(`select ${facts} from retention_ledger`), await db.rows(`select ${facts} from kept`))
  assert.is((await status({ cwd: made.folder, now })).archives[0]?.encoding, 'zip')

  await restore({ cwd: made.folder, file, now, hold: 'none' })
  await db.run('delete from retention_ledger')
  writeFileSync(made.path(`backups/.${file}.00ff.tmp`), 'unfinished')
  const aside = await verify({ cwd: made.folder, repair: true, yes: true })
  assert.equal(
    aside.repairs.map(({ action, done }) => `${action} ${done}`),
    ['set-aside true', 'set-aside true'],
  )
  assert.equal(aside.findings, [])
  assert.equal(made.list('backups/set-aside'), [`.${file}.00ff.tmp`, ...before])
})

overDatabases(test, 'cut off at any point: the rows are in the table or in the archive', async (scene) => {
  const { db, project } = scene
  await seedLog(db, [...minutesBefore(cutoff, 3), '2099-01-01T00:00:00Z'])
  const original = await tableRows(db, 'log')
  const made = project(undefined, sealed(sealings['.zip']))
  await apply({ cwd: made.folder, now, before: '2000-01-01' })
  const kill = db.kind === 'sqlite' ? { point: 'open csv' } : { point: 'commit step', phase: 'after' }
  const { signal } = await made.cli(['apply'], {
    node: ['--import', path.join(import.meta.dirname, 'support/points.ts')],
    env: { RETENTION_WATCH: db.kind, RETENTION_POINTS: JSON.stringify([kill]) },
  })
  assert.is(signal, 'SIGKILL')
  await judge(db, 'log', await opened(made), original)
})

overDatabases(
  test,
  'a policy is sealed as the config says, and otherwise only if it says so',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project(undefined, sealed(sealings['.zip']))
    for (const [archive, ending] of [
      ['./elsewhere', '.zip'],
      [{ to: './elsewhere', encrypt: false }, ''],
      [{ to: './elsewhere', encrypt: false, compress: 'zstd' }, '.zst'],
      [{ to: './elsewhere', encrypt: { age: [recipient] } }, '.age'],
    ] as const) {
      const target = typeof archive === 'string' ? { to: archive } : archive
      made.policy('log', { ...logPolicy, archive: { durable: true, ...target } })
      const [report] = (await apply({ cwd: made.folder, now })).policies
      const { name = '', location = '' } = report?.archives[0] ?? {}
      assert.is(location, made.path(`elsewhere/${name}${ending}`), JSON.stringify(report?.error))
      await restore({ cwd: made.folder, file: location, now, hold: 'none' })
    }
    made.policy('log', { ...logPolicy, archive: { to: './elsewhere', compress: 'gzip' } })
    const error = await failure(apply({ cwd: made.folder, now }))
    assert.match(error.message, /"archive\.compress" is given where archives are zips/)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'what cannot be read back as the CSV is no archive',
  async (scene) => {
    const { db, project } = scene
    await seedLog(db, minutesBefore(cutoff, 3))
    const made = project(undefined, sealed(sealings['.gz']))
    const { result } = await atPoints(
      [{ point: 'open csv', act: 'run', with: `for file in ${made.path('backups')}/*.gz; do printf x >> $file; done` }],
      () => apply({ cwd: made.folder, now }),
    )
    assert.is(result.policies[0]?.error?.code, 'ARCHIVE_CHANGED')
    assert.is(Number(await db.value('select count(*) from log')), 3)
    assert.equal(made.list(), [])
  },
  ['sqlite'],
)

test('a source that fails, and a disk that is full: told as they are, with nothing left', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-sealing-'))
  const target = new LocalTarget(folder, folder, true)
  await target.prepare()
  try {
    for (const order of orders) {
      const sealer = await sealerOf(order)
      let isClosed = false
      async function* failing(): AsyncGenerator<Buffer> {
        try {
          for (let block = 0; block < 4; block += 1) yield randomBytes(512 * 1024)
          throw new TypeError('the database has gone')
        } finally {
          isClosed = true
        }
      }
      const failed = await store(target, 'a.csv', failing(), undefined, sealer).catch((error: unknown) => error)
      assert.ok(failed instanceof TypeError && failed.message === 'the database has gone', String(failed))
      assert.ok(isClosed)
      const { result } = await atPoints([{ point: 'write csv.tmp', nth: 2, act: 'fail', with: 'ENOSPC' }], () =>
        store(target, 'a.csv', failing(), undefined, sealer).catch((error: unknown) => error),
      )
      assert.ok(result instanceof RetentionError && result.code === 'TARGET_UNUSABLE', String(result))
      assert.match(result.message, /ENOSPC/)
      assert.equal(await target.list(), [])
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a seal that loses something is found out by reading back', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'retention-sealing-'))
  const target = new LocalTarget(folder, folder, true)
  await target.prepare()
  try {
    const sealer = await sealerOf({ compress: 'gzip', encrypt: false })
    if (sealer === undefined) throw new TypeError('gzip is one')
    const lossy = {
      ...sealer,
      begin: (name: string) => ({
        ...sealer.begin(name),
        close: (bytes: AsyncIterable<Buffer>) => sealer.begin(name).close(shortened(bytes)),
      }),
    }
    const csv = [Buffer.from('"x"\n1\n'), Buffer.from('2\n')]
    assert.is((await failure(store(target, 'a.csv', csv, undefined, lossy))).code, 'ARCHIVE_CHANGED')
    assert.equal(await target.list(), [])
    const stored = await store(target, 'a.csv', csv, undefined, sealer)
    assert.equal([stored.records, stored.bytes, await target.list()], [2, 8, [storedName('a.csv', 'gzip')]])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

async function* shortened(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) yield chunk.subarray(0, chunk.length - 1)
}

test('what configuration says wrong is told without what may be a secret', async () => {
  const secret = 'AGE-SECRET-KEY-1QQQ hunter2'
  const archives: [unknown, RegExp][] = [
    [{ encrypt: secret }, /"archive\.encrypt" is not as it should be; allowed: \{ zip/],
    [{ encrypt: { zip: secret } }, /"archive\.encrypt\.zip" is not/],
    [{ encrypt: { zip: { password: secret } } }, /the name of an environment variable, never the password itself/],
    [{ encrypt: { zip: { password: { env: secret } } } }, /the name of an environment variable/],
    [{ encrypt: { zip: { ...zip.zip, level: 10 } } }, /"archive\.encrypt\.zip\.level"/],
    [{ encrypt: { age: [recipient, secret] } }, /a public key, such as "age1…", and never a private one/],
    [{ encrypt: { age: [] } }, /a list of public keys/],
    [{ encrypt: { ...zip, age: [recipient] } }, /unknown field "archive\.encrypt\.age"/],
    [{ encrypt: zip, compress: 'gzip' }, /"archive\.compress" is given where archives are zips/],
    [{ compress: 'bzip2' }, /"archive\.compress" is "bzip2"; allowed: "gzip", "zstd", \{ gzip: 1 to 9 \}/],
    [{ compress: { gzip: 10 } }, /"archive\.compress/],
  ]
  for (const [archive, message] of archives) {
    // As somebody may write it who does not mind the types.
    const config = { archive: Object.assign({ to: './backups' }, archive) } as ConfigInput
    const error = await failure(apply({ config }))
    assert.is(error.code, 'CONFIG_INVALID')
    assert.match(error.message, message)
    assert.not.match(error.message, /QQQ|hunter2/)
  }
})

const orders: readonly SealingOrder[] = [
  { compress: 'gzip', encrypt: false },
  { compress: 'zstd', encrypt: false },
  { compress: false, encrypt: { zip: { password } } },
  { compress: false, encrypt: { age: [recipient] } },
  { compress: 'zstd', encrypt: { age: [recipient] } },
]

test('any bytes come back, however they are cut into pieces', async () => {
  const source = { zipPasswords: async () => ['another', password], ageIdentities: async () => [other, identity] }
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    // More than one piece of any of the ciphers: of what compresses well, and of what does not.
    fc.integer({ min: 0, max: 3 * 65_536 }).map((length) => randomBytes(length)),
    fc.integer({ min: 0, max: 1_000_000 }).map((length) => Buffer.alloc(length, '안녕,"x"\n')),
  )
  const piece = fc.integer({ min: 1, max: 100_000 })
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...orders), bytes, piece, piece, async (order, input, first, second) => {
      const sealer = await sealerOf(order)
      const seal = sealer?.begin('x.csv')
      if (sealer === undefined || seal === undefined) throw new TypeError('each seals')
      const plain = Buffer.from(input)
      const stored = await joined(seal.close(pieces(plain, Math.max(first, plain.length >> 9))))
      const size = Math.max(second, stored.length >> 9)
      assert.ok((await joined(seal.open(pieces(stored, size)))).equals(plain), 'opened by whoever sealed it')
      const open = await openerOf(sealer.encoding, 'x', source)
      assert.ok((await joined(open(pieces(stored, size)))).equals(plain), 'opened by its key')
      if (plain.length < 300)
        assert.ok((await unseal(storedName('x.csv', sealer.encoding), stored, keys)).equals(plain))
    }),
    { numRuns: timesOf(20) },
  )
})

/** Pieces that are valid until the next alone: what has kept one sees it overwritten. */
async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  const block = Buffer.alloc(size)
  for (let at = 0; at < bytes.length; at += size) {
    const copied = bytes.copy(block, 0, at)
    yield block.subarray(0, copied)
    block.fill(0xff)
  }
}

async function joined(bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of bytes) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

test.run()
