/** The dashboard as a whole: its frame, its first lines, and what it says where the status cannot be told. */
import { html } from 'hono/html'

import type { ApplyReport, ReportedError, StatusReport } from '../../report.ts'
import { securityHeaders } from '../answers.ts'
import type { RunView } from '../runs.ts'
import { archivesSection } from './archives.ts'
import { chartSection } from './chart.ts'
import { planSection } from './plan.ts'
import { errorNote, policiesSection } from './policies.ts'
import { runSection } from './run.ts'
import { languageNames, moment, number, size, type Html, type View } from './view.ts'

/** What there is to show. */
export interface Content {
  /** Or why there is none. */
  readonly status: StatusReport | ReportedError
  /** Seconds since the status was asked for. */
  readonly ageSeconds: number
  /** The run that goes on, or that was asked about. */
  readonly run: RunView | undefined
  readonly plan: ApplyReport | undefined
  /** What became of a wish that could not be fulfilled. */
  readonly refused: ReportedError | undefined
  /** Whether there is a session that can be ended. */
  readonly hasSession: boolean
}

export function dashboard(view: View, content: Content): Html {
  const { status, run, plan, refused, ageSeconds, hasSession } = content
  const { texts } = view
  const asOf = new Date(view.now - ageSeconds * 1000).toISOString()
  return frame(
    view,
    html`${refused !== undefined && html`<div role="alert">${errorNote(refused)}</div>`}
      ${
        'code' in status
          ? html`<section aria-labelledby="wrong-title">
              <h2 id="wrong-title">${texts.wrong}</h2>
              ${errorNote(status)}
            </section>`
          : overview(view, status)
      }
      ${run !== undefined && runSection(view, run)} ${plan !== undefined && planSection(view, plan)}
      ${
        !('code' in status) &&
        html`${policiesSection(view, status.policies)} ${chartSection(view, status.archives)}
        ${archivesSection(
          view,
          status.archives,
          status.policies.flatMap(({ holds }) => holds),
        )}`
      }
      <p class="quiet">${texts.asOf} ${moment(asOf)}. ${texts.utc}</p>`,
    hasSession,
  )
}

/** The answer to what matters first: is anything wrong, and how much is there. */
function overview(view: View, { policies, archives }: StatusReport): Html {
  const { texts } = view
  const overdue = policies.filter((policy) => policy.overdue).length
  const errors = policies.filter(({ error, lastRun }) => error !== undefined || lastRun?.status === 'failed').length
  const due = policies.reduce((sum, policy) => sum + policy.due, 0)
  const stored = archives.filter(({ state }) => state !== 'pruned')
  const bytes = stored.reduce((sum, archive) => sum + archive.bytes, 0)
  return html`<p class="overview">
    ${errors > 0 && html`<strong class="bad">${texts.errorCount(errors)}</strong> `}
    ${overdue > 0 && html`<strong class="bad">${texts.overdueCount(overdue)}</strong> `}
    ${errors + overdue === 0 && policies.length > 0 && html`<strong class="good">${texts.allWell}</strong> `}
    <span class="quiet"
      >${texts.dueSum(number(view, due), due)} ·
      ${texts.archiveSum(number(view, stored.length), stored.length, size(view, bytes))}</span
    >
  </p>`
}

/** The page to sign in by. @param refused why the last try failed */
export function signIn(view: View, refused: string | undefined): Html {
  const { texts, base } = view
  return frame(
    view,
    html`<form class="sign-in" action="${base}/sign-in" method="post">
      <label for="token">${texts.token}</label>
      <input
        id="token"
        name="token"
        type="password"
        required
        autofocus
        autocomplete="current-password"
        aria-describedby="token-hint"
      />
      <p id="token-hint" class="quiet">${texts.tokenHint}</p>
      ${refused !== undefined && html`<p role="alert" class="note bad">${refused}</p>`}
      <button class="main">${texts.signIn}</button>
    </form>`,
    false,
  )
}

function frame(view: View, main: Html, hasSession: boolean): Html {
  const { language, texts, base, database } = view
  return html`<!doctype html>
    <html lang="${language}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${texts.title}${database !== undefined && ` · ${database}`}</title>
        <link rel="icon" href="${base}/page.svg" />
        <link rel="stylesheet" href="${base}/page.css" />
        <script src="${base}/page.js" defer></script>
      </head>
      <body>
        <a class="skip" href="#main">${texts.skip}</a>
        <header>
          <h1><a href="${base}/">${texts.title}</a></h1>
          ${database !== undefined && html`<span class="quiet">${texts.database} <strong>${database}</strong></span>`}
          <nav>
            ${languageNames
              .filter((other) => other.language !== language)
              .map(
                ({ language: code, name }) =>
                  html`<a href="${base}/?lang=${code}" lang="${code}" hreflang="${code}">${name}</a>`,
              )}
            ${
              hasSession &&
              html`<form action="${base}/sign-out" method="post"><button class="plain">${texts.signOut}</button></form>`
            }
          </nav>
        </header>
        <main id="main" tabindex="-1">${main}</main>
        <p id="said" class="unseen" role="status" aria-live="polite"></p>
      </body>
    </html>`
}

/** A page as an answer. */
export async function page(content: Html, status = 200, headers: readonly [string, string][] = []): Promise<Response> {
  return new Response(String(await content), { status, headers: new Headers([...pageHeaders, ...headers]) })
}

const pageHeaders: readonly [string, string][] = Object.entries({
  ...securityHeaders,
  'Content-Type': 'text/html; charset=utf-8',
  'Content-Security-Policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  // With "no-referrer" a form would be sent without the origin that tells it from another site's.
  'Referrer-Policy': 'same-origin',
  Vary: 'Accept-Language, Cookie',
})
