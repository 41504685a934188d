/** S3 as target: what is promised of stored files, against a real service that breaks when it is told to. */
import { createHash } from 'node:crypto'
import { inspect } from 'node:util'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { store, storeText } from '../src/archive/store.ts'
import { checkConfig } from '../src/config/config.ts'
import { parseS3Address } from '../src/config/s3-address.ts'
import {
  apply,
  erase,
  getArchive,
  plan,
  prune,
  query as ask,
  readArchive,
  restore,
  status,
  verify,
} from '../src/index.ts'
import { openTarget } from '../src/target/open.ts'
import { partSize } from '../src/target/s3-upload.ts'
import type { Target } from '../src/target/target.ts'
import {
  archivesAndRestores,
  bytesOf,
  failureOf,
  overwritesNothing,
  piecesOf,
  storesAndReads,
  type Place,
} from './support/places.ts'
import { credentials, startS3, type Fault, type TestS3 } from './support/s3.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

Object.assign(process.env, credentials, { AWS_MAX_ATTEMPTS: '2', AWS_EC2_METADATA_DISABLED: 'true' })
// A bucket outlives the machine, where a folder would be refused.
process.env['CI'] = 'true'
const s3: TestS3 = await startS3()
const test = suite('s3')

let folders = 0
test.before.each(() => {
  s3.fault = undefined
  s3.pageSize = 1000
  s3.log.length = 0
  folders += 1
})
test.after(() => s3.stop())

/** The target of a folder that is new in each test. */
const newTarget = (settings: object = {}): Target =>
  openTarget({ to: s3.address(`f${folders}`), durable: false, bom: true, ...settings }, '/')
const key = (file: string): string => `f${folders}/${file}`
const here = (): string[] => s3.keys().filter((name) => name.startsWith(key('')))

/** The folder that is new in each test, as a place. */
const herePlace = (): Place => ({
  to: s3.address(`f${folders}`),
  locate: (file) => `s3://archives/${key(file)}`,
  newTarget,
  names: () => here().map((name) => name.slice(key('').length)),
  read: (file) => s3.read(key(file)),
})

/** Two parts: a whole one and a rest. */
const large = Buffer.alloc(5_600_000, 'row of a table\n')
const pieces = (): Buffer[] => piecesOf(large)

overDatabases(test, 'archives, verifies and restores, by name and by address', async (scene) => {
  await archivesAndRestores(scene, herePlace(), async (folder) => {
    // A service that is down has lost nothing; what may not be looked for is not said to be missing.
    breaks('LIST UPLOADS', { status: 403, code: 'AccessDenied' })
    assert.match((await failureOf(verify({ cwd: folder }))).message, /cannot be listed: access is denied/)
    breaks('LIST UPLOADS', { status: 501, code: 'NotImplemented' }, 99)
    assert.equal((await verify({ cwd: folder })).findings, [])
    s3.fault = () => ({ status: 403, code: 'AccessDenied' })
    assert.is((await failureOf(verify({ cwd: folder }))).code, 'TARGET_UNUSABLE')
    s3.fault = undefined
  })
})

test('stores small and large files, and reads them back', async () => {
  s3.pageSize = 2
  await storesAndReads(herePlace(), large)
  assert.is(s3.log.filter((line) => line === `UPLOAD PART ${key('large.csv')}`).length, 3)
  assert.equal(s3.uploads(), [])
})

test('publishing overwrites nothing; of several at once one wins', async () => {
  await overwritesNothing(herePlace(), large)
  assert.equal(s3.uploads(), [])
})

