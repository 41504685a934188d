/** The package as users get it: packed, installed into an empty project, used from TypeScript, and its bin run. */
import { execFile } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect, promisify } from 'node:util'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { createDatabase } from './support/database.ts'
import { seedLog } from './support/scene.ts'

const test = suite<{ folder: string }>('package')

const repository = path.join(import.meta.dirname, '..')
const run = promisify(execFile)

test.before(async (context) => {
  context.folder = mkdtempSync(path.join(tmpdir(), 'retention-package-'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', context.folder], { cwd: repository })
  const [{ filename = '' } = {}] = JSON.parse(stdout.slice(stdout.indexOf('['))) as { filename?: string }[]
  writeFileSync(path.join(context.folder, 'package.json'), '{ "name": "empty", "type": "module", "private": true }')
  await run('npm', ['install', `./${filename}`, '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: context.folder,
  })
  cpSync(path.join(repository, 'node_modules/@types/node'), path.join(context.folder, 'node_modules/@types/node'), {
    recursive: true,
  })
  cpSync(path.join(repository, 'node_modules/undici-types'), path.join(context.folder, 'node_modules/undici-types'), {
    recursive: true,
  })
})
test.after((context) => rmSync(context.folder, { recursive: true, force: true }))

test('holds what it should, and nothing else', async ({ folder }) => {
  const installed = path.join(folder, 'node_modules/retention')
  const { files } = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as { files: string[] }
  assert.equal(files, ['dist', 'CHANGELOG.md'])
  const { stdout } = await run(
    'find',
    ['.', '-type', 'f', '-not', '-path', './dist/*', '-not', '-path', './node_modules/*'],
    { cwd: installed },
  )
  assert.equal(stdout.trim().split('\n').toSorted(), ['./CHANGELOG.md', './LICENSE', './README.md', './package.json'])
  const sources = globSync('**/*.ts', { cwd: path.join(repository, 'src') }).map((file) => file.replace(/\.ts$/, ''))
  const built = globSync('**/*', { cwd: path.join(installed, 'dist'), withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(path.join(installed, 'dist'), path.join(entry.parentPath, entry.name)))
  assert.equal(
    built.toSorted(),
    sources.flatMap((source) => [`${source}.d.ts`, `${source}.js`, `${source}.js.map`]).toSorted(),
  )
})

test('its types serve a strict project, and its functions do their work', async ({ folder }) => {
  const db = await createDatabase('sqlite')
  try {
    await seedLog(db, ['2020-01-01T00:00:00Z', '2099-01-01T00:00:00Z'])
    mkdirSync(path.join(folder, 'policies'), { recursive: true })
    writeFileSync(
      path.join(folder, 'policies/log.ts'),
      `import { definePolicy } from 'retention'
export default definePolicy({ table: 'log', column: 'at', days: Number(process.env['DAYS'] || 30) })
`,
    )
    writeFileSync(
      path.join(folder, 'retention.config.ts'),
      `import { defineConfig } from 'retention'
export default defineConfig({ database: '${db.address}', archive: { to: './backups', durable: true } })
`,
    )
    writeFileSync(
      path.join(folder, 'main.ts'),
      `import { apply, plan, restore, RetentionError, status, verify, type ApplyReport, type ErrorCode } from 'retention'

const planned: ApplyReport = await plan()
const applied = await apply({ policies: ['log'], onEvent: ({ type }) => console.error(type) })
const [policy] = applied.policies
const name: string = policy?.archives[0]?.name ?? ''
const { findings } = await verify()
const { restored } = await restore({ file: name, hold: '30d' })
const { archives } = await status()
const code: ErrorCode | undefined = await restore({ file: name }).then(
  () => undefined,
  (error: unknown) => (error instanceof RetentionError ? error.code : undefined),
)
console.log(JSON.stringify([planned.policies[0]?.due, policy?.status, findings.length, restored, archives[0]?.state, code]))
`,
    )
    writeFileSync(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          target: 'es2024',
          module: 'nodenext',
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
          types: ['node'],
          skipLibCheck: false,
        },
        include: ['*.ts', 'policies'],
      }),
    )
    await run(path.join(repository, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: folder }).catch(
      (error: { stdout?: string }) => {
        throw new Error(error.stdout)
      },
    )
    const { stdout } = await run(process.execPath, ['main.ts'], { cwd: folder })
    assert.equal(JSON.parse(stdout), [1, 'applied', 0, 1, 'restored', 'ALREADY_RESTORED'])
    const bin = path.join(folder, 'node_modules/.bin/retention')
    assert.match((await run(bin, ['status'], { cwd: folder })).stdout, /log_backup_\d{8}\.csv are held until/)
    assert.match((await run(bin, ['verify'], { cwd: path.join(folder, 'policies') })).stdout, /1 archive checked/)
    // What few need is not installed with it, and asked for by those who do.
    await db.run(`insert into log (at) values ('2020-01-01T00:00:00Z')`)
    writeFileSync(
      path.join(folder, 'retention.config.ts'),
      `export default { database: '${db.address}', archive: { to: './backups', durable: true, encrypt: { age: ['age1x'] } } }`,
    )
    const refused = await run(bin, ['plan'], { cwd: folder }).catch((error: { stdout?: string }) => error)
    assert.match(refused.stdout ?? '', /npm install age-encryption/)
    // What not everybody needs is asked for by whoever needs it.
    for (const [archive, name] of [
      ['s3://bucket', '@aws-sdk/client-s3'],
      ['gdrive://1234567890', 'google-auth-library'],
    ] as const) {
      const config = `export default { database: '${db.address}', archive: '${archive}' }`
      writeFileSync(path.join(folder, 'retention.config.ts'), config)
      const error = await run(bin, ['apply'], { cwd: folder }).catch((reason: unknown) => reason)
      assert.match(inspect(error), new RegExp(`need the package ${name}[^]*npm install ${name}`))
    }
  } finally {
    await db.drop()
  }
})

test.run()
