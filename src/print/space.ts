/** What deleted rows have left behind, for people. */
import type { SpaceReport } from '../report.ts'
import { counted, indent, size, style } from './style.ts'

/** One line on what is left, and the command that cleans up; nothing where there is nothing to say. */
export function spaceLines(space: SpaceReport | undefined): string {
  if (space === undefined) return ''
  const { command, reclaimed } = space
  const text = reclaimed === undefined ? left(space) : given(space, reclaimed)
  if (text === undefined) return ''
  const lines = command === null || reclaimed !== undefined ? [text] : [text, command]
  return `${indent(lines.map((line) => style('dim', line)).join('\n'))}\n`
}

function left(space: SpaceReport): string | undefined {
  return space.deadRows === undefined ? leftInFile(space) : leftInTable(space, space.deadRows)
}

const onlyAtEnd = 'only empty pages at the end of a table do'

/** Postgres keeps deleted rows in their places until a VACUUM. */
function leftInTable({ bytes, unused, returnable }: SpaceReport, deadRows: number): string | undefined {
  if (deadRows === 0) return undefined
  const back =
    returnable > 0
      ? `at least ${size(returnable)} would go back to the file system`
      : `nothing would go back to the file system: ${onlyAtEnd}`
  return `${counted(deadRows, 'dead row')} left, about ${size(unused)} of ${size(bytes)}; VACUUM makes room of it for new rows, ${back}`
}

/** SQLite keeps free pages for new rows. */
function leftInFile({ bytes, unused, autoVacuum }: SpaceReport): string | undefined {
  if (unused === 0) return undefined
  const free = `${size(unused)} of the file's ${size(bytes)} are free for new rows`
  return autoVacuum === 'incremental'
    ? `${free}, or can be given back to the file system`
    : `${free}; only a full VACUUM, which writes it anew and needs room for both, makes it smaller`
}

function given({ deadRows, autoVacuum, bytes }: SpaceReport, done: NonNullable<SpaceReport['reclaimed']>): string {
  const back = `${size(done.bytes)} given back to the file system, which leaves ${size(bytes)}`
  if (done.deadRows === undefined || deadRows === undefined) {
    return autoVacuum === 'full' ? `${size(bytes)} left: SQLite gives free pages back at each commit` : back
  }
  const kept = deadRows === 0 ? '' : `, ${counted(deadRows, 'row')} left that an open transaction may still see`
  const returned = done.bytes > 0 ? back : `nothing went back to the file system: ${onlyAtEnd}`
  return `VACUUM made room of ${counted(done.deadRows, 'dead row')}${kept}; ${returned}`
}
