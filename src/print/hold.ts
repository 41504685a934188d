/** Holds, for people. */
import type { AddedHold, HoldList, HoldReport, ListedHold, ReleasedHold } from '../report.ts'
import { counted, indent, moment, style, table } from './style.ts'

type Hold = ReleasedHold['hold']

/** What a hold is called: the beginning of its id, which `hold release` takes as well. */
function shortId({ id }: Pick<Hold, 'id'>): string {
  return id.slice(0, 8)
}

export function printAdded({ hold, rows, unknown, archives }: AddedHold): string {
  const lines = [
    `${style('green', '✔')} ${shortId(hold)}: ${heldText(hold)}`,
    ...(hold.archive === null ? [`  ${counted(rows, 'row')} by now${unknownText(unknown)}`] : []),
    ...(hold.archive === null && archives.length > 0
      ? [
          `  ${counted(archives.length, 'archive')} of the table may hold such rows: prune leaves them, and erase such rows in them`,
        ]
      : []),
  ]
  return `${lines.join('\n')}\n`
}

function unknownText(unknown: number): string {
  return unknown === 0 ? '' : `; of them ${counted(unknown, 'row')} for which the predicate is unknown (NULL)`
}

export function printHolds({ holds }: HoldList): string {
  if (holds.length === 0) return 'Nothing is held.\n'
  return `${table(
    ['hold', 'what', 'reason', 'by', 'since', 'until'],
    holds.map((hold) => [
      shortId(hold),
      scope(hold),
      oneLine(hold.reason),
      oneLine(hold.createdBy),
      moment(hold.createdAt),
      untilText(hold),
    ]),
  )}\n`
}

function untilText(hold: ListedHold): string {
  const until = hold.until === null ? 'its release' : end(hold.until)
  if (hold.state === 'in-force') return until
  if (hold.state === 'ended') return style('dim', `ended ${until}`)
  const why = hold.releaseReason === null ? '' : `: ${oneLine(hold.releaseReason)}`
  return style('dim', `released ${moment(hold.releasedAt ?? '')} by ${oneLine(hold.releasedBy ?? '')}${why}`)
}

export function printReleased({ hold }: ReleasedHold): string {
  return `${style('green', '✔')} ${shortId(hold)} released: ${scope(hold)} no longer held for "${oneLine(hold.reason)}"\n`
}

/** A hold in one line, for the status of a policy. */
export function holdLine(hold: Hold): string {
  const text = heldText(hold)
  return `${text.charAt(0).toUpperCase()}${text.slice(1)} (${shortId(hold)}: ${oneLine(hold.reason)}, by ${oneLine(hold.createdBy)})`
}

/** The legal holds that keep a policy's rows, in one line; nothing where there are none. */
export function heldLine(holds: readonly Omit<HoldReport, 'where'>[]): string {
  if (holds.length === 0) return ''
  const each = holds.map((hold) => `${shortId(hold)} (${oneLine(hold.reason)}): ${counted(hold.rows, 'row')}`)
  return `${indent(style('dim', `legal hold ${each.join(', ')}`))}\n`
}

/** The legal holds that keep an archive, in one line; nothing where there are none. */
export function keptBy(holds: readonly Pick<Hold, 'id' | 'reason' | 'createdBy'>[]): string {
  if (holds.length === 0) return ''
  const each = holds.map((hold) => `${shortId(hold)} (${oneLine(hold.reason)}, by ${oneLine(hold.createdBy)})`)
  return `${indent(style('dim', `  kept by legal hold ${each.join(', ')}`))}\n`
}

function scope({ kind, table: name, archive, where }: Hold): string {
  if (archive !== null) return kind === 'legal' ? `archive ${archive}` : `restored rows of ${archive}`
  return where === null ? `all rows of ${name}` : `rows of ${name} where ${oneLine(where)}`
}

function heldText(hold: Hold): string {
  const verb = hold.archive !== null && hold.kind === 'legal' ? 'is' : 'are'
  return `${scope(hold)} ${verb} held until ${hold.until === null ? 'released' : end(hold.until)}`
}

/** Whoever placed it said a day of the config's time zone. */
function end(until: string): string {
  return `${moment(until)} UTC`
}

/** Somebody's own words on one line: a terminal takes some characters for commands. */
function oneLine(text: string): string {
  return text.replaceAll(/[\s\p{Cc}]+/gu, ' ').trim()
}
