/** Archives that are not what they were: restore and verify say what is wrong, and insert nothing. */
import { createHash } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore, RetentionError, status, verify } from '../src/index.ts'
import { messageOf } from '../src/errors.ts'
import type { TestDatabase } from './support/database.ts'
import { someOf } from './support/depth.ts'
import { compareRows, tableRows, type RowText } from './support/judge.ts'
import type { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, now, overDatabases, seedLog, type Scene } from './support/scene.ts'

const test = suite('bad archives')

const cutoff = '2026-05-16T00:00:00Z'
const file = 'log_backup_20260516.csv'
const second = 'log_backup_20260516_0002.csv'

/** A small archive of two rows, and another of one; both are all there is. */
async function archived({ db, project }: Scene): Promise<{ made: TestProject; original: RowText[] }> {
  await seedLog(db, minutesBefore(cutoff, 3))
  const original = await tableRows(db, 'log')
  const made = project({ log: { ...logPolicy, batch: 2 } }, { archive: { to: './backups', durable: true, bom: false } })
  assert.is((await apply({ cwd: made.folder, now })).policies[0]?.archives.length, 2)
  return { made, original }
}

/** Takes the archives from the ledger, so that there is nothing but what lies beside them. */
async function forget(db: TestDatabase): Promise<void> {
  await db.run('delete from retention_ledger')
}

/** Restores and gives the error; the table is as empty as it was. */
async function refused(db: TestDatabase, made: TestProject, what: string, name = file): Promise<RetentionError> {
  const error = await restore({ cwd: made.folder, file: name, now }).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof RetentionError))
    throw new Error(`${what}: ${error === undefined ? 'was restored' : messageOf(error)}`)
  assert.not.equal(error.code, 'UNEXPECTED', `${what}: ${error.message}`)
  assert.is(Number(await db.value('select count(*) from log')), 0, what)
  return error
}

overDatabases(test, 'every byte changed in turn: refused by restore, told by verify', async (scene) => {
  const { made } = await archived(scene)
  const path = made.path(`backups/${file}`)
  const whole = readFileSync(path)
  for (const at of someOf(whole.length, scene.db.kind === 'sqlite' ? 1 : 3)) {
    const bytes = Buffer.from(whole)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8))
    writeFileSync(path, bytes)
    const error = await refused(scene.db, made, `byte ${at}`)
    assert.is(error.code, 'ARCHIVE_CHANGED')
    assert.match(error.message, /is not what was stored: its SHA-256 is [0-9a-f]{64}/)
    const { findings } = await verify({ cwd: made.folder, files: [file] })
    assert.equal(
      findings.map(({ kind, name }) => `${kind} ${name}`),
      [`changed ${file}`],
    )
  }
  writeFileSync(path, whole)
  assert.is((await restore({ cwd: made.folder, file, now })).restored, 2)
})

overDatabases(test, 'cut off at every length: refused by restore, told by verify', async (scene) => {
  const { made } = await archived(scene)
  const path = made.path(`backups/${file}`)
  const whole = readFileSync(path)
  for (const length of someOf(whole.length, scene.db.kind === 'sqlite' ? 1 : 3)) {
    writeFileSync(path, whole.subarray(0, length))
    assert.is((await refused(scene.db, made, `${length} bytes`)).code, 'ARCHIVE_CHANGED')
    const { findings } = await verify({ cwd: made.folder, files: [file] })
    assert.match(findings[0]?.text ?? '', new RegExp(`^${length} bytes, not ${whole.length}$`))
  }
})

overDatabases(
  test,
  'a manifest with a byte changed, where the ledger knows nothing: refused, or the very rows come back',
  async (scene) => {
    const { made, original } = await archived(scene)
    await forget(scene.db)
    const path = made.path(`backups/${file}.manifest.json`)
    const whole = readFileSync(path)
    let kept = 0
    for (const at of someOf(whole.length, 16)) {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 7))
      writeFileSync(path, bytes)
      const outcome = await restore({ cwd: made.folder, file, now }).catch((error: unknown) => error)
      if (outcome instanceof RetentionError) {
        assert.not.equal(outcome.code, 'UNEXPECTED', `byte ${at}: ${outcome.message}`)
        compareRows(await tableRows(scene.db, 'log'), [])
      } else if (outcome instanceof Error) {
        throw outcome
      } else {
        kept += 1
        compareRows(await tableRows(scene.db, 'log'), original.slice(0, 2))
        await scene.db.run('delete from log')
        await forget(scene.db)
      }
    }
    // A host's name or the policy's, say, makes no difference to the rows.
    assert.ok(kept > 0)
  },
)

overDatabases(test, 'a manifest that is JSON, and no manifest', async (scene) => {
  const { made } = await archived(scene)
  await forget(scene.db)
  for (const text of [
    'null',
    '5',
    '"manifest"',
    '[]',
    '{}',
    '{"format":1}',
    '{"format":"1"}',
    '{"format":99}',
    '',
    '{',
  ]) {
    made.write(`backups/${file}.manifest.json`, text)
    assert.is((await refused(scene.db, made, text)).code, 'MANIFEST_INVALID', text)
  }
})

