/** The dashboard's archives: the latest ones, with what holds them and the command that restores each. */
import { html } from 'hono/html'

import type { Hold } from '../../ledger/hold.ts'
import type { LedgerEntry } from '../../ledger/ledger.ts'
import { holdNote } from './policies.ts'
import { day, moment, number, size, type Html, type View } from './view.ts'

/** The most archives that are shown. */
const mostArchives = 100

/** @param holds those of all policies; one that is on an archive is shown with it */
export function archivesSection(view: View, archives: readonly LedgerEntry[], holds: readonly Hold[]): Html {
  const { texts } = view
  const latest = archives
    .toSorted((one, other) => other.archivedAt.localeCompare(one.archivedAt) || other.name.localeCompare(one.name))
    .slice(0, mostArchives)
  const more = archives.length - latest.length
  return html`<section id="archives" aria-labelledby="archives-title">
    <h2 id="archives-title">${texts.archives}</h2>
    ${
      latest.length === 0
        ? html`<p class="empty">${texts.noArchives}</p>`
        : html`<table class="cards" role="table" aria-labelledby="archives-title">
            <thead role="rowgroup">
              <tr role="row">
                <th role="columnheader" scope="col">${texts.archive}</th>
                <th role="columnheader" scope="col">${texts.state}</th>
                <th role="columnheader" scope="col" class="number">${texts.rows}</th>
                <th role="columnheader" scope="col" class="number">${texts.size}</th>
                <th role="columnheader" scope="col">${texts.range}</th>
                <th role="columnheader" scope="col">${texts.archivedAt}</th>
                <th role="columnheader" scope="col">${texts.checksum}</th>
              </tr>
            </thead>
            <tbody role="rowgroup">
              ${latest.map((archive) =>
                archiveRow(
                  view,
                  archive,
                  holds.filter((hold) => hold.kind === 'legal' && hold.archive === archive.name),
                ),
              )}
            </tbody>
          </table>`
    }
    ${
      more > 0 &&
      html`<p class="quiet">${texts.andMore(number(view, more))} <code>npx retention status --archives</code></p>`
    }
  </section>`
}

function archiveRow(view: View, archive: LedgerEntry, holds: readonly Hold[]): Html {
  const { texts } = view
  return html`<tr role="row">
    <th role="rowheader" scope="row">
      <span class="name" title="${archive.location}">${archive.name}</span>
      ${archive.state !== 'pruned' && restoreCommand(view, archive)} ${holds.map((hold) => holdNote(view, hold))}
    </th>
    <td role="cell" data-label="${texts.state}">
      <span class="state ${archive.state}">${texts.states[archive.state]}</span>
    </td>
    <td role="cell" class="number" data-label="${texts.rows}">${number(view, archive.rows)}</td>
    <td role="cell" class="number" data-label="${texts.size}">${size(view, archive.bytes)}</td>
    <td role="cell" data-label="${texts.range}"><span>${day(archive.from)} – ${day(archive.to)}</span></td>
    <td role="cell" data-label="${texts.archivedAt}">${moment(archive.archivedAt)}</td>
    <td role="cell" data-label="${texts.checksum}">
      <code title="${archive.sha256}">${archive.sha256.slice(0, 12)}</code>
    </td>
  </tr>`
}

function restoreCommand({ texts, database }: View, { name, state }: LedgerEntry): Html {
  const words = [
    'npx retention restore',
    quoted(name),
    ...(state === 'restored' ? ['--again'] : []),
    ...(database === undefined ? [] : ['--database', quoted(database)]),
  ]
  return html`<details class="restore">
    <summary>${texts.restore}</summary>
    <p>${texts.restoreHint}</p>
    <p>
      <code>${words.join(' ')}</code>
      <button type="button" hidden data-copy="${words.join(' ')}" data-copied="${texts.copied}">${texts.copy}</button>
    </p>
  </details>`
}

/** As one word of a shell. */
function quoted(text: string): string {
  return /^\w[\w.-]*$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`
}
