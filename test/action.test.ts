/** The GitHub action: its own steps, run by bash as a runner does, on real databases and against a server that answers as GitHub. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'

import { defaultLoaders } from 'cosmiconfig'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { plan } from '../src/index.ts'
import { createDatabase, kinds, type Kind, type TestDatabase } from './support/database.ts'
import { TestProject } from './support/project.ts'

const test = suite('action')
const root = path.join(import.meta.dirname, '..')

interface Step {
  readonly if: string
  readonly env: Record<string, string>
  readonly run: string
}
interface Action {
  readonly inputs: Record<string, { default?: string }>
  readonly runs: { steps: readonly [Step, Step] }
}

const file = path.join(root, 'action.yml')
// Its form is what the tests below lean on.
const action = defaultLoaders['.yaml'](file, readFileSync(file, 'utf8')) as Action

/** Runs the action's step for these inputs in a project's folder. */
async function runAction(project: TestProject, inputs: Record<string, string>, env: Record<string, string> = {}) {
  const step = action.runs.steps[inputs['command'] === 'comment' ? 1 : 0]
  const given = (value: string): string =>
    value.replaceAll(
      /\$\{\{ inputs\.([\w-]+) \}\}/g,
      (_, name: string) => inputs[name] ?? action.inputs[name]?.default ?? '',
    )
  const files = { GITHUB_OUTPUT: project.path('.output'), GITHUB_STEP_SUMMARY: project.path('.summary') }
  for (const name of Object.values(files)) writeFileSync(name, '')
  project.write('.step.sh', step.run)
  project.write('.bin/npx', `#!/bin/sh\nshift 2; shift\nexec "${process.execPath}" "${root}/src/bin.ts" "$@"\n`)
  chmodSync(project.path('.bin/npx'), 0o755)
  const { code, output } = await new Promise<{ code: unknown; output: string }>((resolve) => {
    execFile(
      'bash',
      ['--noprofile', '--norc', '-eo', 'pipefail', project.path('.step.sh')],
      {
        cwd: project.folder,
        env: {
          ...process.env,
          ...files,
          ...Object.fromEntries(Object.entries(step.env).map(([name, value]) => [name, given(value)])),
          GITHUB_ACTION_PATH: root,
          PATH: `${project.path('.bin')}:${path.dirname(process.execPath)}:${process.env['PATH']}`,
          ...env,
        },
      },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, output: stdout + stderr }),
    )
  })
  const [, , report = ''] = /^report<<([0-9a-f]{32})\n([\s\S]*)\n\1\n$/.exec(project.read('.output')) ?? []
  return { code, output, report, summary: project.read('.summary') }
}

async function shop(kind: Kind): Promise<{ database: TestDatabase; project: TestProject }> {
  const database = await createDatabase(kind)
  await database.run(
    kind === 'sqlite'
      ? 'create table log (id integer primary key autoincrement, at text)'
      : 'create table log (id integer primary key, at timestamptz)',
  )
  const lately = new Date(Date.now() - 200 * 86_400_000).toISOString()
  for (const [id, at] of ['2020-01-01T00:00:00Z', '2020-01-02T00:00:00Z', lately].entries())
    await database.run(`insert into log values (${id}, '${at}')`)
  const old = { table: 'log', column: 'at' }
  const project = new TestProject(
    { database: database.address },
    { kept: { ...old, days: 100, where: 'id < 1000' }, gone: { ...old, days: 900 }, code: { ...old, days: 800 } },
  )
  return { database, project }
}