test('an address says where, and never who; what is for S3 alone is refused of folders', () => {
  const parsed = parseS3Address('s3://bucket//a//b/?region=eu-west-1&endpoint=https://S3.example.com/')
  const endpoint = 'https://s3.example.com'
  assert.equal(parsed, { bucket: 'bucket', prefix: 'a/b/', region: 'eu-west-1', endpoint, pathStyle: true })
  assert.is(parseS3Address('s3://bucket')?.pathStyle, false)
  const mistakesIn = (archive: unknown): string => {
    const checked = checkConfig({ database: 'sqlite:x', archive }, 'config', '/')
    return 'mistakes' in checked ? checked.mistakes.map(({ text }) => text).join() : ''
  }
  for (const address of [
    's3://AKIA1:hush@bucket/x',
    's3://bucket/x?endpoint=https://AKIA1:hush@host',
    's3://bucket/x?endpoint=https%3A%2F%2FAKIA1%3Ahush%40host',
    's3://bucket/x?accessKeyId=AKIA1&secretAccessKey=hush',
    's3://bucket/../x',
    's3://bucket/x?endpoint=host:9000',
    's3://',
  ]) {
    assert.match(mistakesIn(address), /allowed: "s3:\/\/bucket\/prefix"/, address)
    assert.match(mistakesIn({ to: address }), /field "archive.to"/, address)
    assert.not.match(mistakesIn(address), /AKIA1|hush/, address)
  }
  assert.match(mistakesIn({ to: './x', storageClass: 'STANDARD_IA' }), /a folder without storageClass/)
  assert.match(mistakesIn({ to: 's3://bucket', storageClass: 'GLACIER' }), /that can be read at once/)
  assert.match(
    mistakesIn({ to: 's3://bucket', objectLock: { mode: 'COMPLIANCE' } }),
    /has no "days", and archives never/,
  )
  assert.match(mistakesIn({ to: 's3://bucket', objectLock: { mode: 'NONE', days: 1 } }), /"GOVERNANCE" or "COMPLIANCE"/)
  const whole = { storageClass: 'STANDARD_IA', sseKmsKey: 'alias/x', objectLock: { mode: 'COMPLIANCE', days: 30 } }
  assert.is(mistakesIn({ to: 's3://bucket', ...whole }), '')
})

test('a file of any size has no more parts than a service takes', () => {
  const sizes = Array.from({ length: 10_000 }, (_, index) => partSize(index + 1))
  assert.ok(sizes.every((size) => size >= 5 * 2 ** 20))
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) > 350e9)
  assert.ok(sizes.slice(0, 5000).every((size) => size === sizes[0]))
})

/** Breaks requests of these operations, so many of them, the first ones passing. */
const breaks = (operation: string, fault: Fault, times = 1, first = 0): void => {
  let seen = 0
  s3.fault = (request) => {
    if (request.operation !== operation) return undefined
    seen += 1
    return seen > first && seen <= first + times ? fault : undefined
  }
}
const slowDown: Fault = { status: 503, code: 'SlowDown', message: 'Please reduce your request rate.' }

test('what breaks on the way is sent again: parts cut off, a busy service, a conflict', async () => {
  const target = newTarget()
  const conflict: Fault = { status: 409, code: 'ConditionalRequestConflict' }
  const faults: Record<string, (Fault | undefined)[]> = {
    'UPLOAD PART': ['cut', undefined, slowDown],
    COMPLETE: [{ status: 200, code: 'InternalError' }, conflict],
    PUT: [conflict, conflict],
  }
  s3.fault = ({ operation }) => faults[operation]?.shift()
  await store(target, 'large.csv', pieces())
  await storeText(target, 'small.csv', 'x')
  assert.equal(Object.values(faults), [[], [], []])
  assert.ok(s3.read(key('large.csv')).equals(large))
  assert.equal([here(), s3.uploads()], [['large.csv', 'small.csv'].map(key), []])
})

test('an answer that is lost is no failure: what is in the way then is our own', async () => {
  const target = newTarget()
  breaks('PUT', 'lose')
  await storeText(target, 'small.csv', 'x')
  breaks('COMPLETE', 'lose')
  await store(target, 'large.csv', pieces())
  // Also where no answer comes at all.
  breaks('PUT', 'lose', 99)
  await storeText(target, 'never.csv', 'x')
  assert.equal(here(), ['large.csv', 'never.csv', 'small.csv'].map(key))
  breaks('PUT', 'cut')
  assert.is((await failureOf(storeText(target, 'small.csv', 'y'))).code, 'ARCHIVE_EXISTS')
  assert.is(String(s3.read(key('small.csv'))), 'x')
})

