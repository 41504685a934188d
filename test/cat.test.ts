/** cat and get: an archive's plain CSV, from wherever it lives, and whether it is what was archived. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'

import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, getArchive, readArchive, restore, RetentionError, type ReadArchiveOptions } from '../src/index.ts'
import { kinds } from './support/database.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'
import { unseal } from './support/unseal.ts'

const test = suite('cat and get')

const cutoff = '2026-05-16T00:00:00Z'
const identity = await generateX25519Identity()
const keys = { password: 'secret', identity }
process.env['RETENTION_ZIP_PASSWORD'] = keys.password
process.env['RETENTION_AGE_IDENTITY'] = identity

const sealings = [
  {},
  { compress: 'gzip' },
  { encrypt: { zip: { password: { env: 'RETENTION_ZIP_PASSWORD' } } } },
  { compress: 'zstd', encrypt: { age: [await identityToRecipient(identity)] } },
] as const

/** A log whose rows are archived in one of the forms. */
async function archived({ db, project }: Scene, sealing: (typeof sealings)[number]): Promise<[TestProject, string]> {
  await seedLog(db, minutesBefore(cutoff, 5))
  const made = project({ log: logPolicy }, { archive: { to: './backups', durable: true, ...sealing } })
  const location = (await apply({ cwd: made.folder, now })).policies[0]?.archives[0]?.location
  if (location === undefined) throw new Error('nothing was archived')
  return [made, path.basename(location)]
}

/** What is read, and the code of what went wrong with its end. */
async function read(options: ReadArchiveOptions): Promise<{ csv: Buffer; code?: string }> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of readArchive(options)) chunks.push(Buffer.from(chunk))
    return { csv: Buffer.concat(chunks) }
  } catch (error) {
    if (!(error instanceof RetentionError)) throw error
    return { csv: Buffer.concat(chunks), code: error.code }
  }
}

async function failure(work: Promise<unknown>): Promise<RetentionError> {
  const error = await work.catch((reason: unknown) => reason)
  if (error instanceof RetentionError) return error
  throw new Error('it did not fail', { cause: error })
}

for (const [index, sealing] of sealings.entries()) {
  // Each database reads and writes its own form of CSV, and the forms of sealing are all the same to both.
  const only = kinds.filter((_, at) => index === 0 || at === index % 2)
  overDatabases(
    test,
    `an archive with ${JSON.stringify(Object.keys(sealing))}`,
    async (scene) => {
      const [made, file] = await archived(scene, sealing)
      const name = file.replace(/\.csv.*/, '.csv')
      const stored = readFileSync(made.path(`backups/${file}`))
      const plain = file === name ? stored : await unseal(file, stored, keys)
      for (const named of [name, file, `backups/${file}`])
        assert.equal(await read({ cwd: made.folder, file: named }), { csv: plain })

      const got = await getArchive({ cwd: made.folder, file, folder: 'got/here' })
      assert.equal(got, {
        archive: name,
        files: [{ name, location: made.path(`got/here/${name}`), rows: 5 }],
        manifest: made.path(`got/here/${name}.manifest.json`),
      })
      assert.equal(readFileSync(made.path(`got/here/${name}`)), plain)
      assert.equal(made.list('got/here'), [name, `${name}.manifest.json`])
      for (const one of made.list('got/here')) assert.is(statSync(made.path(`got/here/${one}`)).mode & 0o777, 0o600)

      await getArchive({ cwd: made.folder, file: name, folder: 'sealed', sealed: true })
      assert.equal(made.list('sealed'), [file, `${name}.manifest.json`].toSorted())
      assert.equal(readFileSync(made.path(`sealed/${file}`)), stored)
      assert.equal((await read({ cwd: made.folder, file: `sealed/${file}` })).csv, plain)

      made.write(`full/${name}.manifest.json`, 'in the way')
      assert.is((await failure(getArchive({ cwd: made.folder, file, folder: 'full' }))).code, 'ARCHIVE_EXISTS')
      assert.equal(
        [made.list('full'), made.read(`full/${name}.manifest.json`)],
        [[`${name}.manifest.json`], 'in the way'],
      )

      // In the middle: of the last bytes, a zip's say, not all are of the data.
      const bytes = Buffer.from(stored)
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
      writeFileSync(made.path(`backups/${file}`), bytes)
      assert.is((await read({ cwd: made.folder, file })).code, 'ARCHIVE_CHANGED')
      assert.is((await failure(getArchive({ cwd: made.folder, file, folder: 'none' }))).code, 'ARCHIVE_CHANGED')
      const damaged = getArchive({ cwd: made.folder, file, folder: 'none', sealed: true })
      assert.is((await failure(damaged)).code, 'ARCHIVE_CHANGED')
      assert.equal(made.list('none'), [])

      // What was got is the archive as well, also for whoever has nothing else.
      await scene.db.run('delete from retention_ledger')
      assert.is((await restore({ cwd: made.folder, file: `got/here/${name}`, now })).restored, 5)
    },
    only,
  )
}

