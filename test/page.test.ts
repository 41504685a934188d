/** The dashboard, in a real browser: what people see, click and hear of; and over plain HTTP, who gets in. */
import chromium from '@sparticuz/chromium'
import { chromium as playwright, type Page } from 'playwright-core'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { addHold, retentionHandler, type ApplyReport } from '../src/index.ts'
import { periodsOf } from '../src/serve/page/chart.ts'
import { startServer } from '../src/serve/server.ts'
import { TestProject } from './support/project.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog } from './support/scene.ts'

const test = suite('page')

const token = 'a-token-that-is-long-enough'
const old = minutesBefore('2025-01-01T00:00:00Z', 40)
const evil = '<script>document.title="evil"</script>'

/** A page in a browser, which must have nothing to complain about. */
async function inBrowser(work: (page: Page, complaints: string[]) => Promise<void>): Promise<void> {
  // Those would turn off what is tested here.
  const unsafe = new Set(['--disable-web-security', '--allow-running-insecure-content'])
  const browser = await playwright.launch({
    executablePath: await chromium.executablePath(),
    args: chromium.args.filter((argument) => !unsafe.has(argument)),
  })
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(20_000)
    const complaints: string[] = []
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(error.message))
    await work(page, complaints)
  } finally {
    await browser.close()
  }
}

overDatabases(
  test,
  'signed in, a click applies and shows the run to its end; in Korean, on a phone, in the dark, by keyboard; text stays text',
  async ({ db, project }) => {
    await seedLog(db, old)
    const { folder } = project({
      log: { ...logPolicy, batch: 4, concurrency: 1 },
      broken: { table: 'log', column: evil, days: 1 },
    })
    await addHold({ cwd: folder, on: 'log', where: 'id > 1000', reason: evil })
    const server = await startServer({ port: 0, host: '127.0.0.1', token, cwd: folder })
    try {
      await inBrowser(async (page, complaints) => {
        await page.goto(`${server.address}/`)
        // The browser notes that the first answer was 401; of all else there must be nothing.
        assert.ok(complaints.splice(0).every((text) => text.includes('401')))
        await page.fill('#token', token)
        await page.press('#token', 'Enter')
        await page.waitForSelector('#policies')
        assert.is(page.url(), `${server.address}/`)
        assert.match(await page.innerText('#policies'), evil)
        assert.is((await page.locator(`text=${evil}`).count()) >= 2, true, 'the column and the reason, as text')
        assert.is(await page.title(), 'Data retention')

        await page.getByRole('button', { name: 'Plan log' }).click()
        assert.match(await page.innerText('#plan'), /40/)

        // By keyboard alone, from the start of the page.
        await page.goto(`${server.address}/`)
        for (let presses = 0; presses < 30; presses += 1) {
          await page.keyboard.press('Tab')
          if ((await page.evaluate('document.activeElement.getAttribute("aria-label")')) === 'Apply log') break
        }
        assert.is(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'solid')
        await page.keyboard.press('Enter')
        await page.waitForSelector('.summary.finished')
        assert.match(await page.innerText('#run'), /40 rows archived[^]*40 of 40 rows/)
        assert.is(await page.locator('#archives tbody tr').count(), 10)
        assert.is(await page.locator('#chart svg[role=img]').count(), 2)
        await page.locator('.restore summary').first().click()
        assert.match(await page.locator('.restore code').first().innerText(), /^npx retention restore log_\S+\.csv$/)

        await page.emulateMedia({ colorScheme: 'dark' })
        assert.is(await page.evaluate('getComputedStyle(document.documentElement).backgroundColor'), 'rgb(20, 24, 26)')
        await page.setViewportSize({ width: 360, height: 700 })
        for (const language of ['en', 'ko']) {
          await page.goto(`${server.address}/?lang=${language}&plan=`)
          assert.is(await page.evaluate('document.documentElement.scrollWidth'), 360, `${language} is too wide`)
        }
        assert.is(await page.evaluate('document.documentElement.lang'), 'ko')
        assert.match(await page.innerText('#archives'), '보관됨')
        await page.getByRole('button', { name: '로그아웃' }).click()
        await page.waitForSelector('#token')
        assert.ok(
          complaints.every((text) => text.includes('401')),
          complaints.join('\n'),
        )
      })
    } finally {
      await server.close(0)
    }
    assert.is(Number(await db.value('select count(*) from log')), 0)
  },
  ['sqlite'],
)

