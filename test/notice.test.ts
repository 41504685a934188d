/** Notices: a receiver that checks signatures gets what a run came to; one that fails changes nothing of the run. */
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { sendNotices } from '../src/notice/send.ts'
import type { ApplyReport } from '../src/index.ts'
import { TestProject } from './support/project.ts'

const test = suite('notice')
const key = Buffer.from('a key of the receiver')
const report: ApplyReport = { run: 'r1', dryRun: false, startedAt: '', finishedAt: '', policies: [] }
const quick = { request: 2000, pause: 1, total: 10_000 }

for (const [statuses, sent] of [
  [[200], true],
  [[500, 429, 200], true],
  [[500, 500, 500], false],
  [[400], false],
] as const) {
  test(`answers ${statuses.join(', ')}`, async () => {
    const ids = new Set<unknown>()
    let requests = 0
    let wrong = 0
    const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const parts = await request.toArray()
      const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = request.headers
      const signed = `${String(id)}.${String(at)}.${Buffer.concat(parts).toString()}`
      if (signature !== `v1,${createHmac('sha256', key).update(signed).digest('base64')}`) wrong++
      ids.add(id)
      response.writeHead(statuses[requests++] ?? 500).end()
    }
    const server = createServer((request, response) => void receive(request, response)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    process.env['NOTICE_URL'] = `http://127.0.0.1:${(server.address() as AddressInfo).port}/?token=hidden`
    process.env['NOTICE_SECRET'] = `whsec_${key.toString('base64')}`
    const webhook = { url: { env: 'NOTICE_URL' }, secret: { env: 'NOTICE_SECRET' } }
    const [told] = await sendNotices(
      [
        { webhook, on: 'always' },
        { webhook, on: 'failure' },
      ],
      report,
      undefined,
      quick,
    )
    server.close()
    assert.is(told?.sent, sent)
    assert.is(told?.attempts, statuses.length)
    assert.is(requests, statuses.length)
    assert.is(wrong, 0)
    assert.is(ids.size, 1)
    assert.not.match(JSON.stringify(told), /hidden|whsec/)
  })
}

test('a stopped run is told of once; a hanging receiver and a secret that is none are reported', async () => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.env['NOTICE_SECRET'] = `whsec_${key.toString('base64')}`
  process.env['NOTICE_WRONG'] = 'not base64!'
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const to = (name: string) => [{ webhook: { url, secret: { env: name } }, on: 'always' }] as const
  const [stopped] = await sendNotices(to('NOTICE_SECRET'), report, AbortSignal.abort(), { ...quick, request: 20 })
  assert.equal(stopped, { to: 'webhook', sent: false, attempts: 1, error: 'no answer in time' })
  const [wrong] = await sendNotices(to('NOTICE_WRONG'), report, undefined, quick)
  assert.is(wrong?.attempts, 0)
  assert.match(wrong?.error ?? '', /NOTICE_WRONG/)
  assert.not.match(wrong?.error ?? '', /not base64!/)
  server.closeAllConnections()
  server.close()
})

test('a notice that cannot be sent leaves the exit code as it is', async () => {
  const webhook = { url: 'https://example.invalid/', secret: { env: 'NOTICE_MISSING' } }
  const project = new TestProject({ database: 'sqlite:./a.db', notices: [{ webhook, on: 'always' }] })
  project.write('a.db', '')
  project.policy('logs', { table: 'logs', column: 'at', days: 30 })
  const told = await project.run(['apply', '--json'])
  const silent = await project.run(['plan', '--json'])
  project.configure({ database: 'sqlite:./a.db' })
  assert.is(told.code, (await project.run(['apply', '--json'])).code)
  assert.match(told.stdout, /NOTICE_MISSING is not set/)
  assert.not.match(silent.stdout, /NOTICE_MISSING/)
})

test.run()
