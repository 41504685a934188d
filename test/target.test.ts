/** A folder as target: durable, exclusive, private, and in that order. */
import { createHash } from 'node:crypto'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { store, storeText } from '../src/archive/store.ts'
import { LocalTarget, throwAwayMachine } from '../src/target/local.ts'

const test = suite<{ folder: string }>('target')

test.before.each((context) => {
  context.folder = mkdtempSync(path.join(tmpdir(), 'retention-target-'))
})
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }))

const text = async (source: AsyncIterable<Buffer>): Promise<string> => {
  const chunks: Buffer[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

test('stores what it is given, and reads it back', async ({ folder }) => {
  const target = new LocalTarget('./deep/er', path.join(folder, 'deep/er'), true)
  await target.prepare()
  assert.equal(await target.list(), [])
  const stored = await store(target, 'a.csv', [Buffer.from('"x"\n'), Buffer.from('"1\n'), Buffer.from('2"\n')])
  const sha256 = createHash('sha256').update('"x"\n"1\n2"\n').digest('hex')
  const digest = { bytes: 10, sha256 }
  assert.equal(stored, { ...digest, records: 1, file: 'a.csv', encoding: null, sealed: digest })
  assert.is(await text(await target.read('a.csv')), '"x"\n"1\n2"\n')
  assert.is(target.locate('a.csv'), path.join(folder, 'deep/er/a.csv'))
  assert.equal(await target.list(), ['a.csv'])
  assert.ok(await target.has('a.csv'))
  assert.not.ok(await target.has('b.csv'))
})

test('nobody else may read: files 0600, folders 0700', async ({ folder }) => {
  const target = new LocalTarget('x', path.join(folder, 'one/two'), true)
  await target.prepare()
  await storeText(target, 'a', 'secret')
  assert.is(statSync(path.join(folder, 'one')).mode & 0o777, 0o700)
  assert.is(statSync(path.join(folder, 'one/two')).mode & 0o777, 0o700)
  assert.is(statSync(path.join(folder, 'one/two/a')).mode & 0o777, 0o600)
})

test('publishing overwrites nothing, and leaves nothing behind', async ({ folder }) => {
  const target = new LocalTarget('x', folder, true)
  writeFileSync(path.join(folder, 'a'), 'mine')
  mkdirSync(path.join(folder, 'b'))
  symlinkSync('/nowhere', path.join(folder, 'c'))
  for (const name of ['a', 'b', 'c']) {
    const error = await storeText(target, name, 'yours').catch((reason: unknown) => reason)
    assert.is((error as { code?: string }).code, 'ARCHIVE_EXISTS', name)
  }
  assert.is(readFileSync(path.join(folder, 'a'), 'utf8'), 'mine')
  assert.equal(readdirSync(folder).toSorted(), ['a', 'b', 'c'])
})

test('of two that publish one name at once, one wins and both are whole', async ({ folder }) => {
  const target = new LocalTarget('x', folder, true)
  const all = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) => storeText(target, 'a', String(index).repeat(1000))),
  )
  assert.is(all.filter(({ status }) => status === 'fulfilled').length, 1)
  assert.match(readFileSync(path.join(folder, 'a'), 'utf8'), /^(\d)\1{999}$/)
  assert.equal(readdirSync(folder), ['a'])
})

test('a draft that is given up leaves nothing; what is read is what was there', async ({ folder }) => {
  const target = new LocalTarget('x', folder, true)
  const draft = await target.create('a')
  await draft.write(Buffer.from('half'))
  // Nobody can take it for the file before it is published.
  assert.not.ok(await target.has('a'))
  await draft.discard()
  await draft.discard()
  assert.equal(readdirSync(folder), [])
  const source = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.from('half')
    throw new Error('the source broke')
  }
  const error = await store(target, 'a', source()).catch((reason: unknown) => reason)
  assert.match(String(error), /the source broke/)
  assert.equal(readdirSync(folder), [])
})

test('takes no name that leads out of it', async ({ folder }) => {
  const target = new LocalTarget('x', path.join(folder, 'in'), true)
  await target.prepare()
  writeFileSync(path.join(folder, 'out'), 'x')
  for (const name of ['../out', '..', '.', '', '/etc/passwd', 'a/b', 'a\0b']) {
    const calls: (() => Promise<unknown>)[] = [
      () => target.read(name),
      () => target.has(name),
      () => target.create(name),
      () => target.withdraw(name),
    ]
    for (const call of calls) {
      const error = await call().catch((reason: unknown) => reason)
      assert.match(String(error), /is not the name of a file/, name)
    }
  }
})

test('what is not a file is not read', async ({ folder }) => {
  const target = new LocalTarget('x', folder, true)
  mkdirSync(path.join(folder, 'dir'))
  writeFileSync(path.join(folder, 'real'), 'x')
  symlinkSync(path.join(folder, 'real'), path.join(folder, 'link'))
  for (const name of ['dir', 'link'])
    assert.match(String(await target.read(name).catch((error: unknown) => error)), /cannot be read as a file/)
  assert.match(String(await target.read('none').catch((error: unknown) => error)), /There is no file/)
})

test('checking touches nothing; a folder that cannot be is told', async ({ folder }) => {
  await new LocalTarget('x', path.join(folder, 'a/b/c'), true).check()
  assert.equal(readdirSync(folder), [])
  writeFileSync(path.join(folder, 'file'), '', { mode: 0o755 })
  for (const place of ['file', 'file/below']) {
    const target = new LocalTarget('x', path.join(folder, place), true)
    for (const work of [() => target.check(), () => target.prepare()]) {
      const error = await work().catch((reason: unknown) => reason)
      assert.is((error as { code?: string }).code, 'TARGET_UNUSABLE', String(error))
    }
  }
})

test('the environment says where a disk is thrown away', () => {
  assert.is(throwAwayMachine({}), undefined)
  assert.is(throwAwayMachine({ CI: 'false', RENDER: '' }), undefined)
  assert.is(throwAwayMachine({ CI: 'true' }), 'CI')
  assert.is(throwAwayMachine({ CI: '1' }), 'CI')
  assert.is(throwAwayMachine({ KUBERNETES_SERVICE_HOST: '10.0.0.1' }), 'KUBERNETES_SERVICE_HOST')
  assert.is(throwAwayMachine({ FLY_APP_NAME: 'app' }), 'FLY_APP_NAME')
})

test.run()