test('what fails leaves nothing: no object, no unfinished upload', async () => {
  const target = newTarget()
  const source = async function* (): AsyncGenerator<Buffer> {
    yield* pieces()
    throw new Error('the source broke')
  }
  assert.match((await failureOf(store(target, 'a.csv', source()))).message, /the source broke/)
  breaks('UPLOAD PART', { status: 500, code: 'InternalError' }, 99)
  const busy = await failureOf(store(target, 'a.csv', pieces()))
  assert.is(busy.code, 'TARGET_UNUSABLE')
  assert.match(busy.message, /cannot (write|store) a\.csv: .*InternalError/)
  breaks('PUT', 'corrupt')
  assert.match(
    (await failureOf(storeText(target, 'a.csv', 'x'))).message,
    /cannot store a\.csv: .*(Sha|SHA)256Mismatch/,
  )
  breaks('UPLOAD PART', 'corrupt', 1, 1)
  assert.match((await failureOf(store(target, 'a.csv', pieces()))).message, /(Sha|SHA)256Mismatch/)
  assert.equal([here(), s3.uploads()], [[], []])
  // What comes back is compared all the same.
  breaks('GET', { status: 200, code: 'other bytes' })
  assert.is((await failureOf(storeText(target, 'a.csv', 'x'))).code, 'ARCHIVE_CHANGED')
  assert.equal(here(), [])
})

test('reading goes on over a connection that breaks, and never into another file', async () => {
  const target = newTarget()
  await store(target, 'a.csv', pieces())
  breaks('GET', { cutAfter: 2_000_000 }, 2)
  assert.ok((await bytesOf(await target.read('a.csv'))).equals(large))
  assert.is(s3.log.filter((line) => line.startsWith('GET')).length, 4)
  const answers: Fault[] = [{ status: 412, code: 'PreconditionFailed' }, { cutAfter: 1000 }]
  s3.fault = ({ operation }) => (operation === 'GET' ? answers.pop() : undefined)
  assert.is((await failureOf(bytesOf(await target.read('a.csv')))).code, 'ARCHIVE_CHANGED')
  // Whoever has seen enough need not wait for the rest.
  s3.fault = undefined
  for await (const chunk of await target.read('a.csv')) {
    assert.ok(chunk.length > 0)
    break
  }
})

test('unfinished uploads are listed as such, and given up; a file is set aside whole', async () => {
  const target = newTarget()
  const draft = await target.create('log_backup_20260516.csv')
  for (const piece of pieces()) await draft.write(piece)
  await storeText(target, 'other.csv', 'x')
  // Another folder's are not ours.
  const others = await openTarget({ to: s3.address(`f${folders}/below`), durable: false, bom: true }, '/').create(
    'z.csv',
  )
  for (const piece of pieces()) await others.write(piece)
  s3.pageSize = 1
  const names = await target.list()
  const unfinished = names.find((name) => name.endsWith('.tmp')) ?? ''
  assert.match(unfinished, /^\.log_backup_20260516\.csv\.[0-9a-f]{12}\.tmp$/)
  assert.is(names.length, 2)
  await target.setAside(unfinished)
  assert.equal(s3.uploads(), [key('below/z.csv')])
  await others.discard()
  assert.equal([s3.uploads(), await target.list()], [[], ['other.csv']])
  // Whoever was at work on it is told.
  assert.match((await failureOf(draft.publish())).message, /NoSuchUpload/)
  const again = await target.create('log_backup_20260516.csv')
  for (const piece of pieces()) await again.write(piece)
  for (const name of await target.list()) if (name.endsWith('.tmp')) await target.remove(name)
  assert.equal([s3.uploads(), await target.list()], [[], ['other.csv']])
  await target.setAside('other.csv')
  await storeText(target, 'other.csv', 'y')
  await target.setAside('other.csv')
  assert.equal(here(), ['set-aside/other.csv', 'set-aside/other.csv.1'].map(key))
  assert.equal(await target.list(), [])
  assert.is(String(s3.read(key('set-aside/other.csv.1'))), 'y')
})

