/** The service: over real HTTP, runs start once, whoever may not ask is refused, and a stop leaves every row in one place. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import path from 'node:path'

import parsePrometheus from 'parse-prometheus-text-format'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { retentionHandler, retentionMiddleware, status, verify } from '../src/index.ts'
import { Buckets, limitKey } from '../src/serve/limits.ts'
import type { RunView } from '../src/serve/runs.ts'
import { startServer, type RunningServer, type ServerOptions } from '../src/serve/server.ts'
import { fails } from './support/fails.ts'
import { printLoad, underLoad } from './support/load.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog } from './support/scene.ts'
import { TestProject } from './support/project.ts'

const test = suite('serve')

const token = 'a-token-that-is-long-enough'
const authorization = `Bearer ${token}`
const old = minutesBefore('2025-01-01T00:00:00Z', 40)

interface Asking extends RequestInit {
  readonly headers?: Readonly<Record<string, string>>
}

/** A server on a port of its own; gone when the work is done. */
async function serving(
  cwd: string,
  work: (server: RunningServer, ask: (path: string, init?: Asking) => Promise<Response>) => Promise<void>,
  options: Partial<ServerOptions> = {},
): Promise<void> {
  const server = await startServer({ port: 0, host: '127.0.0.1', token, cwd, ...options })
  const ask = async (address: string, init: Asking = {}): Promise<Response> =>
    fetch(`${server.address}${address}`, { ...init, headers: { authorization, ...init.headers } })
  try {
    await work(server, ask)
  } finally {
    await server.close(0)
  }
}

async function ended(ask: (path: string) => Promise<Response>, run: string): Promise<RunView> {
  // The stream ends with the run.
  await (await ask(`/runs/${run}/events`)).text()
  return body(await ask(`/runs/${run}`))
}

async function body<T>(response: Response): Promise<T> {
  return (await response.json()) as T
}

overDatabases(
  test,
  'one run of many that are asked for; followed, told in status and metrics',
  async ({ db, project }) => {
    await seedLog(db, old)
    const { folder } = project({ log: { ...logPolicy, batch: 4 } })
    await serving(folder, async (server, ask) => {
      assert.equal(await body(await ask('/readyz')), { ready: true })
      const answers = await Promise.all(Array.from({ length: 50 }, async () => ask('/run-cleanup', { method: 'POST' })))
      assert.is(answers.filter((answer) => answer.status === 202).length, 1)
      assert.is(answers.filter((answer) => answer.status === 409).length, 49)
      const told = await Promise.all(answers.map(async (answer) => body<{ run: string; status: string }>(answer)))
      const [run = ''] = new Set(told.map((one) => one.run))
      assert.ok(told.every((one) => one.run === run && one.status === `/runs/${run}`))
      assert.is(answers[0]?.headers.get('location'), `/runs/${run}`)

      const text = await (await ask(`/runs/${run}`, { headers: { accept: 'text/event-stream' } })).text()
      const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
      assert.equal(
        ids,
        Array.from(ids.keys(), (index) => index + 1),
      )
      assert.match(text, /event: run-finished/)
      const rest = await (
        await ask(`/runs/${run}/events`, { headers: { 'last-event-id': String(ids.length - 1) } })
      ).text()
      assert.equal(
        [...rest.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)),
        [ids.length],
      )
      const none = await ask(`/runs/${run}/events`, { headers: { 'last-event-id': String(ids.length) } })
      assert.is(none.status, 204)

      const view = await body<RunView>(await ask(`/runs/${run}`))
      assert.is(view.state, 'finished')
      assert.is(view.exitCode, 0)
      assert.is(view.report?.run, run)
      assert.equal(
        view.policies.map(({ policy, rows, due, state }) => ({ policy, rows, due, state })),
        [{ policy: 'log', rows: 40, due: 40, state: 'finished' }],
      )
      assert.equal(await body<unknown>(await ask('/status')), JSON.parse(JSON.stringify(await status({ cwd: folder }))))
      const metrics = await ask('/metrics')
      assert.is(metrics.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
      const families = parsePrometheus(await metrics.text())
      const value = (name: string): string | undefined => families.find((one) => one.name === name)?.metrics[0]?.value
      assert.is(value('retention_archived_rows'), '40')
      assert.is(value('retention_due_rows'), '0')
      assert.is(value('retention_up'), '1')
      assert.ok(Math.abs(Number(value('retention_last_success_timestamp_seconds')) - Date.now() / 1000) < 300)

      // Again, by an address alone, for a policy.
      const again = await body<{ run: string }>(await fetch(`${server.address}/run-cleanup?policy=log&token=${token}`))
      assert.is((await ended(ask, again.run)).policies[0]?.status, 'nothing-due')
      assert.is(server.runs.list().length, 2)
    })
    assert.is(Number(await db.value('select count(*) from log')), 0)
  },
)

