/** Redactions: columns that are overwritten in rows that stay, and what stands against it in a table. */
import { formatTableName, type SetValue, type TableName } from '../config/fields.ts'
import { didYouMean } from '../config/validate.ts'
import { RetentionError } from '../errors.ts'
import type { Column, Finding, Sql, Table } from './table.ts'

/** Columns, and what they are set to. */
export type SetValues = Readonly<Record<string, SetValue>>

/** What is recorded of a redaction, so that a restore can bring the old values back. */
export interface Redacted {
  /** The columns that tell the rows apart. */
  readonly key: readonly string[]
  readonly set: SetValues
}

/** What a policy's `set` comes to in its table. */
export interface Redaction {
  /** By the columns' own names. */
  readonly set: SetValues
  /** True for rows of the table of which one of the columns holds anything else than it is set to. */
  readonly isOpen: Sql<boolean>
}

/** What a database knows of a table that may stand against overwriting its columns. */
export interface SetFacts {
  /** The columns of each unique index, that of the key among them, in which NULLs do not count as equal. */
  readonly unique: readonly (readonly string[])[]
  /** The same where they do. */
  readonly uniqueNulls: readonly (readonly string[])[]
  /** Columns that say which partition a row is in. */
  readonly partitionKey: readonly string[]
  /** Columns that foreign keys of other tables, or of its own, refer to. */
  readonly referenced: readonly { readonly by: TableName; readonly columns: readonly string[] }[]
  /** Columns that only the database itself may fill. */
  readonly filled: readonly string[]
}

/** The columns of a redaction's archive, in the table's order: what tells rows apart, their time, and what is overwritten. */
export function redactionColumns<AColumn extends Column>(
  columns: readonly AColumn[],
  key: readonly string[],
  time: string,
  set: SetValues,
): AColumn[] {
  const wanted = new Set([...key, time, ...Object.keys(set)])
  return columns.filter(({ name, generated }) => wanted.has(name) && !generated)
}

/**
 * What keeps columns from being overwritten, whatever the values' types.
 * @param time the column that ages the rows
 * @param set by the columns' own names, where there are such columns
 */
export function setFindings(table: Table, time: string, set: SetValues, facts: SetFacts): Finding[] {
  const name = formatTableName(table.name)
  const findings: Finding[] = []
  const refuse = (text: string, hint: string): void => void findings.push({ level: 'refusal', text, hint })
  if (table.key.length === 0) {
    refuse(
      `${name} has no primary key and no unique index over columns that are NOT NULL: what is redacted could not be brought back`,
      'Give it a primary key; a deferrable one does not serve.',
    )
  }
  for (const [column, value] of Object.entries(set)) {
    const found = table.columns.find((one) => one.name === column)
    if (found === undefined) {
      const names = table.columns.map((one) => one.name)
      refuse(
        `"set" names column "${column}", which ${name} does not have${didYouMean(column, names)}`,
        `Its columns are: ${names.join(', ')}.`,
      )
      continue
    }
    const leave = `Leave "${column}" out of "set".`
    const reason = ((): string | undefined => {
      if (table.key.includes(column)) return 'rows are told apart by it'
      if (column === time) return 'it ages the rows'
      if (found.generated || facts.filled.includes(column)) return 'the database fills it itself'
      if (facts.partitionKey.includes(column)) return 'it says which partition a row is in'
      const key = facts.referenced.find(({ columns }) => columns.includes(column))
      return key === undefined ? undefined : `a foreign key of ${formatTableName(key.by)} refers to it`
    })()
    if (reason !== undefined) refuse(`"set" would overwrite "${column}" of ${name}: ${reason}`, leave)
    else if (value === null && !found.nullable)
      refuse(`"set" sets "${column}" of ${name} to NULL, and it is NOT NULL`, 'Set it to a value of its type.')
  }
  const isFixed = (column: string): boolean => (set[column] ?? null) !== null
  const isSet = (column: string): boolean => Object.hasOwn(set, column)
  const sole = [
    ...facts.unique.filter((columns) => columns.every(isFixed)),
    ...facts.uniqueNulls.filter((columns) => columns.every(isSet)),
  ]
  for (const columns of sole) {
    refuse(
      `"set" gives all rows of ${name} the same (${columns.join(', ')}), which is unique`,
      facts.unique.includes(columns) ? 'Set one of them to NULL.' : 'Leave one of them out of "set".',
    )
  }
  return findings
}

/** A value that a column cannot have. @param why read on after "cannot be set to …:" */
export function unfitValue(table: Table, column: Pick<Column, 'name' | 'type'>, value: SetValue, why: string): Finding {
  const type = column.type === '' ? 'without a type' : `of type ${column.type}`
  return {
    level: 'refusal',
    text: `Column "${column.name}" of ${formatTableName(table.name)}, ${type}, cannot be set to ${JSON.stringify(value)}: ${why}`,
    hint: 'Set it to a value that it can hold as it is written.',
  }
}

/** Rows that do not hold what they were set to. */
export function notHeld(rows: number, triggers: readonly string[]): RetentionError {
  return new RetentionError('REFUSED', `${rows} rows were overwritten, and do not hold what "set" says`, {
    hint: `One of the triggers that run on update has a word in it: ${triggers.join(', ')}. Nothing has been changed.`,
  })
}

/** Rows whose time has become another one by being overwritten. */
export function timeMoved(column: string, triggers: readonly string[]): RetentionError {
  return new RetentionError(
    'REFUSED',
    `Rows were overwritten, and "${column}", which ages them, is not what it was: their time would begin anew, and a restore would not know them`,
    {
      hint: `One of the triggers that run on update sets it: ${triggers.join(', ')}. Let "column" be one that none sets, or let the trigger leave it where it is not the application that writes. Nothing has been changed.`,
    },
  )
}