test('a service that overwrites is refused, whichever of its requests does', async () => {
  for (const operation of ['PUT', 'COMPLETE']) {
    breaks(operation, 'overwrite', 99)
    // A name of its own: what is proven of a service is so for the process.
    const { port } = new URL(s3.endpoint)
    const to = `s3://archives/x?endpoint=http://localhost:${port}/`
    const error = await failureOf(openTarget({ to, durable: false, bom: true }, '/').prepare())
    assert.is(error.code, 'TARGET_UNUSABLE')
    assert.match(
      error.message,
      new RegExp(`http://localhost:${port} overwrites files: .* in ${operation === 'PUT' ? 'Put' : 'Complete'}`),
    )
    assert.equal([s3.keys().filter((name) => name.startsWith('x/')), s3.uploads()], [[], []])
  }
})

test('says what is wrong with bucket, credentials and clock, and no secret', async () => {
  const target = newTarget()
  const date = new Date(Date.now() - 3_600_000).toUTCString()
  const cases: [Fault, RegExp][] = [
    [
      { status: 400, code: 'ExpiredToken', message: 'The token has expired' },
      /cannot be read: the credentials have expired/,
    ],
    [{ status: 403, code: 'RequestTimeTooSkewed', headers: { date } }, /clock is off by about 3\d\d\d seconds, ahead/],
    [{ status: 403, code: 'InvalidAccessKeyId', message: 'AKIAABCDEFGHIJKL' }, /does not take the credentials/],
    [{ status: 403, code: 'AccessDenied', message: 'AKIAABCDEFGHIJKL may not' }, /access is denied: \*\*\* may not/],
    [{ status: 400, code: 'AuthorizationHeaderMalformed', message: "expecting 'eu-west-1'" }, /expecting 'eu-west-1'/],
    [slowDown, /Please reduce your request rate\. \(SlowDown\), also when tried again/],
  ]
  for (const [fault, expected] of cases) {
    breaks('LIST', fault, 99)
    const error = await failureOf(target.check())
    assert.is(error.code, 'TARGET_UNUSABLE')
    assert.match(error.message, expected)
    assert.not.match(inspect(error, { showHidden: true, depth: 9 }), /AKIA|S3RVER|Credential=/)
  }
  s3.fault = undefined
  const other = (to: string): Target => openTarget({ to, durable: false, bom: true }, '/')
  const query = `?endpoint=${s3.endpoint}`
  assert.match((await failureOf(other(`s3://nowhere/x${query}`).check())).message, /there is no such bucket/)
  assert.match((await failureOf(other('s3://archives/x?endpoint=http://127.0.0.1:1').check())).message, /ECONNREFUSED/)
  assert.match((await failureOf(other('s3://archives/x').check())).hint ?? '', /AWS_REGION/)
  const { AWS_SECRET_ACCESS_KEY: secret } = process.env
  try {
    process.env['AWS_SECRET_ACCESS_KEY'] = ''
    const error = await failureOf(other(`s3://archives/x${query}&region=none`).check())
    assert.match(error.message, /no credentials/)
    assert.match(error.hint ?? '', /AWS_ACCESS_KEY_ID/)
  } finally {
    process.env['AWS_SECRET_ACCESS_KEY'] = secret
  }
})

test('storage class, key and lock go along with each object', async () => {
  const settings = { storageClass: 'STANDARD_IA', sseKmsKey: 'alias/a', objectLock: { mode: 'GOVERNANCE', days: 2 } }
  const target = newTarget(settings)
  const seen: Record<string, unknown>[] = []
  s3.fault = ({ operation, headers }) => {
    if (operation === 'PUT' || operation === 'CREATE UPLOAD') seen.push(headers)
    return undefined
  }
  await storeText(target, 'a.csv', 'x')
  await store(target, 'b.csv', pieces())
  assert.is(seen.length, 2)
  for (const headers of seen) {
    assert.is(headers['x-amz-storage-class'], 'STANDARD_IA')
    assert.is(headers['x-amz-server-side-encryption'], 'aws:kms')
    assert.is(headers['x-amz-server-side-encryption-aws-kms-key-id'], 'alias/a')
    assert.is(headers['x-amz-object-lock-mode'], 'GOVERNANCE')
    const left = Date.parse(String(headers['x-amz-object-lock-retain-until-date'])) - Date.now()
    assert.ok(left > 1.9 * 86_400_000 && left < 2.1 * 86_400_000)
  }
  // The probe could not be removed if it were locked.
  seen.length = 0
  await target.prepare()
  assert.ok(seen.length > 0 && seen.every((headers) => !('x-amz-object-lock-mode' in headers)))
})