overDatabases(test, 'over plain HTTP: the session, who it serves, and plans', async ({ db, project }) => {
  await seedLog(db, old)
  const { folder } = project()
  const handler = retentionHandler({ cwd: folder, token, basePath: '/admin' })
  const ask = async (path: string, init: RequestInit = {}): Promise<Response> =>
    handler(new Request(`https://app.example/admin${path}`, init))
  assert.is((await ask('/page.css')).status, 200)
  assert.is((await ask('/')).status, 401)
  const form = (text: string): RequestInit => ({ method: 'POST', body: new URLSearchParams({ token: text }) })
  const wrong = await ask('/sign-in', form('wrong'))
  assert.is(wrong.status, 401)
  assert.match(await wrong.text(), 'That is not the token')
  const right = await ask('/sign-in', form(token))
  assert.equal([right.status, right.headers.get('location')], [303, '/admin/'])
  const set = right.headers.get('set-cookie') ?? ''
  assert.match(set, /; Path=\/admin; Max-Age=\d+; HttpOnly; SameSite=Strict; Secure$/)
  assert.not.match(set, token)
  const byLink = await ask(`/?token=${token}&lang=ko`)
  assert.equal([byLink.status, byLink.headers.get('location')], [303, '/admin/?lang=ko'])
  const [cookie = ''] = set.split(';')

  const shown = await ask('/', { headers: { cookie, 'accept-language': 'fr, ko;q=0.9, en;q=0.8' } })
  assert.match(shown.headers.get('content-security-policy') ?? '', "default-src 'none'; style-src 'self'")
  assert.match(await shown.text(), '보관 대상 40행')
  const later = cookie.replace(/=(\d+)/, (_, ends: string) => `=${Number(ends) + 1}`)
  assert.is((await ask('/status', { headers: { cookie: later } })).status, 401)
  const code = async (path: string, method: string, headers: Record<string, string> = {}): Promise<number> =>
    (await ask(path, { method, headers: { cookie, ...headers } })).status
  // A cookie comes along without being asked: nothing but our own page's POST may use it to start a run.
  for (const path of ['/run-cleanup', '/apply']) {
    assert.is(await code(path, 'GET'), path === '/apply' ? 405 : 403)
    assert.is(await code(path, 'POST'), 403)
    assert.is(await code(path, 'POST', { 'sec-fetch-site': 'cross-site' }), 403)
    assert.is(await code(path, 'POST', { origin: 'https://evil.example' }), 403)
  }
  const plan = (await (await ask('/plan?policy=log', { headers: { cookie } })).json()) as ApplyReport
  assert.is(plan.policies[0]?.due, 40)
  assert.is(await code('/plan?policy=lgo', 'GET'), 404)
  const own = { 'sec-fetch-site': 'same-origin' }
  assert.is(await code('/apply?policy=lgo', 'POST', own), 400)
  assert.is(await code('/apply?policy=log', 'POST', own), 303)
  const { running } = (await (await ask('/runs', { headers: { cookie } })).json()) as { running: string }
  await (await ask(`/runs/${running}/events`, { headers: { cookie } })).text()
  // What was known before the run is not told any more.
  assert.match(
    await (await ask(`/?run=${running}`, { headers: { cookie } })).text(),
    />0 rows due[^]*Finished: 40 rows/,
  )
})

test('a page without policies, and one without a database', async () => {
  const project = new TestProject({ database: 'sqlite:./none.db' })
  const handler = retentionHandler({ cwd: project.folder, authorize: () => true })
  const text = async (): Promise<string> => (await handler(new Request('http://app.example/'))).text()
  assert.match(await text(), 'DATABASE_UNREACHABLE')
  project.configure({ database: 'sqlite:./none.db', extra: 1 } as object)
  assert.match(await text(), 'CONFIG_INVALID')
  project.remove()
})

test('the chart has days, weeks or months, each archive in one of them', () => {
  const now = Date.parse('2026-11-26T12:00:00Z')
  const at = (archivedAt: string): { archivedAt: string; rows: number; bytes: number } => ({
    archivedAt,
    rows: 1,
    bytes: 2,
  })
  const bars = (...times: string[]): unknown[] => {
    const { step, periods } = periodsOf(times.map(at), now)
    return [step, periods.length, periods[0]?.from, periods.reduce((sum, { rows }) => sum + rows, 0)]
  }
  assert.equal(bars(), ['day', 0, undefined, 0])
  assert.equal(bars('2026-11-26T11:00:00Z'), ['day', 14, '2026-11-13', 1])
  assert.equal(bars('2026-11-01T23:59:00Z', '2026-11-26T00:00:00Z'), ['day', 26, '2026-11-01', 2])
  assert.equal(bars('2026-06-03T00:00:00Z'), ['week', 26, '2026-06-01', 1])
  assert.equal(bars('2025-01-31T00:00:00Z'), ['month', 23, '2025-01-01', 1])
})

test.run()
