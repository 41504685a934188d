/** Notices: who wants to know gets what a run came to, signed, mailed or in Slack; one that fails changes nothing of the run. */
import { createHmac } from 'node:crypto'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, type ApplyReport, type ConfigInput, type NoticeInput, type NoticeReport } from '../src/index.ts'
import { attempt } from '../src/notice/attempts.ts'
import { envelope } from '../src/notice/send.ts'
import { createDatabase, kinds } from './support/database.ts'
import { TestProject } from './support/project.ts'
import { HttpReceiver, MailReceiver } from './support/receivers.ts'

const test = suite('notice')
const http = new HttpReceiver()
const mail = new MailReceiver()
const key = Buffer.from('a key of the receiver')
const webhook = { url: { env: 'NOTICE_URL' }, secret: { env: 'NOTICE_SECRET' } }
const slack = { env: 'NOTICE_SLACK' }
const email = { to: 'ops@example.com', from: 'Retention <retention@example.com>', smtp: { env: 'NOTICE_SMTP' } }
const quick = { request: 5000, pause: 1, total: 20_000 }
let base = ''
let mailHost = ''

test.before(async () => {
  base = await http.listen()
  mailHost = await mail.listen()
  process.env['NOTICE_URL'] = `${base}/hook?token=hidden`
  process.env['NOTICE_SLACK'] = `${base}/slack/T0/hidden`
  process.env['NOTICE_PING'] = `${base}/ping/hidden`
  process.env['NOTICE_SECRET'] = `whsec_${key.toString('base64')}`
  process.env['NOTICE_SMTP'] = `smtps://ops:se%3Acret@${mailHost}`
})
test.before.each(() => {
  http.received.length = 0
  mail.mails.length = 0
  http.statuses = []
  http.headers = {}
  http.hangs = false
})
test.after(() => {
  http.close()
  mail.close()
})

async function sendTest(notice: NoticeInput, signal?: AbortSignal, patience = quick): Promise<NoticeReport> {
  return attempt(envelope(notice, 'test', { type: 'test' }), signal, patience)
}

/** What was sent to a path, as JSON. */
function sentTo(path: string): Record<string, unknown>[] {
  return http.received
    .filter((request) => request.path.startsWith(path))
    .map(({ body }) => JSON.parse(body) as Record<string, unknown>)
}

/** The only mail, its folded lines put together. */
function mailText(): string {
  assert.is(mail.mails.length, 1)
  return (mail.mails[0] ?? '').replaceAll('=\r\n', '').replaceAll('\r\n', '\n')
}