overDatabases(test, 'manifests that have changed places', async (scene) => {
  const { made } = await archived(scene)
  const [first, other] = [`backups/${file}.manifest.json`, `backups/${second}.manifest.json`]
  const [a, b] = [made.read(first), made.read(other)]
  made.write(first, b)
  made.write(other, a)
  assert.is((await verify({ cwd: made.folder })).findings.filter(({ kind }) => kind === 'changed').length, 2)
  assert.match(
    (await refused(scene.db, made, 'with the ledger')).message,
    /is the manifest of log_backup_20260516_0002\.csv/,
  )
  await forget(scene.db)
  assert.is((await refused(scene.db, made, 'without it')).code, 'MANIFEST_INVALID')
})

interface Manifest {
  files: { rows: number; columns: { name: string }[]; csv: Digest; stored: Digest }[]
}
interface Digest {
  bytes: number
  sha256: string
}

/** Writes another archive in the place of one, with a manifest that fits its bytes. */
function forge(made: TestProject, text: string, change: (manifest: Manifest) => void = () => {}): void {
  const bytes = Buffer.from(text)
  const name = `backups/${file}.manifest.json`
  const manifest = JSON.parse(made.read(name)) as Manifest
  const digest = { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
  for (const one of manifest.files) Object.assign(one, { csv: digest, stored: digest })
  change(manifest)
  made.write(name, JSON.stringify(manifest))
  writeFileSync(made.path(`backups/${file}`), bytes)
}

overDatabases(test, 'bytes that fit a manifest which does not fit the table', async (scene) => {
  const { db } = scene
  const { made } = await archived(scene)
  await forget(db)
  const good = made.read(`backups/${file}`)
  const [header = '', one = '', two = ''] = good.split('\n')
  const cases: [string, string, RegExp, ((manifest: Manifest) => void)?][] = [
    ['nothing at all', '', /holds 0 rows, not 2/],
    ['a header alone', `${header}\n`, /holds 0 rows, not 2/],
    ['a row more', `${header}\n${one}\n${two}\n${one}\n`, /holds 3 rows, not 2/],
    ['a row less', `${header}\n${one}\n`, /holds 1 rows, not 2/],
    ['the same row twice', `${header}\n${one}\n${one}\n`, /duplicate key|UNIQUE constraint|came out/],
    ['a column less', good.replaceAll(/,[^,\n]*$/gm, ''), /The header of .* is \(id, at\), not \(id, at, body\)/],
    ['a column more', `${header},more\n${one},1\n${two},1\n`, /The header of .* is \(id, at, body, more\)/],
    [
      'a column that the table has not',
      `${header.replace('body', 'gone')}\n${one}\n${two}\n`,
      /has no column "gone"/,
      (manifest) => Object.assign(manifest.files[0]?.columns[2] ?? {}, { name: 'gone' }),
    ],
    [
      'a row with a field less',
      `${header}\n${one}\n${two.replace(/,[^,]*$/, '')}\n`,
      /missing data|not the CSV it should be|Invalid Record Length/,
    ],
    [
      'a row with a field more',
      `${header}\n${one}\n${two},"x"\n`,
      /extra data|not the CSV it should be|Invalid Record Length/,
    ],
    [
      'a quote that is never closed',
      `${header}\n${one}\n${two}\n"`,
      /unterminated|not the CSV it should be|Quote Not Closed/,
    ],
    ['a CSV of another table', 'x,y\n1,2\n3,4\n', /The header of .* is \(x, y\), not \(id, at, body\)/],
    [
      'bytes that are no text',
      `${header}\n${one}\n\u0000\u0001\n`,
      /invalid|not the CSV|Record Length|neither quoted text nor a number|missing data/,
    ],
  ]
  for (const [what, text, message, change] of cases) {
    const before = made.read(`backups/${file}.manifest.json`)
    forge(made, text, change)
    const error = await refused(db, made, what)
    assert.match(error.message, message, what)
    made.write(`backups/${file}.manifest.json`, before)
  }
  forge(made, good)
  assert.is((await restore({ cwd: made.folder, file, now })).restored, 2)
})

overDatabases(test, 'names that lead elsewhere', async (scene) => {
  const { made } = await archived(scene)
  const names = ['..', '../backups', '../../etc/passwd', '/etc/passwd', '/', '.', '', 'backups', `${file}\0`, '\u0000']
  for (const name of names) await refused(scene.db, made, JSON.stringify(name), name)
  await forget(scene.db)
  // In a manifest as well: it names the file beside it, and no other.
  const manifest = made.read(`backups/${file}.manifest.json`)
  for (const name of ['../secret.csv', '/etc/passwd', second]) {
    made.write(
      `backups/${file}.manifest.json`,
      manifest.replaceAll(`"file": "${file}"`, `"file": ${JSON.stringify(name)}`),
    )
    assert.is((await refused(scene.db, made, name)).code, 'MANIFEST_INVALID')
  }
})

overDatabases(test, 'the ledger survives all of it', async (scene) => {
  const { made, original } = await archived(scene)
  rmSync(made.path(`backups/${second}.manifest.json`))
  for (const { name } of (await status({ cwd: made.folder, now })).archives)
    await restore({ cwd: made.folder, file: name, now })
  compareRows(await tableRows(scene.db, 'log'), original)
})

test.run()