overDatabases(test, 'under load no run starts twice, and every request is answered soon', async ({ db, project }) => {
  await seedLog(db, minutesBefore('2025-01-01T00:00:00Z', 3000))
  const { folder } = project({ log: { ...logPolicy, batch: 100 } })
  await serving(
    folder,
    async ({ address }) => {
      const load = await underLoad(address, { token, requests: 300, clients: 20 })
      assert.ok(
        load.answers.every(({ status: code }) => [200, 202, 409].includes(code)),
        printLoad(load),
      )
      assert.not(load.isOverlapping, 'two runs at the same time')
      assert.ok(load.started >= 1)
    },
    { trustProxy: true },
  )
  assert.equal((await verify({ cwd: folder })).findings, [])
})

test('whoever may not ask is refused, and no run begins', async () => {
  const project = new TestProject({ database: 'sqlite:./none.db' }, { log: logPolicy })
  const lines: string[] = []
  await serving(
    project.folder,
    async (server, ask) => {
      const code = async (address: string, init?: Asking): Promise<number> => (await ask(address, init)).status
      const without = { headers: { authorization: '' } }
      assert.is(await code('/healthz', without), 200)
      const ready = await ask('/readyz', without)
      assert.equal([ready.status, await body(ready)], [503, { ready: false, code: 'DATABASE_UNREACHABLE' }])
      for (const address of ['/', '/run-cleanup', '/status', '/metrics', '/runs/x', '/nothing'])
        assert.is(await code(address, without), 401, address)
      assert.is(await code('/run-cleanup', { method: 'HEAD' }), 405)
      assert.is(await code('/run-cleanup', { headers: { 'sec-purpose': 'prefetch;prerender' } }), 403)
      const deleted = await ask('/run-cleanup', { method: 'DELETE' })
      assert.equal([deleted.status, deleted.headers.get('allow')], [405, 'GET, POST'])
      assert.is(await code('/status', { method: 'POST' }), 405)
      assert.is(await code('/run-cleanup?policy=lgo'), 404)
      assert.match(await (await ask('/run-cleanup?policy=lgo')).text(), 'did you mean')
      assert.is(await code('/run-cleanup?polcy=log'), 400)
      assert.is(await code('/runs/none'), 404)
      assert.is(await code('/nothing'), 404)
      assert.is(await code('/run-cleanup', { method: 'POST', body: 'x'.repeat(1025) }), 413)
      assert.is(await code(`/status?${'x'.repeat(3000)}`), 414)
      assert.is(await code('/status'), 503)
      const metrics = await (await ask('/metrics')).text()
      assert.match(metrics, 'retention_up 0')
      for (const [words, answer] of [
        ['nonsense\r\n\r\n', /^HTTP\/1.1 400/],
        [`GET /status HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(9000)}\r\n\r\n`, /^HTTP\/1.1 431/],
        ['GET /status HTTP/1.1\r\n\r\n', /^HTTP\/1.1 400/],
        ['GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n', /^HTTP\/1.1 400/],
        [
          'POST /run-cleanup HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
          /^HTTP\/1.1 411/,
        ],
        ['POST /run-cleanup HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', /^HTTP\/1.1 400/],
      ] as const)
        assert.match(await raw(server, words), answer)
      for (const header of ['content-security-policy', 'referrer-policy', 'cache-control', 'x-content-type-options'])
        assert.ok((await ask('/healthz')).headers.has(header), header)
      const wrong = async (): Promise<number> => code('/status', { headers: { authorization: 'Bearer wrong' } })
      for (let tries = 0; tries < 10; tries += 1) assert.is(await wrong(), 401)
      assert.is(await wrong(), 429)
      assert.ok(Number((await ask('/status')).headers.get('retry-after')) > 0)
      assert.equal(server.runs.list(), [])
    },
    { onRequest: (request) => lines.push(JSON.stringify(request)) },
  )
  assert.ok(lines.length > 20)
  assert.not.match(lines.join('\n'), token)
  project.remove()
})

async function raw(server: RunningServer, words: string): Promise<string> {
  const socket = connect(Number(new URL(server.address).port), '127.0.0.1')
  socket.setEncoding('utf8')
  let answer = ''
  socket.on('data', (chunk: string) => {
    answer += chunk
    socket.end()
  })
  socket.on('error', () => {})
  socket.write(words)
  await once(socket, 'close')
  return answer
}

test('without a token, this machine alone, and no other site', async () => {
  const project = new TestProject({ database: 'sqlite:./none.db' }, { log: logPolicy })
  await serving(
    project.folder,
    async (server) => {
      const code = async (headers: Record<string, string>): Promise<string> =>
        (
          await raw(
            server,
            `POST /run-cleanup?policy=none HTTP/1.1\r\n${Object.entries(headers)
              .map(([name, value]) => `${name}: ${value}\r\n`)
              .join('')}\r\n`,
          )
        ).slice(9, 12)
      const { host } = new URL(server.address)
      assert.is(await code({ host }), '404')
      assert.is(await code({ host: 'localhost:1' }), '404')
      assert.is(await code({ host: 'evil.example' }), '403')
      assert.is(await code({ host, origin: 'http://evil.example' }), '403')
      assert.is(await code({ host, 'sec-fetch-site': 'cross-site' }), '403')
      assert.is(await code({ host, 'sec-fetch-site': 'same-site' }), '403')
      assert.is(await code({ host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }), '404')
    },
    { token: undefined },
  )
  const open = { port: 0, cwd: project.folder }
  await fails(startServer({ ...open, host: '0.0.0.0' }), 'USAGE', /RETENTION_TOKEN/)
  await fails(startServer({ ...open, host: '127.0.0.1', token: 'short' }), 'USAGE', /at least 16/)
  project.remove()
})