for (const [statuses, sent] of [
  [[200], true],
  [[500, 429, 200], true],
  [[500, 500, 500], false],
  [[400], false],
] as const) {
  test(`answers ${statuses.join(', ')}`, async () => {
    for (const notice of [{ webhook }, { slack }]) {
      http.received.length = 0
      http.statuses = [...statuses]
      const told = await sendTest(notice)
      assert.is(told.sent, sent)
      assert.is(told.attempts, statuses.length)
      assert.is(http.received.length, statuses.length)
      assert.not.match(JSON.stringify(told), /hidden|whsec/)
      if (!('webhook' in notice)) continue
      const ids = new Set(http.received.map(({ headers }) => headers['webhook-id']))
      assert.is(ids.size, 1)
      for (const { headers, body } of http.received) {
        const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`
        assert.is(headers['webhook-signature'], `v1,${createHmac('sha256', key).update(signed).digest('base64')}`)
      }
    }
  })
}

test('a receiver that wants to be left alone for longer than there is time is not asked again', async () => {
  http.headers = { 'retry-after': '3600' }
  for (const notice of [{ webhook }, { slack }]) {
    http.statuses = [429]
    const told = await sendTest(notice)
    assert.equal(told, { to: told.to, on: 'test', sent: false, attempts: 1, error: 'answered 429' })
  }
})

test('receivers that hang, refuse or are not trusted, and variables that do not hold what they should, are told without secrets', async () => {
  const impatient = { ...quick, request: 50 }
  const failing: [Partial<NodeJS.ProcessEnv>, NoticeInput, RegExp, number][] = [
    [{ NOTICE_SECRET: 'se:cret!' }, { webhook }, /NOTICE_SECRET/, 0],
    [{ NOTICE_SECRET: '' }, { webhook }, /NOTICE_SECRET is not set/, 0],
    [{ NOTICE_SLACK: 'hidden' }, { slack }, /NOTICE_SLACK/, 0],
    [{ NOTICE_SMTP: `https://ops:se%3Acret@${mailHost}` }, { email }, /NOTICE_SMTP/, 0],
    [{ NOTICE_SLACK: 'http://127.0.0.1:1/hidden' }, { slack }, /could not be reached/, 3],
    [{ NOTICE_SMTP: 'smtp://ops:se%3Acret@127.0.0.1:1' }, { email }, /could not be reached/, 3],
    [{}, { email }, /certificate is not trusted/, 1],
  ]
  for (const [variables, notice, error, attempts] of failing) {
    const before = { ...process.env }
    Object.assign(process.env, variables)
    const told = await sendTest(notice)
    Object.assign(process.env, before)
    assert.is(told.sent, false)
    assert.match(told.error ?? '', error)
    assert.is(told.attempts, attempts)
    assert.not.match(JSON.stringify(told), /hidden|se:cret|se%3A/)
  }
  mail.trust()
  const wrong = { ...email, smtp: { env: 'NOTICE_WRONG' } }
  process.env['NOTICE_WRONG'] = `smtps://ops:wr0ng@${mailHost}`
  const refused = await sendTest({ email: wrong })
  assert.equal([refused.error, refused.attempts], ['user and password were not taken', 1])
  http.hangs = true
  process.env['NOTICE_WRONG'] = `smtp://ops:wr0ng@${base.slice('http://'.length)}`
  for (const notice of [{ webhook }, { slack }, { email: wrong }]) {
    // What is stopped tries once.
    const stopped = await sendTest(notice, AbortSignal.abort(), impatient)
    assert.equal(stopped, { to: stopped.to, on: 'test', sent: false, attempts: 1, error: 'no answer in time' })
  }
  const broken = await sendTest({
    slack,
    template: () => {
      throw new Error('at postgres://me:se:cret@host')
    },
  })
  assert.equal([broken.attempts, broken.error], [0, 'at postgres://***@host'])
})

for (const kind of kinds) {
  test(`${kind}: each is told what it wants to know, in its language; the ping comes after good runs alone`, async () => {
    const database = await createDatabase(kind)
    await database.run(
      `create table logs (id integer primary key autoincrement, at text); create table few (id integer primary key, at timestamp);`
        .replaceAll('at text', kind === 'sqlite' ? 'at text' : 'at timestamp')
        .replace(' autoincrement', kind === 'sqlite' ? ' autoincrement' : ''),
    )
    await database.run(`insert into logs values (1, '2020-01-01 00:00:00'), (2, '2020-01-02 00:00:00')`)
    const told: NoticeInput[] = [
      { webhook },
      { webhook: { ...webhook, url: `${base}/logs` }, on: ['success', 'failure'], policies: ['logs'] },
      { slack, on: 'always', language: 'ko' },
      { email, on: ['failure'] },
      {
        webhook: { ...webhook, url: `${base}/template` },
        on: 'failure',
        template: (facts, usual) => ({ subject: `${facts.type}: ${usual.subject}`, text: 'own words' }),
      },
    ]
    const project = new TestProject({ database: database.address })
    const config: ConfigInput = {
      database: database.address,
      archive: { to: './backups', durable: true },
      notices: told,
      ping: { env: 'NOTICE_PING' },
    }
    project.policy('logs', { table: 'logs', column: 'at', days: 30 })
    project.policy('gone', { table: 'not_there', column: 'at', days: 30 })
    let order = ''
    const failed = await apply({
      config,
      cwd: project.folder,
      onEvent: ({ type }) => (order += type === 'run-finished' ? `told after ${http.received.length} requests` : ''),
    })
    assert.is(order, 'told after 0 requests')
    assert.equal(outcomes(failed), [
      'webhook failure',
      'webhook success',
      'slack always',
      'email failure',
      'webhook failure',
    ])
    const [hook] = sentTo('/hook')
    assert.is(hook?.['subject'], 'Retention: 1 of 2 policies failed')
    const text = String(hook?.['text'])
    assert.match(text, /logs: done\n2 rows archived and deleted: 1 archive, \d+ B\n.*logs_backup_\d+\.csv/)
    assert.match(text, /gone: refused\n.*not_there/)
    assert.match(text, /What to do: /)
    assert.ok(mailText().includes(text.split('\n\n')[1] ?? 'none'))
    assert.match(mail.mails[0] ?? '', /^Subject: Retention: 1 of 2 policies failed/m)
    assert.is(sentTo('/logs')[0]?.['subject'], 'Retention: 2 rows archived')
    assert.not.match(JSON.stringify(sentTo('/logs')), /gone|not_there/)
    const inSlack = JSON.stringify(sentTo('/slack'))
    assert.match(inSlack, /정책 2개 중 1개 실패/)
    assert.match(inSlack, /logs: 완료.n2행을 보관하고 삭제했습니다\(아카이브 1개, /)
    assert.match(inSlack, /gone: 거부됨/)
    assert.equal(
      [sentTo('/template')[0]?.['subject'], sentTo('/template')[0]?.['text']],
      ['run: Retention: 1 of 2 policies failed', 'own words'],
    )

    // Rows that a limit leaves are no failure; that they have been due for long is told.
    http.received.length = 0
    project.write('policies/gone.ts', `export default ${JSON.stringify({ table: 'few', column: 'at', days: 30 })}`)
    await database.run(`insert into logs values (3, '2020-01-01 00:00:00'), (4, '2020-01-02 00:00:00')`)
    const partial = await apply({ config, cwd: project.folder, limitRows: 1 })
    assert.equal(outcomes(partial), ['webhook overdue', 'slack always'])
    assert.match(
      String(sentTo('/hook')[0]?.['text']),
      /logs: stopped early[^]*1 due row left\nOverdue: 1 due row, the oldest row of 2020-01-02/,
    )
    assert.match(JSON.stringify(sentTo('/slack')), /정책 1개에 기한이 지난 행이 남아 있습니다/)

    http.received.length = 0
    http.statuses = [500]
    const good = await apply({ config, cwd: project.folder })
    assert.equal(outcomes(good), ['webhook success', 'slack always', 'ping success'])
    assert.equal(
      good.notices?.map(({ sent }) => sent),
      [true, true, true],
    )
    assert.is(http.received.filter(({ path, method }) => path === '/ping/hidden' && method === 'GET').length >= 1, true)
    await database.drop()
  })
}

function outcomes({ notices = [] }: ApplyReport): string[] {
  return notices.map(({ to, on, sent }) => `${to} ${on}${sent ? '' : ' not sent'}`)
}

test('a run that cannot begin is told of, and throws as ever', async () => {
  const project = new TestProject({ database: 'sqlite:./missing.db' })
  project.policy('logs', { table: 'logs', column: 'at', days: 30 })
  const config: ConfigInput = {
    database: 'sqlite:./missing.db',
    notices: [
      { webhook, policies: ['logs'] },
      { webhook, on: 'success' },
    ],
    ping: { env: 'NOTICE_PING' },
  }
  const run = async () => apply({ config, cwd: project.folder }).then(() => 'no error', String)
  assert.match(await run(), /missing\.db/)
  project.write('policies/wrong.ts', 'export default { table: 7 }')
  assert.match(await run(), /wrong\.ts/)
  const [unreachable, mistaken, ...others] = http.received.map(({ body }) => JSON.parse(body) as { text: string })
  assert.match(unreachable?.text ?? '', /^Run .*\n\n.*missing\.db/)
  assert.match(mistaken?.text ?? '', /wrong\.ts/)
  assert.is(others.length, 0)
})

test('with several databases the ping tells them apart, or is not sent', async () => {
  const database = await createDatabase('sqlite')
  await database.run('create table logs (id integer primary key, at text)')
  const project = new TestProject({ databases: { eu: database.address } })
  project.policy('logs', { table: 'logs', column: 'at', days: 30 })
  const config = { databases: { eu: database.address }, archive: { to: './backups', durable: true } }
  const run = async (ping: string) => apply({ config: { ...config, ping }, cwd: project.folder, database: 'eu' })
  assert.match((await run(`${base}/ping`)).notices?.[0]?.error ?? '', /\{database\}/)
  assert.is((await run(`${base}/ping-{database}`)).notices?.[0]?.sent, true)
  assert.equal(
    http.received.map(({ path }) => path),
    ['/ping-eu'],
  )
  await database.drop()
})

test('a notice that cannot be sent leaves the exit code as it is; mistakes in notices are told without what may be secret', async () => {
  const project = new TestProject({ database: 'sqlite:./a.db', notices: [{ webhook, on: 'always' }] })
  project.write('a.db', '')
  project.policy('logs', { table: 'logs', column: 'at', days: 30 })
  const variables = { NOTICE_SECRET: '' }
  const told = await project.run(['apply', '--json'], { env: variables })
  const silent = await project.run(['plan', '--json'])
  project.configure({ database: 'sqlite:./a.db' })
  assert.is(told.code, (await project.run(['apply', '--json'])).code)
  assert.match(told.stdout, /NOTICE_SECRET is not set/)
  assert.not.match(silent.stdout, /notices/)
  const wrong = [
    { slack: 'https://hooks.slack.com/hidden' },
    { email: { ...email, smtp: 'smtp://a:hidden@b' } },
    { webhook: { url: 'https://a.example/?hidden', secret: 'whsec_hidden' }, on: 'failures' },
    { slack, email, policies: ['log'] },
  ]
  project.write(
    'retention.config.ts',
    `export default ${JSON.stringify({ notices: wrong, ping: 'http://a:hidden@b' })}`,
  )
  const { code, stderr } = await project.run(['apply'])
  assert.is(code, 2)
  for (const field of ['0.slack', '1.email.smtp', '2.webhook.url', '2.webhook.secret', '2.on', '3'])
    assert.match(stderr, `notices.${field}"`)
  assert.match(stderr, /"failures"/)
  assert.not.match(stderr, /hidden/)
  project.configure({ database: 'sqlite:./a.db', notices: [{ slack, policies: ['log'] }] })
  assert.match((await project.run(['apply'])).stderr, /no policy is called "log" \(did you mean "logs"\?\)/)
})

test.run()
