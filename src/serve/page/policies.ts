/** The dashboard's policies: how each stands, and the buttons that plan and apply it. */
import { html } from 'hono/html'

import type { Hold } from '../../ledger/hold.ts'
import type { PolicyStanding, ReportedError } from '../../report.ts'
import { age, day, moment, number, relative, type Html, type View } from './view.ts'

export function policiesSection(view: View, policies: readonly PolicyStanding[]): Html {
  const { texts } = view
  if (policies.length === 0)
    return html`<section id="policies" aria-labelledby="policies-title">
      <h2 id="policies-title">${texts.policies}</h2>
      <p class="empty">${texts.noPolicies} ${texts.noPoliciesHint} <code>npx retention init</code></p>
    </section>`
  return html`<section id="policies" aria-labelledby="policies-title">
    <div class="heading">
      <h2 id="policies-title">${texts.policies}</h2>
      ${buttons(view, undefined)}
    </div>
    <table class="cards" role="table" aria-labelledby="policies-title">
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" scope="col">${texts.policy}</th>
          <th role="columnheader" scope="col" class="number">${texts.due}</th>
          <th role="columnheader" scope="col" class="number">${texts.held}</th>
          <th role="columnheader" scope="col">${texts.oldest}</th>
          <th role="columnheader" scope="col">${texts.lastRun}</th>
          <th role="columnheader" scope="col">${texts.nextRun}</th>
          <th role="columnheader" scope="col"><span class="unseen">${texts.actions}</span></th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${policies.map((policy) => policyRow(view, policy))}
      </tbody>
    </table>
  </section>`
}

function policyRow(view: View, policy: PolicyStanding): Html {
  const { texts } = view
  const { error, overdue, due } = policy
  const state = error !== undefined || overdue ? 'bad' : due > 0 ? 'due' : 'good'
  return html`<tr role="row" class="${state}">
    <th role="rowheader" scope="row">
      <strong>${policy.policy}</strong>
      <span class="table">${policy.table}</span>
      ${policy.action === 'redact' && html`<span class="mark">${texts.redacts}</span>`} ${notes(view, policy)}
    </th>
    <td role="cell" class="number" data-label="${texts.due}">
      <div>${number(view, due)} ${overdue && html`<span class="mark bad">${texts.overdue}</span>`}</div>
    </td>
    <td role="cell" class="number" data-label="${texts.held}"><div>${number(view, policy.held)}</div></td>
    <td role="cell" data-label="${texts.oldest}"><div>${oldest(view, policy.oldest)}</div></td>
    <td role="cell" data-label="${texts.lastRun}"><div>${lastRun(view, policy)}</div></td>
    <td role="cell" data-label="${texts.nextRun}">
      <div>
        ${
          policy.nextRunAt === null
            ? html`<span class="quiet">${texts.unscheduled}</span>`
            : html`${relative(view, policy.nextRunAt)} <span class="when">${moment(policy.nextRunAt)}</span>`
        }
      </div>
    </td>
    <td role="cell" class="actions">${buttons(view, policy.policy)}</td>
  </tr>`
}

/** A plan only looks, so a link that is sent by a form; a run changes something, so a POST. */
function buttons({ texts, base }: View, policy: string | undefined): Html {
  const query = policy === undefined ? '' : `?policy=${encodeURIComponent(policy)}`
  const [plan, apply] =
    policy === undefined ? [texts.planAll, texts.applyAll] : [texts.planOf(policy), texts.applyOf(policy)]
  return html`<div class="buttons">
    <form action="${base}/" method="get">
      <button name="plan" value="${policy ?? ''}" aria-label="${plan}">
        ${policy === undefined ? texts.planAll : texts.plan}
      </button>
    </form>
    <form action="${base}/apply${query}" method="post">
      <button class="main" aria-label="${apply}">${policy === undefined ? texts.applyAll : texts.apply}</button>
    </form>
  </div>`
}

function oldest(view: View, iso: string | null): Html {
  if (iso === null) return html`<span class="quiet">${view.texts.empty}</span>`
  const old = age(view, iso)
  return old === undefined ? moment(iso) : html`${old} <span class="when">${day(iso)}</span>`
}

function lastRun(view: View, { lastRun: run }: PolicyStanding): Html {
  if (run === null) return html`<span class="quiet">${view.texts.never}</span>`
  return html`${statusText(view, run.status)}
    <span class="when" title="${run.finishedAt}">${relative(view, run.finishedAt)}</span>`
}

/** How a policy's run ended. */
export function statusText({ texts }: View, status: string): Html {
  const known: Readonly<Record<string, string>> = texts.status
  const isBad = status === 'failed' || status === 'refused'
  return html`<span class="${isBad ? 'bad' : ''}">${known[status] ?? status}</span>`
}

/** What is wrong with a policy, and what keeps its rows. */
function notes(view: View, { error, lastRun: run, warnings, changed, holds }: PolicyStanding): Html {
  const failure = run !== null && ['failed', 'refused'].includes(run.status) ? (run.error ?? undefined) : undefined
  const told = error ?? failure
  return html`${told && errorNote(told)} ${changed && html`<p class="note">${view.texts.changed}</p>`}
  ${warnings.map(
    ({ text, hint }) =>
      html`<p class="note" lang="en">${text}${hint !== undefined && html` <span class="hint">${hint}</span>`}</p>`,
  )}
  ${holds.filter(({ archive }) => archive === null).map((hold) => holdNote(view, hold))}`
}

/** An error with its code and what to do about it; the texts of errors are English. */
export function errorNote({ code, message, hint }: ReportedError): Html {
  return html`<p class="note bad" lang="en">
    <code>${code}</code>
    <span class="message">${message}</span> ${hint !== undefined && html`<span class="hint">${hint}</span>`}
  </p>`
}

/** What a legal hold keeps, why, and by whom. */
export function holdNote({ texts }: View, { id, where, reason, createdBy, until }: Hold): Html {
  return html`<p class="note hold">
    ${texts.heldBy} <code>${id.slice(0, 8)}</code>: ${reason}
    <span class="quiet"
      >${where !== null && html`<code>${where}</code> · `}${createdBy}${
        until !== null && html` · ${texts.until} ${day(until)}`
      }</span
    >
  </p>`
}