test('limits: buckets fill up again, and memory stays small', () => {
  const buckets = new Buckets(2, 60)
  assert.equal(
    [0, 0, 0, 999, 1001].map((now) => buckets.take('a', now)),
    [undefined, undefined, 1, 1, undefined],
  )
  for (let index = 0; index < 20_000; index += 1) buckets.take(String(index), 0)
  assert.is(buckets.addresses, 10_000)
  assert.is(limitKey('::ffff:10.0.0.1'), '10.0.0.1')
  assert.is(limitKey('2001:db8::1'), limitKey('2001:db8:0:0:1:2:3:4'))
  assert.is.not(limitKey('2001:db8:0:1::1'), limitKey('2001:db8::1'))
})

overDatabases(test, 'inside another application, under a prefix', async ({ db, project }) => {
  await seedLog(db, old)
  const { folder } = project()
  assert.throws(() => retentionHandler({ cwd: folder }), /RETENTION_TOKEN|token/)
  const service = retentionMiddleware({ cwd: folder, token })
  const host = createServer((request, response) => {
    // As Express does it.
    const under = Object.assign(request, {
      baseUrl: '/admin/retention',
      url: request.url?.replace('/admin/retention', ''),
    })
    service(under, response)
  })
  host.listen(0, '127.0.0.1')
  await once(host, 'listening')
  const { port } = host.address() as AddressInfo
  const ask = async (address: string): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}${address}`, { headers: { authorization } })
  const started = await body<{ run: string; status: string }>(await ask('/admin/retention/run-cleanup'))
  assert.is(started.status, `/admin/retention/runs/${started.run}`)
  await (await ask(`${started.status}/events`)).text()
  assert.is((await body<RunView>(await ask(started.status))).state, 'finished')
  host.closeAllConnections()
  host.close()

  let isAllowed = true
  const handler = retentionHandler({ cwd: folder, basePath: '/api', authorize: () => isAllowed })
  const answer = async (headers: Record<string, string> = {}): Promise<Response> =>
    handler(new Request('http://app.example/api/run-cleanup', { method: 'POST', headers }))
  assert.is((await answer({ 'sec-fetch-site': 'cross-site' })).status, 403)
  const again = await body<{ run: string; status: string }>(await answer())
  assert.is(again.status, `/api/runs/${again.run}`)
  await (await handler(new Request(`http://app.example${again.status}/events`))).text()
  isAllowed = false
  assert.is((await answer()).status, 403)
})

overDatabases(
  test,
  'SIGTERM: the running step ends, no other begins, and the process ends well',
  async ({ db, project }) => {
    await seedLog(db, old)
    const { folder } = project({ log: { ...logPolicy, batch: 1, concurrency: 1, pause: '200ms' } })
    const child = spawn(process.execPath, [path.join(import.meta.dirname, '../src/bin.ts'), 'serve', '--port', '0'], {
      cwd: folder,
      env: { ...process.env, RETENTION_TOKEN: token, PORT: undefined, HOST: undefined },
      stdio: ['ignore', 'inherit', 'pipe'],
    })
    child.stderr.setEncoding('utf8')
    let said = ''
    const heard = new Promise<string>((resolve) => {
      child.stderr.on('data', (chunk: string) => {
        said += chunk
        const [, address] = /Listening on (\S+)/.exec(said) ?? []
        if (address !== undefined) resolve(address)
      })
      child.on('close', () => resolve(''))
    })
    const address = await heard
    const ask = async (to: string): Promise<Response> => fetch(`${address}${to}`, { headers: { authorization } })
    const { run } = await body<{ run: string }>(await fetch(`${address}/run-cleanup?token=${token}`))
    const events = (await ask(`/runs/${run}/events`)).body?.pipeThrough(new TextDecoderStream()) ?? []
    let stream = ''
    for await (const chunk of events) {
      if (!stream.includes('step-finished') && chunk.includes('step-finished')) child.kill('SIGTERM')
      stream += chunk
    }
    assert.match(stream, 'run-finished', 'the stream does not tell the end')
    const [code] = child.exitCode === null ? await once(child, 'close') : [child.exitCode]
    assert.is(code, 0, said)
    assert.not.match(said, token)
    const left = Number(await db.value('select count(*) from log'))
    assert.ok(left > 0 && left < 40, `${left} rows are left`)
    const [policy] = (await status({ cwd: folder })).policies
    assert.is(policy?.archived, 40 - left)
    assert.equal((await verify({ cwd: folder })).findings, [])
  },
)

test.run()