test('of a locked version it is told that it stays', async () => {
  const target = newTarget()
  await storeText(target, 'a.csv', 'x')
  const until = '2031-01-01T00:00:00Z'
  s3.fault = ({ operation, query }) => {
    if (operation === 'HEAD')
      return {
        status: 200,
        code: '',
        headers: { 'x-amz-version-id': 'v1', 'x-amz-object-lock-retain-until-date': until },
      }
    return operation === 'DELETE' && query.has('versionId') ? { status: 403, code: 'AccessDenied' } : undefined
  }
  const { message } = await failureOf(target.withdraw('a.csv'))
  assert.match(
    message,
    /no longer to be seen, but its version v1 stays in the bucket, locked until 2031-01-01T00:00:00/,
  )
  assert.equal(here(), [])
})

overDatabases(test, 'a target that fails fails its policy: rows stay, and nothing is left', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 20))
  const before = await db.dump('log')
  const to = s3.address(`f${folders}`)
  const { folder } = project({ log: logPolicy }, { archive: to })
  const isManifest = (name: string): boolean => name.endsWith('.manifest.json')
  const expired: Fault = { status: 400, code: 'ExpiredToken' }
  s3.fault = (request) => (request.operation === 'PUT' && isManifest(request.key) ? expired : undefined)
  const [failed] = (await apply({ cwd: folder, now })).policies
  assert.equal([failed?.status, failed?.error?.code, failed?.remaining], ['failed', 'TARGET_UNUSABLE', 20])
  assert.match(failed?.error?.message ?? '', /the credentials have expired/)
  assert.equal([here(), s3.uploads(), await db.dump('log')], [[], [], before])
  // What is in the way stays; the step takes the next number.
  s3.fault = undefined
  const target = newTarget()
  await storeText(target, 'log_backup_20260516_0002.csv', 'somebody else')
  const draft = await target.create('log_backup_20260516.csv')
  for (const piece of pieces()) await draft.write(piece)
  const [made] = (await apply({ cwd: folder, now })).policies
  assert.equal(
    made?.archives.map(({ name }) => name),
    ['log_backup_20260516_0003.csv'],
  )
  assert.is(String(s3.read(key('log_backup_20260516_0002.csv'))), 'somebody else')
  // An upload of a run that was killed is found, and given up.
  const { findings } = await verify({ cwd: folder })
  assert.is(findings.filter(({ kind, text }) => kind === 'orphan' && /unfinished/.test(text)).length, 1)
  const { repairs } = await verify({ cwd: folder, repair: true, yes: true })
  assert.ok(repairs.some(({ action, done }) => action === 'set-aside' && done))
  assert.equal(s3.uploads(), [])
})

overDatabases(test, 'a step that is not stored in time is undone, and the next is smaller', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 24))
  const before = await db.dump('log')
  const { folder } = project({ log: logPolicy }, { archive: s3.address(`f${folders}`) })
  const hangs = (most: number): void => {
    s3.fault = ({ operation, key: name, headers }) =>
      operation === 'PUT' && name.endsWith('.csv') && Number(headers['content-length']) > most ? 'hang' : undefined
  }
  hangs(0)
  const [failed] = (await apply({ cwd: folder, now, maxStepTime: 30 })).policies
  assert.equal([failed?.status, failed?.error?.code, failed?.remaining], ['failed', 'TARGET_UNUSABLE', 24])
  assert.match(failed?.error?.message ?? '', /too slow: it has not stored an archive of \d+ rows? within 0\.03 s/)
  assert.equal([here(), await db.dump('log')], [[], before])
  // Whoever wants it to end need not wait for the service.
  const rollback = new AbortController()
  s3.fault = ({ operation, key: name }) => {
    if (operation !== 'PUT' || !name.endsWith('.csv')) return undefined
    rollback.abort()
    return 'hang'
  }
  const [stopped] = (await apply({ cwd: folder, now, rollbackSignal: rollback.signal })).policies
  assert.equal([stopped?.status, stopped?.remaining, here()], ['interrupted', 24, []])
  // So much are about 15 rows.
  hangs(600)
  const [made] = (await apply({ cwd: folder, now, maxStepTime: 700 })).policies
  assert.is(made?.status, 'applied', JSON.stringify(made))
  assert.ok((made?.archives.length ?? 0) >= 2, JSON.stringify(made))
  assert.equal((await verify({ cwd: folder })).findings, [])
})

