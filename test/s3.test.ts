/** S3 as target: what is promised of stored files, against a real service that breaks when it is told to. */
import { createHash } from 'node:crypto'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { store, storeText } from '../src/archive/store.ts'
import { checkConfig } from '../src/config/config.ts'
import { parseS3Address } from '../src/config/s3-address.ts'
import { apply, restore, status, verify } from '../src/index.ts'
import { openTarget } from '../src/target/open.ts'
import { partSize } from '../src/target/s3-upload.ts'
import type { Target } from '../src/target/target.ts'
import { credentials, startS3, type TestS3 } from './support/s3.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog } from './support/scene.ts'

Object.assign(process.env, credentials)
const s3: TestS3 = await startS3()
const test = suite('s3')

let folders = 0
test.before.each(() => {
  s3.fault = undefined
  s3.log.length = 0
  folders += 1
})
test.after(() => s3.stop())

/** The target of a folder that is new in each test. */
const newTarget = (settings: object = {}): Target =>
  openTarget({ to: s3.address(`f${folders}`), durable: false, bom: true, ...settings }, '/')
const key = (file: string): string => `f${folders}/${file}`
const here = (): string[] => s3.keys().filter((name) => name.startsWith(key('')))

const bytesOf = async (source: AsyncIterable<Buffer>): Promise<Buffer> => {
  const chunks: Buffer[] = []
  for await (const chunk of source) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}
const failureOf = async (work: Promise<unknown>): Promise<{ code?: string; message: string; hint?: string }> =>
  work.then(
    () => ({ message: 'no failure' }),
    (error: unknown) => error as Error,
  )

/** Three parts: two whole ones and a rest. */
const large = Buffer.alloc(12_000_000, 'row of a table\n')
const pieces = (): Buffer[] => [large.subarray(0, 700_000), large.subarray(700_000, 700_001), large.subarray(700_001)]

overDatabases(test, 'archives, verifies and restores, by name and by address', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 60))
  const before = await db.dump('log')
  const to = s3.address(`f${folders}`)
  const { folder } = project({ log: { ...logPolicy, batch: 40 } }, { archive: to })
  const [policy] = (await apply({ cwd: folder, now })).policies
  assert.is(policy?.status, 'applied', JSON.stringify(policy))
  const names = ['log_backup_20260516.csv', 'log_backup_20260516_0002.csv']
  const files = names.flatMap((name) => [name, `${name}.manifest.json`])
  assert.equal(here(), files.map(key).toSorted())
  assert.equal(
    policy?.archives.map(({ location }) => location),
    names.map((name) => `s3://archives/${key(name)}`),
  )
  for (const { location, sha256 } of policy?.archives ?? []) {
    const stored = s3.read(location.replace('s3://archives/', ''))
    assert.is(createHash('sha256').update(stored).digest('hex'), sha256)
  }
  const [again] = (await apply({ cwd: folder, now })).policies
  assert.is(again?.status, 'nothing-due', JSON.stringify(again))
  const { findings, checked } = await verify({ cwd: folder, deep: true })
  assert.equal([findings, checked], [[], 2])
  assert.is((await verify({ cwd: folder, files: [`s3://archives/${key(names[0] ?? '')}`] })).checked, 1)
  const [first = '', second = ''] = names
  assert.is((await restore({ cwd: folder, file: `s3://archives/${key(first)}`, hold: 'none' })).restored, 40)
  assert.is((await restore({ cwd: folder, file: second, hold: 'none' })).restored, 20)
  assert.equal(await db.dump('log'), before)
  assert.equal(
    (await status({ cwd: folder, now })).archives.map(({ state, target }) => ({ state, target })),
    names.map(() => ({ state: 'restored', target: to })),
  )
})

test('stores small and large files, and reads them back', async () => {
  const target = newTarget()
  await target.prepare()
  assert.equal([here(), s3.uploads(), await target.list()], [[], [], []])
  const { sha256 } = await store(target, 'large.csv', pieces())
  assert.is(sha256, createHash('sha256').update(large).digest('hex'))
  await storeText(target, 'small.csv', 'x\n')
  await storeText(target, 'empty.csv', '')
  assert.is(s3.log.filter((line) => line === `UPLOAD PART ${key('large.csv')}`).length, 3)
  assert.ok((await bytesOf(await target.read('large.csv'))).equals(large))
  assert.is((await bytesOf(await target.read('empty.csv'))).length, 0)
  s3.pageSize = 2
  assert.equal(await target.list(), ['empty.csv', 'large.csv', 'small.csv'])
  s3.pageSize = 1000
  assert.equal([await target.has('small.csv'), await target.has('none.csv')], [true, false])
  assert.is((await failureOf(target.read('none.csv'))).code, 'ARCHIVE_NOT_FOUND')
  for (const name of ['../out', '..', '', 'a/b'])
    assert.match((await failureOf(target.has(name))).message, /is not the name/)
  await target.withdraw('large.csv')
  await target.withdraw('none.csv')
  assert.equal(await target.list(), ['empty.csv', 'small.csv'])
})

test('publishing overwrites nothing; of several at once one wins', async () => {
  const target = newTarget()
  await storeText(target, 'a.csv', 'mine')
  assert.is((await failureOf(storeText(target, 'a.csv', 'yours'))).code, 'ARCHIVE_EXISTS')
  assert.is((await failureOf(store(target, 'a.csv', pieces()))).code, 'ARCHIVE_EXISTS')
  assert.is(String(s3.read(key('a.csv'))), 'mine')
  const all = await Promise.allSettled(
    Array.from({ length: 6 }, (_, index) => storeText(target, 'b.csv', `${index}`.repeat(99))),
  )
  assert.is(all.filter(({ status: outcome }) => outcome === 'fulfilled').length, 1)
  assert.match(String(s3.read(key('b.csv'))), /^(\d)\1{98}$/)
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

test.run()
