/** The service: over real HTTP, runs start once, whoever may not ask is refused, and a stop leaves every row in one place. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import express from 'express'
import { Hono } from 'hono'
import parsePrometheus from 'parse-prometheus-text-format'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { retentionHandler, retentionMiddleware, status, verify } from '../src/index.ts'
import { Buckets, limitKey } from '../src/serve/limits.ts'
import { metricsText } from '../src/serve/metrics.ts'
import { Runs, type RunView } from '../src/serve/runs.ts'
import { startServer, type RunningServer, type ServerOptions } from '../src/serve/server.ts'
import { connectToSqlite } from './support/database.ts'
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
      const limited = await ask('/status', { headers: { authorization: 'Bearer wrong' } })
      assert.ok(Number(limited.headers.get('retry-after')) > 0)
      assert.is(await code('/runs'), 200, 'whoever has the token was locked out by others')
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

overDatabases(test, 'inside other applications, under a prefix', async ({ db, project }) => {
  await seedLog(db, old)
  const { folder } = project()
  assert.throws(() => retentionHandler({ cwd: folder }), /RETENTION_TOKEN|token/)
  const own = express()
  own.use('/admin/retention', retentionMiddleware({ cwd: folder, token }))
  own.use(retentionMiddleware({ cwd: folder, token, basePath: '/second' }))
  own.use((request, response) => void response.status(418).send(request.originalUrl))
  await listeningOn(createServer(own), async (address) => {
    const ask = async (to: string): Promise<Response> => fetch(`${address}${to}`, { headers: { authorization } })
    const started = await body<{ run: string; status: string }>(await ask('/admin/retention/run-cleanup?policy=log'))
    assert.is(started.status, `/admin/retention/runs/${started.run}`)
    await (await ask(`${started.status}/events`)).text()
    assert.is((await body<RunView>(await ask(started.status))).state, 'finished')
    assert.equal(await body(await ask('/second/readyz')), { ready: true })
    for (const foreign of [
      '/admin/retention/nothing',
      '/second/nothing',
      '/secondary',
      '/status',
      '/admin/retention?x',
    ]) {
      const answer = await fetch(`${address}${foreign}`)
      assert.equal([answer.status, await answer.text()], [418, foreign])
    }
    assert.is((await fetch(`${address}/second/status`)).status, 401)
  })
  await listeningOn(createServer(retentionMiddleware({ cwd: folder, token, basePath: '/alone' })), async (address) => {
    const codes = ['/alone/healthz', '/healthz', '/alone/nothing'].map(
      async (to) => (await fetch(`${address}${to}`, { headers: { authorization } })).status,
    )
    assert.equal(await Promise.all(codes), [200, 404, 404])
  })

  let isAllowed = true
  const handler = retentionHandler({ cwd: folder, basePath: '/api', authorize: () => isAllowed })
  const hono = new Hono().mount('/api', handler)
  // As Hono passes it on, without the prefix; and as Next does, with it.
  for (const application of [hono.fetch, handler]) {
    const answer = async (headers: Record<string, string> = {}): Promise<Response> =>
      application(new Request('http://app.example/api/run-cleanup', { method: 'POST', headers }))
    isAllowed = true
    assert.is((await answer({ 'sec-fetch-site': 'cross-site' })).status, 403)
    const again = await body<{ run: string; status: string }>(await answer())
    assert.is(again.status, `/api/runs/${again.run}`)
    await (await application(new Request(`http://app.example${again.status}/events`))).text()
    isAllowed = false
    assert.is((await answer()).status, 403)
  }
})

async function listeningOn(server: Server, work: (address: string) => Promise<void>): Promise<void> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  // A server that listens on a port has an address of this form.
  const { port } = server.address() as AddressInfo
  try {
    await work(`http://127.0.0.1:${port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('streams: a heartbeat where nothing happens; so many and no more, and who has gone is not counted', async () => {
  const project = new TestProject({ database: 'sqlite:./log.db' }, { log: { ...logPolicy, batch: 1, pause: '1h' } })
  const db = connectToSqlite(project.path('log.db'))
  await seedLog(db, old)
  await serving(
    project.folder,
    async (_, ask) => {
      const { status: run } = await body<{ status: string }>(await ask('/run-cleanup'))
      const first = await ask(`${run}/events`)
      for await (const text of first.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        if (!text.includes(':\n\n')) continue
        const second = await ask(`${run}/events`)
        assert.is(second.status, 503)
        assert.is((await body<{ error: { code: string } }>(second)).error.code, 'TOO_MANY_STREAMS')
        break
      }
      // It has gone, which takes the server a moment to see.
      for (;;) {
        const third = await ask(`${run}/events`)
        await third.body?.cancel()
        if (third.status === 200) break
        await sleep(5)
      }
    },
    { streams: { most: 1, heartbeat: 10 } },
  )
  await db.drop()
  project.remove()
})

test('who is too slow is cut off; addresses come from a proxy only where one is trusted', async () => {
  const project = new TestProject({ database: 'sqlite:./none.db' }, { log: logPolicy })
  await serving(
    project.folder,
    async (server) => assert.match(await raw(server, 'GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: '), /^HTTP\/1.1 408/),
    { headersWithin: 30 },
  )
  const wrong = async ({ address }: RunningServer, from: string): Promise<number> => {
    const headers = { authorization: 'Bearer wrong', 'x-forwarded-for': from }
    return (await fetch(`${address}/status`, { headers })).status
  }
  await serving(
    project.folder,
    async (server) => {
      for (let tries = 0; tries < 10; tries += 1)
        assert.is(await wrong(server, `192.0.2.${tries}, 2001:db8::${tries}`), 401)
      assert.is(await wrong(server, '192.0.2.1, 2001:db8::99'), 429)
      assert.is(await wrong(server, '2001:db8::1, 192.0.2.1'), 401)
      // What is no address is whoever is connected.
      for (let tries = 0; tries < 10; tries += 1)
        assert.is(await wrong(server, `192.0.2.${tries}, unknown${tries}`), 401)
      assert.is(await wrong(server, ''), 429)
    },
    { trustProxy: true },
  )
  await serving(project.folder, async (server) => {
    for (let tries = 0; tries < 10; tries += 1) assert.is(await wrong(server, `192.0.2.${tries}`), 401)
    assert.is(await wrong(server, '198.51.100.1'), 429)
  })
  project.remove()
})

test('only the latest runs and events are kept', async () => {
  const project = new TestProject({ database: 'sqlite:./log.db' }, { log: { ...logPolicy, batch: 4 } })
  const db = connectToSqlite(project.path('log.db'))
  await seedLog(db, old)
  const runs = new Runs({ cwd: project.folder }, { runs: 2, events: 3 })
  const ids: string[] = []
  for (let count = 0; count < 3; count += 1) {
    const started = await runs.start([])
    const id = 'run' in started ? started.run : ''
    ids.push(id)
    for await (const _ of runs.events(id, 0, 1000));
    const events = runs.view(id)?.events ?? []
    assert.is(events.length, 3)
    assert.is(events.at(-1)?.type, 'run-finished')
  }
  assert.equal(
    runs.list().map(({ run }) => run),
    ids.toReversed().slice(0, 2),
  )
  assert.is(runs.view(ids[0] ?? ''), undefined)
  await db.drop()
  project.remove()
})

test('metrics: any name is read as it was', async () => {
  const project = new TestProject({ database: 'sqlite:./log.db' }, { log: logPolicy })
  const db = connectToSqlite(project.path('log.db'))
  await seedLog(db, old)
  const report = await status({ cwd: project.folder })
  const names = ['a"b', String.raw`back\slash\n`, 'two\nlines', '{x="1"} 5', '한글 🙂', '']
  const policies = names.flatMap((name) => report.policies.map((one) => ({ ...one, policy: name, table: `t.${name}` })))
  const families = parsePrometheus(metricsText({ ...report, policies }, false, Date.now()))
  const due = families.find(({ name }) => name === 'retention_due_rows')?.metrics
  assert.equal(
    due?.map(({ labels, value }) => [labels?.policy, labels?.table, value]),
    names.map((name) => [name, `t.${name}`, '40']),
  )
  await db.drop()
  project.remove()
})

overDatabases(
  test,
  'a step that takes too long is rolled back: past the grace, and at the second signal',
  async ({ db, project }) => {
    await seedLog(db, [])
    const rows = 60_000
    const [numbers, at] =
      db.kind === 'sqlite'
        ? [
            `with recursive n (i) as (select 1 union all select i + 1 from n where i < ${rows}) select i from n`,
            `'2020-01-01T00:00:00Z'`,
          ]
        : [`select i from generate_series(1, ${rows}) i`, `timestamptz '2020-01-01'`]
    await db.run(`insert into log (at, body) select ${at}, 'some text ' || i from (${numbers}) as numbers`)
    const scene = project({ log: { ...logPolicy, batch: rows, concurrency: 1 } })
    const inStep = async (): Promise<void> => {
      while (scene.list().length === 0) await sleep(1)
    }
    await serving(scene.folder, async (server, ask) => {
      const { run } = await body<{ run: string }>(await ask('/run-cleanup'))
      await inStep()
      await server.close(0)
      const view = server.runs.view(run)
      assert.equal(
        view?.report?.policies.map((one) => [one.status, one.archived]),
        [['interrupted', 0]],
      )
    })
    assert.equal(scene.list(), [])

    // As platforms do it, which say where to listen by the environment.
    const port = await freePort()
    const env = { PORT: String(port), HOST: 'localhost', RETENTION_TOKEN: token }
    const command = scene.run(['serve', '--grace', '1h'], { env })
    const address = `http://localhost:${port}`
    while (
      !(await fetch(`${address}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      ))
    )
      await sleep(5)
    await fetch(`${address}/run-cleanup?token=${token}`)
    await inStep()
    process.emit('SIGTERM')
    process.emit('SIGTERM')
    const { code, stderr } = await command
    assert.is(code, 0)
    assert.match(stderr, 'once more rolls it back')
    assert.is(Number(await db.value('select count(*) from log')), rows)
    const [policy] = (await status({ cwd: scene.folder })).policies
    assert.is(policy?.lastRun?.status, 'interrupted')
    assert.equal((await verify({ cwd: scene.folder })).findings, [])
  },
)

async function freePort(): Promise<number> {
  const server = createServer()
  let port = 0
  await listeningOn(server, async (address) => void (port = Number(new URL(address).port)))
  return port
}

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
  // A process is what this is about.
  ['postgres'],
)

test.run()
