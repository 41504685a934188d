/** Rows of an archive that their table cannot take as it is now, as one error that names them. */
import { formatTableName, type TableName } from '../config/fields.ts'
import { RetentionError } from '../errors.ts'

/** One reason why some rows do not fit. */
export interface Unfit {
  /** The column or constraint, and what is wrong: read on after "does not fit". */
  readonly what: string
  /** How many rows. */
  readonly count: number
  /** Whether there may be more than `count`: looking for all would take too long. */
  readonly isAtLeast?: boolean
  /** The first of them, at most `shownRows`. */
  readonly rows: readonly string[]
}

/** How many rows an error names. */
export const shownRows = 5

/** How many characters of a value an error shows: enough to know it by, no more of what may be people's data. */
export const shownCharacters = 40

const usualHint =
  'Leave such rows out with --where, replace a column by --drop column --set column=value, or restore --into a table that takes them.'

/** All reasons at once. */
export function rowsUnfit(table: TableName, reasons: readonly Unfit[], hint = usualHint): RetentionError {
  const name = formatTableName(table)
  const lines = reasons.map(({ what, count, isAtLeast, rows }) => {
    const number = `${isAtLeast === true ? 'at least ' : ''}${count} row${count === 1 ? '' : 's'}`
    const more = count > rows.length ? ', …' : ''
    return `${what}: ${number}: ${rows.join(', ')}${more}`
  })
  return new RetentionError(
    'ROWS_UNFIT',
    `The rows do not fit "${name}" as it is now; nothing has been restored:\n${lines.join('\n')}`,
    { hint },
  )
}

/** A row by its key, as `id = 3`, and of its value the beginning. */
export function shownRow(key: string, value?: string | null): string {
  if (value === undefined) return key
  if (value === null) return `${key}: NULL`
  return `${key}: ${JSON.stringify(value.length > shownCharacters ? `${value.slice(0, shownCharacters)}…` : value)}`
}

/** How to say NULL: the text is one as well. */
export function nullHint(column: string): string {
  return `For no value at all: --set ${column}:null.`
}