overDatabases(test, 'children: each table by its name, each file by its own', async ({ db, project }) => {
  await db.run(
    `create table parent (id bigint primary key, at ${db.kind === 'sqlite' ? 'text' : 'timestamptz'});
    create table child (id bigint primary key, parent_id bigint references parent (id) on delete cascade);
    create table note (id bigint primary key, child_id bigint references child (id) on delete set null);
    insert into parent values (1, '2020-01-01T00:00:00Z'); insert into child values (10, 1); insert into note values (9, 10)`,
  )
  const policy = { table: 'parent', column: 'at', days: 30, children: 'archive' } as const
  const made = project(
    { parent: policy },
    { archive: { to: './backups', durable: true, bom: false, compress: 'gzip' } },
  )
  const [report] = (await apply({ cwd: made.folder, now })).policies
  assert.is(report?.status, 'applied', JSON.stringify(report?.error))
  const file = 'parent_backup_20260516.csv'
  const [cwd, plain] = [made.folder, async (options: object) => (await read({ cwd, file, ...options })).csv.toString()]
  const child = db.kind === 'sqlite' ? '"id","parent_id"\n10,1\n' : 'id,parent_id\n10,1\n'
  assert.is(await plain({ table: 'child' }), child)
  assert.is(await plain({ file: `backups/parent_backup_20260516.child.csv.gz` }), child)
  assert.match(await plain({ file: 'parent_backup_20260516.note.links.csv' }), /9,10\n$/)
  assert.match(await plain({}), /^"?id"?,"?at"?\n/)
  const error = await failure(readArchive({ cwd, file, table: 'nobody' }).next())
  assert.match(error.message, /--table is "nobody"; .* has rows of (\w+\.)?parent, (\w+\.)?child/)
  assert.is((await getArchive({ cwd, file, folder: 'got' })).files.length, 3)
  assert.is(made.list('got').length, 4)
})

overDatabases(
  test,
  'on the command line: CSV and nothing else on stdout, and whoever has enough may stop reading',
  async (scene) => {
    const [made, file] = await archived(scene, sealings[1])
    const { code, stdout, stderr } = await made.cli(['cat', file])
    assert.equal(
      [code, stderr, stdout],
      [0, '', execFileSync('gunzip', ['-c', made.path(`backups/${file}`)]).toString()],
    )
    const bin = path.join(import.meta.dirname, '../src/bin.ts')
    const pipe = spawnSync('bash', ['-c', `set -o pipefail; "${process.execPath}" "${bin}" cat ${file} | head -c 3`], {
      cwd: made.folder,
    })
    assert.equal([pipe.status, pipe.stderr.toString()], [0, ''])
    assert.is((await made.run(['cat', file, '--json'])).code, 2)
  },
  ['sqlite'],
)

test.run()
