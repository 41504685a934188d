/** The plan of a restore: which column of an archive goes where in a table that has changed since. Pure. */
import { didYouMean } from './config/validate.ts'
import type { ArchiveForm, Column, ColumnSource } from './database/database.ts'
import { RetentionError } from './errors.ts'

/** What to do with columns that are not in the table as they are in the archive. */
export interface Reshaping {
  /** Columns of the archive, and the table's that take their values. */
  readonly map: ReadonlyMap<string, string>
  /** Columns of the archive whose values stay there. */
  readonly drop: readonly string[]
  /** Columns of the table, and the value that all rows get in them. */
  readonly set: ReadonlyMap<string, string | null>
}

/** What becomes of a column of the archive, or where a column of the table gets its values from. */
export interface ColumnChange {
  /** The archive's column; null where it has none for the table's. */
  readonly archive: string | null
  /** The table's column; null where it has none for the archive's. */
  readonly table: string | null
  /**
   * `kept`: its values as they are; `converted`: to another type; `dropped`: left in the archive; `default`: what the
   * table gives new rows; `set`: the value that was asked for; `generated`: computed by the database.
   */
  readonly change: 'kept' | 'converted' | 'dropped' | 'default' | 'set' | 'generated'
  /** The archive's type; null where it has no such column, or nobody knows. */
  readonly from: string | null
  /** The table's type; null where it has no such column. */
  readonly to: string | null
}

/** How an archive's rows become rows of a table. */
export interface Shape {
  /** Each column of the archive once, then each of the table that it has nothing for. */
  readonly columns: readonly ColumnChange[]
  /** The columns that rows bring values for. */
  readonly sources: readonly ColumnSource[]
  /** Whether columns are renamed, left out or set: the archive's CSV is then not what goes in. */
  readonly isReshaped: boolean
  /** Whether a column has another type now. */
  readonly isConverted: boolean
}

/** Something that is in the way, and the options that would help. */
export interface Problem {
  readonly text: string
  readonly hint?: string
  /** Whether an option is wrong by itself. */
  readonly isUsage: boolean
}

/** The table as a plan needs it. */
export interface ShapedTable {
  /** For messages. */
  readonly name: string
  readonly columns: readonly Pick<Column, 'name' | 'type' | 'nullable' | 'generated' | 'hasDefault'>[]
}

/**
 * Plans how an archive's rows become rows of a table.
 * @throws RetentionError with all that is in the way: `USAGE` where an option is wrong, else `REFUSED`
 */
export function shapeOf(name: string, archive: ArchiveForm, table: ShapedTable, wanted: Reshaping): Shape {
  return shapeOrThrow(planShape(name, archive, table, wanted))
}

/**
 * A plan's shape.
 * @param prefix what stands before columns in options, where several tables are restored
 * @throws RetentionError as `shapeOf`
 */
