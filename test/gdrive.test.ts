/** Google Drive as target: what is promised of stored files, against its interface as documented, with its failures. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect } from 'node:util'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { store, storeText } from '../src/archive/store.ts'
import { checkConfig } from '../src/config/config.ts'
import { parseGdriveAddress } from '../src/config/gdrive-address.ts'
import { apply, erase, getArchive, readArchive, verify } from '../src/index.ts'
import { openTarget } from '../src/target/open.ts'
import type { Target } from '../src/target/target.ts'
import { driveToken, startDrive, type DriveFault, type TestDrive } from './support/drive-server.ts'
import { startSignIn } from './support/google-sign-in.ts'
import {
  archivesAndRestores,
  bytesOf,
  failureOf,
  overwritesNothing,
  piecesOf,
  storesAndReads,
  type Place,
} from './support/places.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

const drive: TestDrive = await startDrive()
Object.assign(process.env, {
  RETENTION_GDRIVE_ENDPOINT: drive.endpoint,
  RETENTION_GDRIVE_TOKEN: driveToken,
  // Drive outlives the machine, where a folder would be refused.
  CI: 'true',
})
const test = suite('gdrive')

test.before.each(() => {
  drive.fault = undefined
  drive.pageSize = 1000
  drive.lag = 0
  drive.isManager = true
  drive.isMember = true
  drive.log.length = 0
})
test.after(() => drive.stop())

const targetOf = (folder: string): Target => openTarget({ to: `gdrive://${folder}`, durable: false, bom: true }, '/')

/** A new folder. */
const newPlace = (options: { isShared?: boolean } = {}): Place & { readonly folder: string } => {
  const folder = drive.folder(options)
  return {
    folder,
    to: `gdrive://${folder}`,
    locate: (file) => `gdrive://${folder}/${file}`,
    newTarget: () => targetOf(folder),
    names: () => drive.names(folder),
    read: (file) => drive.read(folder, file)[0] ?? Buffer.alloc(0),
  }
}

/** Two chunks: a whole one and a rest. */
const large = Buffer.alloc(8_600_000, 'row of a table\n')

overDatabases(test, 'archives, verifies and restores, by name and by address', async (scene) => {
  await archivesAndRestores(scene, newPlace({ isShared: scene.db.kind === 'sqlite' }))
})

test('stores small and large files, and reads them back', async () => {
  drive.pageSize = 2
  const place = newPlace({ isShared: true })
  await storesAndReads(place, large)
  assert.is(drive.unfinished(place.folder), 0)
})

test('publishing overwrites nothing; of several at once one wins', async () => {
  const place = newPlace()
  await overwritesNothing(place, large)
  assert.is(drive.unfinished(place.folder), 0)
})

test('whoever is let into a folder of a shared drive, and not into the drive, can use it', async () => {
  drive.isMember = false
  drive.pageSize = 1
  const { folder } = newPlace({ isShared: true })
  const target = targetOf(folder)
  await target.prepare()
  for (const name of ['a.csv', 'b.csv', 'c.csv']) await storeText(target, name, name)
  await target.setAside('b.csv')
  const other = targetOf(folder)
  assert.equal([await other.list(), (await other.listAside()).length], [['a.csv', 'c.csv'], 1])
  assert.is(String(await bytesOf(await other.read('c.csv'))), 'c.csv')
})

/** Breaks requests of these operations, so many of them, the first ones passing. */
const breaks = (operation: string, fault: DriveFault, times = 1, first = 0): void => {
  let seen = 0
  drive.fault = (call) => {
    if (call.operation !== operation) return undefined
    seen += 1
    return seen > first && seen <= first + times ? fault : undefined
  }
}
const busy: DriveFault = { status: 403, reason: 'userRateLimitExceeded', message: 'User Rate Limit Exceeded' }

