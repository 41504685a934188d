/** The dashboard's plan: what apply would do, policy by policy. */
import { html } from 'hono/html'

import type { ApplyReport, PolicyReport } from '../../report.ts'
import { errorNote } from './policies.ts'
import { number, size, type Html, type View } from './view.ts'

export function planSection(view: View, { policies }: ApplyReport): Html {
  const { texts } = view
  return html`<section id="plan" aria-labelledby="plan-title">
    <h2 id="plan-title">${texts.planTitle}</h2>
    <p class="quiet">${texts.planNote}</p>
    <table class="cards" role="table" aria-labelledby="plan-title">
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" scope="col">${texts.policy}</th>
          <th role="columnheader" scope="col" class="number">${texts.due}</th>
          <th role="columnheader" scope="col" class="number">${texts.steps}</th>
          <th role="columnheader" scope="col" class="number">${texts.size}</th>
          <th role="columnheader" scope="col" class="number">${texts.held}</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${policies.map((policy) => planRow(view, policy))}
      </tbody>
    </table>
  </section>`
}

function planRow(view: View, { policy, table, due, held, archives, error, warnings }: PolicyReport): Html {
  const { texts } = view
  const bytes = archives.reduce((sum, archive) => sum + archive.bytes, 0)
  return html`<tr role="row" class="${error === undefined ? '' : 'bad'}">
    <th role="rowheader" scope="row">
      <strong>${policy}</strong> <span class="table">${table}</span>
      ${error !== undefined && errorNote(error)}
      ${warnings.map(({ text }) => html`<p class="note" lang="en">${text}</p>`)}
    </th>
    <td role="cell" class="number" data-label="${texts.due}">${number(view, due)}</td>
    <td role="cell" class="number" data-label="${texts.steps}">${number(view, archives.length)}</td>
    <td role="cell" class="number" data-label="${texts.size}">
      ${bytes === 0 ? '–' : `${texts.about} ${size(view, bytes)}`}
    </td>
    <td role="cell" class="number" data-label="${texts.held}">${number(view, held)}</td>
  </tr>`
}