export function shapeOrThrow(plan: ReturnType<typeof planShape>, prefix = ''): Shape {
  if (!('problems' in plan)) return plan
  const told = (text: string): string => text.replaceAll(/--(map|drop|set) ('?)/g, `--$1 $2${prefix}`)
  const hints = plan.problems.flatMap(({ hint }) => (hint === undefined ? [] : [hint]))
  throw new RetentionError(
    plan.problems.some(({ isUsage }) => isUsage) ? 'USAGE' : 'REFUSED',
    plan.problems.map(({ text }) => told(text)).join('\n'),
    hints.length === 0 ? {} : { hint: told(hints.join('\n')) },
  )
}

/** As `shapeOf`; what is in the way comes as a list. @param name the archive's, for messages */
export function planShape(
  name: string,
  archive: ArchiveForm,
  table: ShapedTable,
  wanted: Reshaping,
): Shape | { readonly problems: readonly Problem[] } {
  const { map, drop, set } = wanted
  const inTable = new Map(table.columns.map((column) => [column.name, column]))
  const kept = archive.columns.filter((column) => !drop.includes(column.name))
  const targetOf = (column: string): string => map.get(column) ?? column
  const mistakes = optionMistakes(name, archive, table, wanted)
  const vanished = kept.filter((column) => !map.has(column.name) && !inTable.has(column.name))
  const computed = kept.filter((column) => !map.has(column.name) && inTable.get(column.name)?.generated === true)
  const clashes = [...Map.groupBy(kept, (column) => targetOf(column.name))].filter(([, sources]) => sources.length > 1)
  const filled = new Set([...kept.map((column) => targetOf(column.name)), ...set.keys()])
  const unfilled = table.columns.filter((column) => !filled.has(column.name) && !column.generated)
  const needed = unfilled.filter((column) => !column.nullable && !column.hasDefault)
  const problems: Problem[] = [
    ...mistakes,
    ...clashes.map(([target, sources]): Problem => {
      const names = sources.map((column) => column.name)
      const dropped = names.find((column) => !map.has(column)) ?? names.at(-1) ?? target
      return { text: `${list(names)} would both go into "${target}"`, hint: hintFor('drop', dropped), isUsage: true }
    }),
    ...(vanished.length === 0
      ? []
      : [
          {
            text: `"${table.name}" has no column ${list(vanished.map((column) => column.name))}, which ${name} has`,
            hint: vanished.map((column) => hintForVanished(column, unfilled)).join('\n'),
            isUsage: false,
          },
        ]),
    ...computed.map((column): Problem => ({
      text: `Column "${column.name}" of "${table.name}" is generated now, and cannot take the values of ${name}`,
      hint: hintFor('drop', column.name),
      isUsage: false,
    })),
    ...needed.map((column): Problem => ({
      text: `Column "${column.name}" of "${table.name}" must have a value, and neither has a default nor a column of ${name}`,
      hint: hintFor('set', column.name),
      isUsage: false,
    })),
  ]
  if (problems.length > 0) return { problems }
  const changes = [
    ...archive.columns.map((column): ColumnChange => {
      const target = drop.includes(column.name) ? undefined : inTable.get(targetOf(column.name))
      const [from, to] = [column.type ?? null, target?.type ?? null]
      if (target === undefined) return { archive: column.name, table: null, change: 'dropped', from, to }
      const change = isSameType(from, to) ? 'kept' : 'converted'
      return { archive: column.name, table: target.name, change, from, to }
    }),
    ...table.columns
      .filter((column) => set.has(column.name) || column.generated || unfilled.includes(column))
      .map((column): ColumnChange => {
        const change = set.has(column.name) ? 'set' : column.generated ? 'generated' : 'default'
        return { archive: null, table: column.name, change, from: null, to: column.type }
      }),
  ]
  return {
    columns: changes,
    sources: [
      ...kept.map((column) => ({ column: targetOf(column.name), archive: column.name })),
      ...[...set].map(([column, value]) => ({ column, value })),
    ],
    isReshaped: changes.some((one) => isAsked(one)),
    isConverted: changes.some(({ change }) => change === 'converted'),
  }
}

function isAsked({ archive, table, change }: ColumnChange): boolean {
  return change === 'dropped' || change === 'set' || (archive !== null && table !== archive)
}

/** Types that nobody knows are taken for the table's: the rows then show it, one by one. */
function isSameType(from: string | null, to: string | null): boolean {
  return from === null || from.toLowerCase() === to?.toLowerCase()
}

/** What is wrong with the options, whatever the columns are like. */
function optionMistakes(name: string, archive: ArchiveForm, table: ShapedTable, wanted: Reshaping): Problem[] {
  const { map, drop, set } = wanted
  const archived = archive.columns.map((column) => column.name)
  const problems: Problem[] = []
  const mistake = (text: string, hint?: string): void => {
    problems.push({ text, isUsage: true, ...(hint === undefined ? {} : { hint }) })
  }
  const checkArchived = (option: string, column: string): void => {
    if (archived.includes(column)) return
    mistake(`${option}: ${name} has no column "${column}"${didYouMean(column, archived)}`)
  }
  const checkTarget = (option: string, column: string): void => {
    const found = table.columns.find((candidate) => candidate.name === column)
    const names = table.columns.map((candidate) => candidate.name)
    if (found === undefined) mistake(`${option}: "${table.name}" has no column "${column}"${didYouMean(column, names)}`)
    else if (found.generated) mistake(`${option}: column "${column}" of "${table.name}" is generated by the database`)
  }
  for (const [column, target] of map) {
    const option = written('map', column, target)
    checkArchived(option, column)
    checkTarget(option, target)
    if (drop.includes(column)) mistake(`${option}: "${column}" is dropped as well`)
  }
  for (const column of new Set(drop)) checkArchived(written('drop', column), column)
  for (const column of set.keys()) {
    const option = written('set', column)
    checkTarget(option, column)
    const source = archived.find((other) => !drop.includes(other) && (map.get(other) ?? other) === column)
    if (source !== undefined)
      mistake(`${option}: ${name} has values for it, in "${source}"`, hintFor('drop', source, ' to give them up'))
  }
  return problems
}

/** A column of the table that nothing goes into yet, and that looks like the one that has gone. */
function hintForVanished(
  column: ArchiveForm['columns'][number],
  unfilled: readonly ShapedTable['columns'][number][],
): string {
  const alike = unfilled.filter(({ name }) => didYouMean(column.name, [name]) !== '')
  const ofItsType = unfilled.filter(({ type }) => column.type !== undefined && isSameType(column.type, type))
  const [likely] = alike.length > 0 ? alike : ofItsType
  const drop = hintFor('drop', column.name, ' leaves its values in the archive')
  return likely === undefined
    ? drop
    : `${hintFor('map', column.name, ` if that is its name now`, likely.name)}; ${drop}`
}

function hintFor(option: 'map' | 'drop' | 'set', column: string, why = '', target = '…'): string {
  return `${written(option, column, option === 'drop' ? undefined : target)}${why}`
}

/** An option as it is written in a shell. */
function written(option: string, column: string, value?: string): string {
  const words = value === undefined ? column : `${column}=${value}`
  return `--${option} ${/^[\w.=…-]+$/.test(words) ? words : `'${words.replaceAll("'", String.raw`'\''`)}'`}`
}

function list(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ')
}
