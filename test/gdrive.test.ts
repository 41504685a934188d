/** Google Drive as target: what is promised of stored files, against its interface as documented, with its failures. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { openTarget } from '../src/target/open.ts'
import type { Target } from '../src/target/target.ts'
import { driveToken, startDrive, type TestDrive } from './support/drive-server.ts'
import { archivesAndRestores, overwritesNothing, storesAndReads, type Place } from './support/places.ts'
import { overDatabases } from './support/scene.ts'

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
  for (const isShared of [false, true]) await storesAndReads(newPlace({ isShared }), large)
  assert.is(drive.unfinished, 0)
})

test('publishing overwrites nothing; of several at once one wins', async () => {
  await overwritesNothing(newPlace(), large)
  assert.is(drive.unfinished, 0)
})

test.run()