for (const kind of kinds) {
  test(`${kind}: a plan shows what a head changes, runs nothing of it and opens nothing that it names`, async () => {
    const { database, project } = await shop(kind)
    try {
      const evil = `import { writeFileSync } from 'node:fs'; writeFileSync('${project.path('was-run')}', ''); export default {}`
      for (const ending of ['ts', 'js', 'mjs']) project.write(`head/policies/code${ending}.${ending}`, evil)
      project.write('head/policies/code.ts', evil)
      project.write('head/retention.config.ts', evil)
      project.write('head/policies/kept.json', '{ "table": "log", "column": "at", "days": 1200, "where": "id < 1000" }')
      project.write(
        'head/policies/wrong.yaml',
        'table: "no|<b>@me\\n# such"\ncolumn: at\ndays: 3\narchive: s3://theirs/x\n',
      )
      project.write('head/policies/sql.yml', 'table: log\ncolumn: at\ndays: 3\nwhere: "1 = 1"\n')
      symlinkSync('/etc/passwd', project.path('head/policies/link.json'))
      await database.run(
        "create table person (id integer primary key, mail text); insert into person values (1, 'zebulon')",
      )
      project.write('head/policies/mail.json', '{ "table": "person", "column": "mail", "days": 3 }')
      const made = await runAction(project, { command: 'plan', 'policies-from': 'head/policies' })
      assert.is(made.code, 1, made.output)
      assert.is(existsSync(project.path('was-run')), false)
      assert.is(made.summary.trim(), made.report.trim())
      const line = (name: string): string =>
        made.report.split('\n').find((text) => text.includes(`<code>${name}</code> |`)) ?? ''
      assert.match(line('kept'), /\| 3 \| 2 \| changed: cutoff, due \|$/)
      assert.match(line('gone'), /\| 2 \| – \| removed \|$/)
      assert.match(line('code'), /\| \? \| code&#58; not planned \|$/)
      assert.match(line('sql'), /\| – \| \? \| a new "where" is SQL&#58; not planned \|$/)
      assert.match(line('link'), /no plain file/)
      assert.match(line('wrong'), /no&#124;&#60;b&#62;&#64;&#8205;me &#35;&#8205; such.*\| new; \*\*refused\*\* \|$/)
      assert.match(line('mail'), 'refused')
      assert.not.match(made.report, /<b>|@|root|zebulon/)
      assert.is(await database.value('select count(*) from log').then(Number), 3)
      // A link of the head's must not lead to other files, nor a few lines of YAML to endless ones.
      symlinkSync('/etc', project.path('head/away'))
      for (const [folder, what] of [
        ['head/away', /symbolic link/],
        ['head/bomb', /anchors/],
      ] as const) {
        project.write('head/bomb/a.yaml', 'table: &a [x]\ncolumn: *a\ndays: *a\n')
        const error: unknown = await plan({ cwd: project.folder, policiesFrom: folder }).catch(
          (reason: unknown) => reason,
        )
        assert.match(String(error), what)
      }
    } finally {
      project.remove()
      await database.drop()
    }
  })
}

test('check and apply end as the command does; inputs are no part of the script', async () => {
  const { database, project } = await shop('sqlite')
  try {
    const none = await runAction(project, { command: 'plan"; touch was-run; $(touch was-run) `touch was-run`' })
    assert.is(none.code, 2)
    mkdirSync(project.path('$(touch was-run)'))
    project.write('policies/kept.ts', 'export default { table: "nowhere", column: "at", days: 100 }')
    const applied = await runAction(project, { command: 'apply', 'working-directory': './$(touch was-run)' })
    assert.is(applied.code, 1, applied.output)
    assert.match(applied.summary, 'exit code 1')
    project.write('policies/kept.ts', 'export default { days: "::set-env name=A::" }')
    const checked = await runAction(project, { command: 'check' })
    assert.is(checked.code, 2)
    assert.match(checked.output, /^::stop-commands::([0-9a-f]{32})$[\s\S]*^::\1::$/m)
    assert.is(existsSync(project.path('was-run')), false)
  } finally {
    project.remove()
    await database.drop()
  }
})

test('a report is commented once, and then updated; without a token that may write it is in the summary', async () => {
  const project = new TestProject({}, {})
  const others = Array.from({ length: 100 }, (_, id) => ({
    id,
    user: { login: 'me' },
    body: '<!-- retention plan -->',
  }))
  const comments: { id: number; user: { login: string }; body: string }[] = [...others]
  const seen: string[] = []
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url = '', headers } = request
    seen.push(`${method} ${url}`)
    const text = Buffer.concat(await request.toArray()).toString()
    if (method !== 'GET' && headers.authorization !== 'Bearer writes') return void response.writeHead(403).end()
    if (method === 'GET') {
      const page = Number(new URL(url, 'http://x').searchParams.get('page'))
      return void response.end(JSON.stringify(comments.slice((page - 1) * 100, page * 100)))
    }
    const { body } = JSON.parse(text) as { body: string }
    if (method === 'POST') comments.push({ id: 777, user: { login: 'github-actions[bot]' }, body })
    else for (const comment of comments.filter(({ id }) => url.endsWith(`/${id}`))) comment.body = body
    response.writeHead(method === 'POST' ? 201 : 200).end('{}')
  }
  const server = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    project.write('event.json', '{ "pull_request": { "number": 7 } }')
    const env = {
      GITHUB_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      GITHUB_EVENT_PATH: project.path('event.json'),
      GITHUB_REPOSITORY: 'some/where',
    }
    const comment = async (report: string, token: string) =>
      runAction(project, { command: 'comment', report, token }, env)
    const first = await comment('first $(touch was-run)', 'writes')
    assert.is(first.code, 0, first.output)
    const second = await comment('second', 'writes')
    assert.is(second.summary, '')
    const list = (page: number): string => `GET /repos/some/where/issues/7/comments?per_page=100&page=${page}`
    assert.equal(seen, [
      list(1),
      list(2),
      'POST /repos/some/where/issues/7/comments',
      list(1),
      list(2),
      'PATCH /repos/some/where/issues/comments/777',
    ])
    assert.equal(
      comments.slice(100).map(({ body }) => body),
      ['<!-- retention plan -->\nsecond'],
    )
    for (const token of ['', 'only-reads']) {
      const fork = await comment('third', token)
      assert.is(fork.code, 0, fork.output)
      assert.is(fork.summary, 'third\n')
    }
    assert.is(comments.length, 101)
    assert.is(existsSync(project.path('was-run')), false)
  } finally {
    server.close()
    project.remove()
  }
})

test.run()
