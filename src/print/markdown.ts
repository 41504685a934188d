/** A comparison of plans as GitHub and GitLab show it. Every text of somebody else's goes through `harmless`. */
import type { PlanComparison, PolicyComparison } from '../compare.ts'
import type { DatabasesReport } from '../databases.ts'
import { day, number } from './style.ts'

export function printMarkdown({ hasBefore, policies }: PlanComparison): string {
  const rows = policies.map((one) => {
    const { after = one.before } = one
    const table = after === undefined ? '' : `${code(after.table)} before ${harmless(day(after.cutoff))}`
    const cells = [
      code(one.policy),
      table,
      ...(hasBefore ? [due(one.before)] : []),
      dueAfter(one),
      result(one, hasBefore),
    ]
    return `| ${cells.join(' | ')} |`
  })
  const head = hasBefore
    ? ['| policy | rows of | due before | due after | |', '| --- | --- | ---: | ---: | --- |']
    : ['| policy | rows of | due | |', '| --- | --- | ---: | --- |']
  const refused = policies.flatMap(({ policy, after }) => {
    if (after?.error === undefined) return []
    const { message, hint } = after.error
    return [`- ${code(policy)}: ${harmless(message)}${hint === undefined ? '' : ` ${harmless(hint)}`}`]
  })
  const about = 'Nothing has been changed: this is what the next `retention apply` would find.'
  const parts = ['### Retention plan', [...head, ...rows].join('\n'), refused.join('\n'), about]
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}

/** As `printMarkdown`, of several databases. */
export function printMarkdownOf({ databases }: DatabasesReport<PlanComparison>): string {
  const texts = databases.map((one) => {
    const text = 'report' in one ? printMarkdown(one.report) : `${harmless(one.error.message)}\n`
    return `## ${code(one.database)}\n\n${text}`
  })
  return texts.join('\n')
}

function due(report: PolicyComparison['before']): string {
  return report === undefined ? '–' : number(report.due)
}

function dueAfter({ change, after }: PolicyComparison): string {
  return change === 'unplanned' ? '?' : due(after)
}

function result({ change, differs, after, reason }: PolicyComparison, hasBefore: boolean): string {
  const isRefused = after?.error !== undefined
  const refused = isRefused ? `**${harmless(after.status)}**` : ''
  const redacts = after?.redacts === undefined ? '' : `redacts ${after.redacts.map(code).join(', ')}`
  const changed = change === 'changed' ? `changed: ${differs.join(', ')}` : change
  const what = change === 'unplanned' ? harmless(reason ?? '') : changed
  return [hasBefore || change === 'unplanned' ? what : '', redacts, refused].filter((part) => part !== '').join('; ')
}

/** A name, shown as it is. */
function code(text: string): string {
  return `<code>${harmless(text)}</code>`
}

/**
 * Text that means nothing but itself, within a table's cell too: letters, digits and what no markup is made of stay, all else
 * is written as its number. A zero-width joiner behind `@` and `#` keeps people and issues from being called.
 */
function harmless(text: string): string {
  return text
    .replaceAll(/[\p{C}\p{Z}]+/gu, ' ')
    .replaceAll(/[^\p{L}\p{N}\p{M} ,'"()%-]/gu, (letter) => `&#${letter.codePointAt(0)};`)
    .replaceAll(/&#(64|35);/g, '&#$1;&#8205;')
}