overDatabases(
  test,
  'sealed archives: by name and by address, on stdout and in a folder',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 60))
    const before = await db.dump('log')
    process.env['RETENTION_ZIP_PASSWORD'] = 'secret'
    const encrypt = { zip: { password: { env: 'RETENTION_ZIP_PASSWORD' } } }
    const made = project({ log: logPolicy }, { archive: { to: s3.address(`f${folders}`), encrypt } })
    const archive = (await apply({ cwd: made.folder, now })).policies[0]?.archives[0]
    const { location, sha256 } = archive ?? { location: '', sha256: '' }
    const name = 'log_backup_20260516.csv'
    assert.is(location, `s3://archives/${key(name)}.zip`)
    assert.equal(here(), [`${name}.manifest.json`, `${name}.zip`].map(key))
    const { findings, unopened, rows } = await verify({ cwd: made.folder })
    assert.equal([findings, unopened, rows], [[], [], 60])
    for (const file of [name, location]) {
      const csv = await bytesOf(readArchive({ cwd: made.folder, file }))
      assert.is(createHash('sha256').update(csv).digest('hex'), sha256)
    }
    await getArchive({ cwd: made.folder, file: location, folder: 'got' })
    assert.equal(made.list('got'), [name, `${name}.manifest.json`])
    await db.run('delete from retention_ledger')
    assert.is((await restore({ cwd: made.folder, file: location, now, hold: 'none' })).restored, 60)
    assert.equal(await db.dump('log'), before)
  },
  ['sqlite'],
)

overDatabases(
  test,
  'rows are erased from an archive, but not while the service keeps it',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 3))
    const archive = { to: s3.address(`f${folders}`), sseKmsKey: 'alias/a' }
    const { folder } = project({ log: logPolicy }, { archive })
    await apply({ cwd: folder, now })
    const stored = here()
    const wish = { cwd: folder, policy: 'log', where: 'id = 2', reason: 'asked for', yes: true }
    for (const [header, value, told] of [
      ['x-amz-object-lock-retain-until-date', '2091-01-01T00:00:00Z', /csv is locked until 2091-01-01T00:00:00/],
      ['x-amz-object-lock-legal-hold', 'ON', /csv is under a legal hold of the service/],
    ] as const) {
      s3.fault = ({ operation }) =>
        operation === 'HEAD' ? { status: 200, code: '', headers: { [header]: value } } : undefined
      const refused = await erase(wish)
      assert.match(refused.archives[0]?.error?.message ?? '', told)
      assert.equal([refused.erased, here()], [0, stored])
    }
    // What is left is stored as apply stores. A version that would stay is not hidden, and not taken for removed.
    const keys: unknown[] = []
    s3.fault = ({ operation, key: asked, headers, query }) => {
      if (operation === 'PUT') keys.push(headers['x-amz-server-side-encryption-aws-kms-key-id'])
      if (operation === 'HEAD' && stored.includes(asked))
        return { status: 200, code: '', headers: { 'x-amz-version-id': 'v1' } }
      return operation === 'DELETE' && query.has('versionId') ? { status: 403, code: 'AccessDenied' } : undefined
    }
    const left = await erase(wish)
    assert.match(
      left.archives[0]?.error?.message ?? '',
      /csv cannot be removed: its version v1 would stay in the bucket/,
    )
    assert.equal([left.erased, here().length, keys], [1, 4, ['alias/a', 'alias/a']])
    s3.fault = undefined
    assert.is((await erase(wish)).removed.length, 2)
    assert.equal(here(), ['log_backup_20260516_0002.csv', 'log_backup_20260516_0002.csv.manifest.json'].map(key))
    assert.equal((await verify({ cwd: folder })).findings, [])
  },
  ['sqlite'],
)

