/** What is promised of stored files wherever they live: the scenes that every service's tests play. */
import { createHash } from 'node:crypto'

import * as assert from 'uvu/assert'

import { store, storeText } from '../../src/archive/store.ts'
import { apply, restore, status, verify } from '../../src/index.ts'
import type { Target } from '../../src/target/target.ts'
import { logPolicy, minutesBefore, now, seedLog, type Scene } from './scene.ts'

/** An empty folder of a service. */
export interface Place {
  /** Its address, as a config writes it. */
  readonly to: string
  /** The address of a file in it, as the ledger has it. */
  readonly locate: (file: string) => string
  readonly newTarget: () => Target
  /** The names of its files, sorted. */
  readonly names: () => string[]
  readonly read: (file: string) => Buffer
}

export async function bytesOf(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of source) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

export async function failureOf(work: Promise<unknown>): Promise<{ code?: string; message: string; hint?: string }> {
  return work.then(
    () => ({ message: 'no failure' }),
    (error: unknown) => error as Error,
  )
}

/** Bytes in pieces that end nowhere in particular. */
export function piecesOf(bytes: Buffer): Buffer[] {
  return [bytes.subarray(0, 700_000), bytes.subarray(700_000, 700_001), bytes.subarray(700_001)]
}

/**
 * Sixty rows go, in two archives, are found whole, and come back by name and by address.
 * @param meanwhile what else is looked at while they are away, in the project's folder
 */
export async function archivesAndRestores(
  { db, project }: Scene,
  place: Place,
  meanwhile?: (folder: string) => Promise<void>,
): Promise<void> {
  const { folder, names, before } = await archiveLog({ db, project }, place)
  const [again] = (await apply({ cwd: folder, now })).policies
  assert.is(again?.status, 'nothing-due', JSON.stringify(again))
  const { findings, checked } = await verify({ cwd: folder, deep: true })
  assert.equal([findings, checked], [[], 2])
  const [first = '', second = ''] = names
  assert.is((await verify({ cwd: folder, files: [place.locate(first)] })).checked, 1)
  await meanwhile?.(folder)
  assert.is((await restore({ cwd: folder, file: place.locate(first), hold: 'none' })).restored, 40)
  assert.is((await restore({ cwd: folder, file: second, hold: 'none' })).restored, 20)
  assert.equal(await db.dump('log'), before)
  assert.equal(
    (await status({ cwd: folder, now })).archives.map(({ state, target }) => ({ state, target })),
    names.map(() => ({ state: 'restored', target: place.to })),
  )
}

/** Sixty rows in two archives. @returns the project's folder, the archives' names, and the table as it was */
async function archiveLog({ db, project }: Scene, place: Place) {
  await seedLog(db, minutesBefore('2026-05-16T00:00:00Z', 60))
  const before = await db.dump('log')
  const { folder } = project({ log: { ...logPolicy, batch: 40 } }, { archive: place.to })
  const [policy] = (await apply({ cwd: folder, now })).policies
  assert.is(policy?.status, 'applied', JSON.stringify(policy))
  const names = ['log_backup_20260516.csv', 'log_backup_20260516_0002.csv']
  assert.equal(place.names(), names.flatMap((name) => [name, `${name}.manifest.json`]).toSorted())
  assert.equal(
    policy?.archives.map(({ location }) => location),
    names.map((name) => place.locate(name)),
  )
  for (const { name, sha256 } of policy?.archives ?? [])
    assert.is(createHash('sha256').update(place.read(name)).digest('hex'), sha256)
  return { folder, names, before }
}

/** Files of several chunks, of a few bytes and of none, and names that are none. */
export async function storesAndReads(place: Place, large: Buffer): Promise<void> {
  const target = place.newTarget()
  await target.prepare()
  assert.equal([place.names(), await target.list()], [[], []])
  const twice = Buffer.concat([large, large])
  const { sha256 } = await store(target, 'large.csv', [...piecesOf(large), large])
  assert.is(sha256, createHash('sha256').update(twice).digest('hex'))
  await storeText(target, 'small.csv', 'x\n')
  await storeText(target, 'empty.csv', '')
  const other = place.newTarget()
  for (const one of [target, other]) {
    assert.ok((await bytesOf(await one.read('large.csv'))).equals(twice))
    assert.is((await bytesOf(await one.read('empty.csv'))).length, 0)
    assert.equal((await one.list()).toSorted(), ['empty.csv', 'large.csv', 'small.csv'])
    assert.equal([await one.has('small.csv'), await one.has('none.csv')], [true, false])
    assert.is((await failureOf(one.read('none.csv'))).code, 'ARCHIVE_NOT_FOUND')
  }
  for (const name of ['../out', '..', '', 'a/b'])
    assert.match((await failureOf(target.has(name))).message, /is not the name/)
  await target.withdraw('large.csv')
  await target.withdraw('none.csv')
  await other.remove('empty.csv')
  await other.remove('none.csv')
  assert.equal(await target.list(), ['small.csv'])
}

/** Nothing is overwritten, whoever comes first. */
export async function overwritesNothing(place: Place, large: Buffer): Promise<void> {
  const target = place.newTarget()
  await storeText(target, 'a.csv', 'mine')
  assert.is((await failureOf(storeText(target, 'a.csv', 'yours'))).code, 'ARCHIVE_EXISTS')
  assert.is((await failureOf(store(place.newTarget(), 'a.csv', piecesOf(large)))).code, 'ARCHIVE_EXISTS')
  assert.is(String(place.read('a.csv')), 'mine')
  const all = await Promise.allSettled(
    Array.from({ length: 6 }, (_, index) => storeText(place.newTarget(), 'b.csv', `${index}`.repeat(99))),
  )
  assert.is(all.filter(({ status: outcome }) => outcome === 'fulfilled').length, 1)
  assert.match(String(place.read('b.csv')), /^(\d)\1{98}$/)
  assert.equal(place.names(), ['a.csv', 'b.csv'])
}