test('an address is a folder, and nothing more', () => {
  const id = '1AbC-dEf_0123456789'
  assert.equal(parseGdriveAddress(`gdrive://${id}`), { folder: id })
  const mistakesIn = (archive: unknown): string => {
    const checked = checkConfig({ database: 'sqlite:x', archive }, 'config', '/')
    return 'mistakes' in checked ? checked.mistakes.map(({ text }) => text).join() : ''
  }
  assert.is(mistakesIn({ to: `gdrive://${id}`, compress: 'gzip' }), '')
  for (const address of [
    'gdrive://',
    'gdrive://root',
    'gdrive:///my/folder',
    `gdrive://${id}/below`,
    `gdrive://${id}?token=hush`,
    `gdrive://hush@${id}`,
  ]) {
    assert.match(mistakesIn(address), /allowed: "gdrive:\/\/folder-id"/, address)
    assert.not.match(mistakesIn(address), /hush/, address)
  }
  assert.match(mistakesIn(`https://drive.google.com/drive/folders/${id}`), /begins with s3:\/\/ or gdrive:\/\//)
  assert.match(mistakesIn({ to: `gdrive://${id}`, storageClass: 'STANDARD_IA' }), /a folder without storageClass/)
})

test('what breaks on the way is sent again, from where Drive has come to', async () => {
  const { folder } = newPlace()
  const twice = Buffer.concat([large, large])
  const faults: Record<string, (DriveFault | undefined)[]> = {
    IDS: [busy],
    BEGIN: [{ status: 500, reason: 'backendError' }],
    CHUNK: ['cut', busy, { takes: 512 * 1024 }, 'lose', { status: 503 }, { takes: 256 * 1024 }],
    ASK: [undefined, { status: 429, reason: 'rateLimitExceeded' }, 'cut'],
    LIST: [{ status: 502 }],
  }
  drive.fault = ({ operation }) => faults[operation]?.shift()
  await store(targetOf(folder), 'a.csv', [...piecesOf(large), large])
  // Ids are asked for many at a time, perhaps by a test before.
  assert.equal({ ...faults, IDS: [] }, { IDS: [], BEGIN: [], CHUNK: [], ASK: [], LIST: [] })
  assert.ok(drive.read(folder, 'a.csv')[0]?.equals(twice))
  // Where only the last answer was lost, the file is there.
  breaks('CHUNK', 'lose')
  await storeText(targetOf(folder), 'b.csv', 'x')
  // Drive need not know the upload any more then.
  const last: Record<string, DriveFault[]> = { CHUNK: ['lose'], ASK: [{ status: 410 }] }
  drive.fault = ({ operation }) => last[operation]?.shift()
  await storeText(targetOf(folder), 'c.csv', 'x')
  assert.equal([drive.names(folder), drive.unfinished(folder)], [['a.csv', 'b.csv', 'c.csv'], 0])
})

test('what fails leaves nothing: no file, no unfinished upload', async () => {
  const { folder } = newPlace()
  const target = targetOf(folder)
  const source = async function* (): AsyncGenerator<Buffer> {
    yield* piecesOf(large)
    throw new Error('the source broke')
  }
  assert.match((await failureOf(store(target, 'a.csv', source()))).message, /the source broke/)
  breaks('CHUNK', { status: 500, reason: 'backendError' }, 99)
  const failed = await failureOf(store(target, 'a.csv', piecesOf(large)))
  assert.equal(
    [failed.code, /cannot store a\.csv: .*also when tried again/.test(failed.message)],
    ['TARGET_UNUSABLE', true],
  )
  // The upload's session is over.
  breaks('CHUNK', { status: 404, reason: 'notFound' }, 1, 1)
  assert.match((await failureOf(store(target, 'a.csv', piecesOf(large)))).message, /has ended the upload of .*a\.csv/)
  for (const text of ['x', large.toString()]) {
    breaks('CHUNK', 'corrupt')
    const changed = await failureOf(storeText(target, 'a.csv', text))
    assert.equal([changed.code, /is not what was sent/.test(changed.message)], ['ARCHIVE_CHANGED', true])
  }
  assert.equal([drive.names(folder), drive.unfinished(folder), drive.binned(folder)], [[], 0, []])
})

test("somebody's file of the same name stays, whenever it comes; where there are two, neither is read", async () => {
  const { folder } = newPlace()
  // It comes after it was looked for.
  drive.fault = ({ operation, name }) => {
    if (operation === 'CHUNK' && name === 'a.csv') drive.put(folder, 'a.csv', 'theirs')
    return undefined
  }
  assert.is((await failureOf(storeText(targetOf(folder), 'a.csv', 'ours'))).code, 'ARCHIVE_EXISTS')
  assert.equal(drive.read(folder, 'a.csv').map(String), ['theirs'])
  drive.fault = undefined
  // A folder of that name is in the way as well, and other letters are not.
  drive.put(folder, 'B.csv', 'other')
  await storeText(targetOf(folder), 'b.csv', 'ours')
  drive.put(folder, 'b.csv', 'theirs')
  const two = targetOf(folder)
  for (const work of [() => two.read('b.csv'), () => two.remove('b.csv'), () => two.setAside('b.csv')]) {
    const error = await failureOf(work())
    assert.equal([error.code, /There are 2 files called/.test(error.message)], ['ARCHIVE_CHANGED', true])
  }
  assert.equal(drive.names(folder), ['B.csv', 'a.csv', 'b.csv', 'b.csv'])
  // In the bin, a file is not there.
  const old = targetOf(folder)
  await storeText(old, 'c.csv', 'x')
  drive.isManager = false
  breaks('DELETE', { status: 403, reason: 'insufficientFilePermissions' })
  assert.match((await failureOf(old.withdraw('c.csv'))).message, /c\.csv is in Drive's bin, and not removed for good/)
  assert.equal([drive.binned(folder), await old.has('c.csv')], [['c.csv'], false])
  const kept = await failureOf(old.remove('c.csv'))
  assert.equal([kept.code, /is in Drive's bin, with all its bytes/.test(kept.message)], ['TARGET_UNUSABLE', true])
  drive.emptyBin(folder)
  await old.remove('c.csv')
  await storeText(old, 'c.csv', 'y')
})

test("Drive's index of names may be behind; a name is quoted as Drive wants it", async () => {
  const { folder } = newPlace()
  const name = String.raw`it's a\b.csv`
  drive.lag = 99
  const target = targetOf(folder)
  await storeText(target, name, 'x')
  drive.lag = 9
  assert.equal([await target.has(name), await targetOf(folder).has(name)], [true, true])
  assert.is(String(await bytesOf(await targetOf(folder).read(name))), 'x')
  drive.lag = 0
  assert.is((await failureOf(storeText(targetOf(folder), name, 'y'))).code, 'ARCHIVE_EXISTS')
})

test('reading goes on over a connection that breaks, and never into another file', async () => {
  const { folder } = newPlace()
  await store(targetOf(folder), 'a.csv', piecesOf(large))
  breaks('MEDIA', { cutAfter: 2_000_000 }, 2)
  drive.log.length = 0
  assert.ok((await bytesOf(await targetOf(folder).read('a.csv'))).equals(large))
  assert.is(drive.log.filter((line) => line.startsWith('MEDIA')).length, 3)
  drive.fault = ({ operation }) => {
    if (operation !== 'MEDIA') return undefined
    drive.fault = undefined
    setImmediate(() => drive.replace(folder, 'a.csv', 'other'))
    return { cutAfter: 1000 }
  }
  assert.is((await failureOf(bytesOf(await targetOf(folder).read('a.csv')))).code, 'ARCHIVE_CHANGED')
  // Drive takes it for malware, and gives it to some who know that.
  const flagged: DriveFault = { status: 403, reason: 'cannotDownloadAbusiveFile' }
  drive.fault = ({ query }) => (query.get('alt') === 'media' && !query.has('acknowledgeAbuse') ? flagged : undefined)
  assert.is(String(await bytesOf(await targetOf(folder).read('a.csv'))), 'other')
  breaks('MEDIA', flagged, 2)
  const kept = await failureOf(bytesOf(await targetOf(folder).read('a.csv')))
  assert.equal([/malware or spam/.test(kept.message), /managers of the drive/.test(kept.hint ?? '')], [true, true])
  for (const type of ['document', 'shortcut']) {
    drive.put(folder, type, '', `application/vnd.google-apps.${type}`)
    const error = await failureOf(targetOf(folder).read(type))
    assert.equal(
      [error.code, error.message.endsWith(`of the type application/vnd.google-apps.${type}`)],
      ['ARCHIVE_CHANGED', true],
    )
  }
})

test('a file is set aside whole, under a name that is free', async () => {
  const { folder } = newPlace()
  const target = targetOf(folder)
  for (const text of ['x', 'y']) {
    await storeText(target, 'a.csv', text)
    await target.setAside('a.csv')
  }
  assert.equal([await target.list(), drive.names(folder)], [[], ['set-aside/a.csv', 'set-aside/a.csv.1']])
  const addresses = await target.listAside()
  assert.is(addresses.length, 2)
  const [id = ''] = /[\w-]{20,}/.exec(addresses[0] ?? '') ?? []
  assert.is(String(await bytesOf(await targetOf(id).read('a.csv.1'))), 'y')
})

test('says what is wrong with folder, credentials and room, and no secret', async () => {
  const { folder } = newPlace()
  const cases: [string, DriveFault, RegExp, RegExp][] = [
    ['GET', { status: 404, reason: 'notFound' }, /no such folder or file/, /share the folder .*auth\/drive\./],
    ['GET', { status: 403, reason: 'appNotAuthorizedToFile' }, /appNotAuthorizedToFile/, /auth\/drive/],
    ['GET', { status: 403, reason: 'dailyLimitExceeded' }, /a quota is used up/, /within a day/],
    ['BEGIN', { status: 400, message: 'no upload upload_id=ABg5-secret' }, /no upload upload_id=\*\*\*/, /^$/],
    ['GET', { status: 403, reason: 'accessNotConfigured' }, /accessNotConfigured/, /Enable the Google Drive API/],
    ['GET', { status: 403, reason: 'insufficientPermissions' }, /insufficientPermissions/, /auth\/drive/],
    ['GET', busy, /User Rate Limit Exceeded .*also when tried again/, /^$/],
    ['BEGIN', { status: 403, reason: 'storageQuotaExceeded' }, /there is no room/, /use a folder of a shared drive/],
    ['BEGIN', { status: 403, reason: 'insufficientFilePermissions' }, /access is denied/, /must be an editor/],
  ]
  for (const [operation, fault, problem, hint] of cases) {
    breaks(operation, fault, 99)
    const error = await failureOf(targetOf(folder).prepare())
    assert.is(error.code, 'TARGET_UNUSABLE')
    assert.match(error.message, problem)
    assert.match(error.hint ?? '', hint)
    assert.not.match(inspect(error, { showHidden: true, depth: 9 }), /ya29|secret/)
  }
  drive.fault = undefined
  const refused = async (id: string): Promise<string> => (await failureOf(targetOf(id).check())).message
  assert.match(await refused(drive.folder({ permissionIds: ['me', 'anyoneWithLink'] })), /whoever has the link/)
  const open = drive.folder({ isShared: true, permissionIds: ['me', 'anyoneWithLink'] })
  assert.match(await refused(open), /whoever has the link/)
  // Who else may see a folder of a shared drive, not everybody may ask.
  breaks('PERMISSIONS', { status: 403, reason: 'insufficientFilePermissions' })
  await targetOf(open).check()
  assert.match(await refused(drive.put(folder, 'a.csv', 'x')), /it is no folder, but a file of the type text\/csv/)
  drive.tokens.delete(driveToken)
  try {
    const error = await failureOf(targetOf(folder).check())
    assert.match(error.message, /does not take the credentials/)
    assert.match(error.hint ?? '', /lasts an hour/)
  } finally {
    drive.tokens.add(driveToken)
  }
  process.env['RETENTION_GDRIVE_ENDPOINT'] = 'http://drive.example.com'
  try {
    assert.match(await refused(folder), /no https:\/\/ address/)
  } finally {
    process.env['RETENTION_GDRIVE_ENDPOINT'] = drive.endpoint
  }
})

test('a service account signs in with its key, again when its token is not taken any more', async () => {
  const { folder } = newPlace()
  const home = mkdtempSync(path.join(tmpdir(), 'retention-gdrive-'))
  const signIn = await startSignIn(drive.tokens)
  process.env['RETENTION_GDRIVE_TOKEN'] = ''
  try {
    const keyFile = path.join(home, 'key.json')
    process.env['GOOGLE_APPLICATION_CREDENTIALS'] = keyFile
    assert.match((await failureOf(targetOf(folder).check())).message, /Cannot sign in to Google/)
    writeFileSync(keyFile, JSON.stringify(signIn.key).slice(0, 200))
    const broken = await failureOf(targetOf(folder).check())
    assert.match(broken.message, /key\.json is not JSON/)
    writeFileSync(keyFile, JSON.stringify(signIn.key))
    await storeText(targetOf(folder), 'a.csv', 'x')
    assert.is(signIn.tokens, 1)
    // It has expired.
    drive.tokens.clear()
    await storeText(targetOf(folder), 'b.csv', 'x')
    assert.equal([signIn.tokens, drive.names(folder)], [2, ['a.csv', 'b.csv']])
    signIn.isRevoked = true
    drive.tokens.clear()
    const error = await failureOf(targetOf(folder).check())
    assert.match(error.message, /Cannot sign in to Google: invalid_grant: Invalid JWT Signature/)
    assert.match(error.hint ?? '', /GOOGLE_APPLICATION_CREDENTIALS/)
    const key = signIn.key.private_key.split('\n')[1] ?? ''
    for (const one of [broken, error])
      assert.not.ok(inspect(one, { showHidden: true, depth: 9 }).includes(key.slice(0, 20)))
  } finally {
    drive.tokens.add(driveToken)
    process.env['RETENTION_GDRIVE_TOKEN'] = driveToken
    delete process.env['GOOGLE_APPLICATION_CREDENTIALS']
    await signIn.stop()
    rmSync(home, { recursive: true, force: true })
  }
})

overDatabases(
  test,
  'a target that fails fails its policy: rows stay, and nothing is left',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 20))
    const before = await db.dump('log')
    const { folder: id, to } = newPlace({ isShared: true })
    const { folder } = project({ log: logPolicy }, { archive: to })
    drive.fault = ({ operation, name }) =>
      operation === 'CHUNK' && name.endsWith('.manifest.json')
        ? { status: 403, reason: 'storageQuotaExceeded' }
        : undefined
    const [failed] = (await apply({ cwd: folder, now })).policies
    assert.equal([failed?.status, failed?.error?.code, failed?.remaining], ['failed', 'TARGET_UNUSABLE', 20])
    assert.match(failed?.error?.message ?? '', /there is no room/)
    assert.equal([drive.names(id), drive.unfinished(id), await db.dump('log')], [[], 0, before])
    // Whoever is no manager leaves it in the bin.
    drive.isManager = false
    const [again] = (await apply({ cwd: folder, now })).policies
    assert.equal([again?.status, drive.names(id), await db.dump('log')], ['failed', [], before])
    assert.ok(drive.binned(id).includes('log_backup_20260516_0002.csv'))
    // A service that does not answer keeps no transaction open.
    drive.fault = ({ operation, name }) => (operation === 'CHUNK' && name.endsWith('.csv') ? 'hang' : undefined)
    const [slow] = (await apply({ cwd: folder, now, maxStepTime: 30 })).policies
    assert.equal([slow?.status, slow?.remaining, drive.names(id)], ['failed', 20, []])
    assert.match(slow?.error?.message ?? '', /too slow: it has not stored an archive/)
    // What is in the way stays; the step takes the next number.
    drive.fault = undefined
    drive.put(id, 'log_backup_20260516_0004.csv', 'somebody else')
    const [made] = (await apply({ cwd: folder, now })).policies
    const name = made?.archives[0]?.name ?? ''
    assert.is(made?.status, 'applied', JSON.stringify(made))
    assert.equal(drive.read(id, 'log_backup_20260516_0004.csv').map(String), ['somebody else'])
    assert.equal(
      drive.names(id).filter((one) => one.startsWith(name)),
      [name, `${name}.manifest.json`],
    )
  },
  ['sqlite'],
)

overDatabases(
  test,
  'archives are printed, fetched, and rows erased from them, but not by who may only use the bin',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 3))
    const { folder: id, to, locate } = newPlace({ isShared: true })
    const made = project({ log: logPolicy }, { archive: { to, compress: 'gzip' } })
    const archive = (await apply({ cwd: made.folder, now })).policies[0]?.archives[0]
    const name = 'log_backup_20260516.csv'
    assert.is(archive?.location, locate(`${name}.gz`))
    for (const file of [name, archive?.location ?? '']) {
      const csv = await bytesOf(readArchive({ cwd: made.folder, file }))
      assert.is(createHash('sha256').update(csv).digest('hex'), archive?.sha256)
    }
    const got = await getArchive({ cwd: made.folder, file: name, folder: made.path('got') })
    assert.match(JSON.stringify(got), /log_backup_20260516\.csv/)
    const wish = { cwd: made.folder, policy: 'log', where: 'id = 2', reason: 'asked for', yes: true }
    const stored = drive.names(id)
    drive.isManager = false
    const refused = await erase(wish)
    assert.match(refused.archives[0]?.error?.message ?? '', /is kept by Drive, which lets these credentials/)
    assert.equal([refused.erased, drive.names(id)], [0, stored])
    // Nor is it taken for removed where the bin is all there is.
    drive.isManager = true
    breaks('DELETE', { status: 403, reason: 'insufficientFilePermissions' }, 99)
    const left = await erase(wish)
    assert.match(left.archives[0]?.error?.message ?? '', /cannot be removed: it could only go into Drive's bin/)
    assert.equal([left.erased, drive.names(id).length], [1, 4])
    drive.fault = undefined
    assert.is((await erase(wish)).removed.length, 2)
    assert.equal([drive.names(id).length, drive.binned(id)], [2, []])
    assert.equal((await verify({ cwd: made.folder })).findings, [])
  },
  ['sqlite'],
)