overDatabases(
  test,
  'an archive is locked until it expires, is pruned then and no earlier, and may be gone by then',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-15T15:00:00Z', 4))
    const locked = { objectLock: { mode: 'COMPLIANCE' }, expireAfter: '2 months' } as const
    const archive = { to: s3.address(`f${folders}`), ...locked }
    const policies = { log: { ...logPolicy, batch: 2, concurrency: 1 } }
    const { folder } = project(policies, { archive, timezone: 'Asia/Seoul' })
    const locks = new Set<unknown>()
    s3.fault = ({ operation, headers, key: asked }) => {
      if (operation === 'PUT' && here().every((file) => file !== asked))
        locks.add(headers['x-amz-object-lock-retain-until-date'])
      return undefined
    }
    await apply({ cwd: folder, now })
    const stored = here()
    const { archives, policies: standings } = await status({ cwd: folder })
    const [next] = standings
    const until = next?.nextExpiry ?? ''
    assert.equal([archives.length, next?.expired, next?.warnings], [2, 0, []])
    assert.ok(
      [...locks].some((lock) => Date.parse(String(lock)) === Date.parse(until)),
      `${[...locks].join()} ${until}`,
    )
    assert.equal(
      (await prune({ cwd: folder, yes: true, now: new Date(Date.parse(until) - 1) })).policies[0]?.archives,
      [],
    )

    s3.fault = ({ operation }) =>
      operation === 'HEAD'
        ? { status: 200, code: '', headers: { 'x-amz-object-lock-retain-until-date': '2091-01-01T00:00:00Z' } }
        : undefined
    const order = { cwd: folder, yes: true, now: new Date(Date.parse(until) + 86_400_000) }
    const refused = await prune(order)
    assert.match(refused.policies[0]?.archives[0]?.error?.message ?? '', /is locked until 2091-01-01T00:00:00/)
    assert.equal(here(), stored)
    s3.fault = undefined
    // A lifecycle rule has removed one; a bucket that does not answer is no proof of that.
    for (const file of stored.filter((one) => one.includes('0002')))
      await newTarget().remove(file.slice(key('').length))
    s3.fault = ({ operation }) => (operation === 'LIST' ? { status: 403, code: 'AccessDenied' } : undefined)
    assert.is((await prune({ ...order, yes: false })).policies[0]?.archives[1]?.error?.code, 'TARGET_UNUSABLE')
    s3.fault = undefined
    const { policies: done } = await prune(order)
    assert.equal(
      done[0]?.archives.map((one) => [one.pruned, one.gone]),
      [
        [true, false],
        [true, true],
      ],
    )
    assert.equal([here(), (await verify({ cwd: folder })).findings], [[], []])
    // Locked for longer than it is kept, it could not be pruned in time.
    const days = {
      to: s3.address(`f${folders}`),
      expireAfter: '2 months',
      objectLock: { mode: 'COMPLIANCE', days: 90 },
    } as const
    const warned = await plan({ cwd: project(policies, { archive: days }).folder, now })
    assert.match(
      warned.policies[0]?.warnings[0]?.text ?? '',
      /^Archives are locked for 90 days and expire after 2 months/,
    )
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a query fetches the archives that can match, and no other',
  async ({ db, project }) => {
    await seedLog(db, ['2026-01-01T00:00:00Z', '2026-03-01T00:00:00Z', '2026-05-01T00:00:00Z'])
    const archive = { to: s3.address(`f${folders}`), compress: 'gzip' } as const
    const { folder } = project({ log: { ...logPolicy, batch: 1, concurrency: 1 } }, { archive })
    await apply({ cwd: folder, now })
    s3.log.length = 0
    const { rows } = await ask(`select id, body from log where "at" > '2026-04-01'`, { cwd: folder })
    assert.equal(rows, [[3, 'text 3']])
    const fetched = s3.log.filter((line) => line.startsWith('GET ') && line.endsWith('.gz'))
    assert.equal(fetched, [`GET ${key('log_backup_20260516_0003.csv.gz')}`])
  },
  ['sqlite'],
)

test.run()
