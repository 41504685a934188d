/** The dashboard's run: how far each policy is. The script asks for it again with every event. */
import { html } from 'hono/html'

import type { PolicyProgress } from '../progress.ts'
import type { RunView } from '../runs.ts'
import { errorNote, statusText } from './policies.ts'
import { moment, number, type Html, type View } from './view.ts'

export function runSection(view: View, run: RunView): Html {
  const { texts, base } = view
  const isRunning = run.state === 'running'
  const address = `${base}/runs/${encodeURIComponent(run.run)}`
  return html`<section id="run" aria-labelledby="run-title">
    <h2 id="run-title">${texts.run}</h2>
    ${
      isRunning
        ? html`<div
            id="progress"
            data-events="${address}/events"
            data-progress="${address}/progress"
            data-after="${base}/?run=${encodeURIComponent(run.run)}"
          >
            ${progress(view, run)}
          </div>`
        : progress(view, run)
    }
    ${isRunning && html`<noscript><p class="quiet">${texts.reload}</p></noscript>`}
  </section>`
}

/** What changes while a run goes on. */
export function progress(view: View, run: RunView): Html {
  const { texts } = view
  const rows = run.policies.reduce((sum, policy) => sum + policy.rows, 0)
  const say = { running: texts.runRunning, finished: texts.runFinished, failed: texts.runFailed }[run.state]
  return html`<p class="summary ${run.state}" data-say>${say(number(view, rows), rows)}</p>
    <p class="quiet"><code>${run.run}</code> · ${moment(run.startedAt)}</p>
    ${run.error !== null && errorNote(run.error)}
    <ul class="progress">
      ${run.policies.map((policy) => policyProgress(view, policy, run))}
    </ul>`
}

function policyProgress(view: View, policy: PolicyProgress, { report }: RunView): Html {
  const { texts } = view
  const { rows, due } = policy
  const error = report?.policies.find((one) => one.policy === policy.policy)?.error
  return html`<li>
    <strong>${policy.policy}</strong>
    <progress aria-label="${texts.progressOf(policy.policy)}" max="${Math.max(1, due ?? 1)}" value="${done(policy)}">
      ${rows}
    </progress>
    <span class="count">${due !== null && texts.ofDue(number(view, rows), number(view, due))}</span>
    <span class="quiet">${standing(view, policy)}</span>
    ${error !== undefined && errorNote(error)}
  </li>`
}

/** A policy that had nothing to do is done. */
function done({ state, rows, due }: PolicyProgress): number {
  return state === 'finished' && (due ?? 0) === 0 ? 1 : rows
}

function standing(view: View, { state, status, waitsFor }: PolicyProgress): Html {
  const { texts } = view
  if (status !== undefined) return statusText(view, status)
  if (waitsFor !== null) return html`${texts.waitsFor} <span lang="en">${waitsFor}</span>`
  return html`${state === 'waiting' ? texts.waiting : texts.running}`
}