overDatabases(
  test,
  'a run that is killed in the middle of an upload leaves no file that is half there',
  async ({ db, project }) => {
    await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 20))
    const before = await db.dump('log')
    const { folder: id, to } = newPlace()
    const made = project({ log: logPolicy }, { archive: to })
    const kill = new AbortController()
    drive.fault = ({ operation, name }) => {
      if (operation !== 'CHUNK' || !name.endsWith('.manifest.json')) return undefined
      kill.abort()
      return 'hang'
    }
    const killed = await made.cli(['apply'], { killOn: kill.signal })
    // What was whole is there.
    assert.equal([killed.signal, drive.names(id).length], ['SIGKILL', 1], killed.stderr)
    drive.fault = undefined
    assert.equal(await db.dump('log'), before)
    const { findings } = await verify({ cwd: made.folder })
    assert.equal(
      findings.map(({ kind }) => kind),
      ['orphan'],
    )
    await verify({ cwd: made.folder, repair: true, yes: true })
    const orphans = drive.names(id)
    assert.equal([orphans.length, orphans.every((name) => name.startsWith('set-aside/'))], [1, true])
    assert.is((await apply({ cwd: made.folder, now })).policies[0]?.status, 'applied')
    assert.equal((await verify({ cwd: made.folder })).findings, [])
  },
  ['sqlite'],
)

test.run()
