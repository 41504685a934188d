/** An archive's rows beside their table as they are, to choose among them and to make rows of the table's form today. */
import { sql } from 'kysely'

import { messageOf, RetentionError } from '../../errors.ts'
import type { ArchivedRows, ArchiveForm, ColumnSource, Db, Selection, Sql, StagedRows } from '../database.ts'
import { nullHint, rowsUnfit, shownCharacters, shownRow, shownRows, type Unfit } from '../unfit.ts'
import { predicateTest, wherePredicate } from '../where.ts'
import { collationOf, stageCells, stageTyped } from './archived-cells.ts'
import { affinityOf, cell } from './cells.ts'
import type { Connection } from './connection.ts'
import { stageQuery } from './restore-staged.ts'
import type { SchemaTable } from './table.ts'

const archived = sql.id('temp', 'retention_archived')
/** The numbers of those that are wanted. */
const selected = sql.id('temp', 'retention_selected')
/** The values with their columns' types of then, for a predicate: without a type, 5 is not '5'. */
const typed = sql.id('temp', 'retention_typed')

/** Copies an archive's CSV into a temporary table. */
export async function stageArchive(
  connection: Connection,
  table: SchemaTable,
  archive: ArchiveForm,
  csv: AsyncIterable<Buffer>,
): Promise<ArchivedRows> {
  await unstageArchive(connection.db)
  const rows = await stageCells(connection, 'retention_archived', archive, csv)
  return new SqliteArchived(connection, table, archive, rows)
}

/** Takes the temporary tables away, where there are some. */
export async function unstageArchive(db: Db): Promise<void> {
  for (const table of [archived, selected, typed]) await sql`drop table if exists ${table}`.execute(db)
}

class SqliteArchived implements ArchivedRows {
  readonly rows: number
  readonly #connection: Connection
  readonly #table: SchemaTable
  readonly #archive: ArchiveForm
  #isSelected = false

  constructor(connection: Connection, table: SchemaTable, archive: ArchiveForm, rows: number) {
    this.#connection = connection
    this.#table = table
    this.#archive = archive
    this.rows = rows
  }

  async select({ where, keys }: Selection): Promise<{ rows: number; missing: string[] }> {
    if (where === undefined && keys === undefined) return { rows: this.rows, missing: [] }
    const wanted = [
      ...(where === undefined ? [] : [sql`a.n in (${await this.#matching(where)})`]),
      ...(keys === undefined ? [] : [sql`(${this.#keyTexts()}) in (select ${this.#keyValues()} from ${given(keys)})`]),
    ]
    try {
      await sql`create temporary table retention_selected as
        select a.n from ${archived} as a where ${sql.join(wanted, sql` and `)}`.execute(this.#db)
    } catch (error) {
      throw unusable(where, error)
    }
    this.#isSelected = true
    const { rows } = await sql<{ count: bigint }>`select count(*) as count from ${selected}`.execute(this.#db)
    return { rows: Number(rows[0]?.count ?? 0n), missing: keys === undefined ? [] : await this.#missing(keys) }
  }

  async reshape(sources: readonly ColumnSource[]): Promise<{ staged: StagedRows; rewritten: string[] }> {
    const isStrict = await this.#isStrict()
    const affinities = sources.map(({ column }) => {
      const type = this.#table.columns.find(({ name }) => name === column)?.type ?? ''
      return affinityOf(type, isStrict)
    })
    checkValues(this.#table, sources, affinities)
    const values = sources.map((source) => ('archive' in source ? this.#cell(source.archive) : sql`${source.value}`))
    const staged = await stageQuery(
      this.#connection,
      this.#table,
      sources.map(({ column }) => column),
      affinities,
      sql`select a.n, ${sql.join(values)} from ${this.#wanted()} order by a.n`,
    )
    const reasons: Unfit[] = []
    for (const [index, source] of sources.entries()) {
      const reason = 'archive' in source ? await this.#changed(index, source, affinities[index] ?? '') : undefined
      if (reason !== undefined) reasons.push(reason)
    }
    if (reasons.length > 0) throw rowsUnfit(this.#table.name, reasons)
    return { staged, rewritten: [] }
  }

  get #db(): Db {
    return this.#connection.db
  }

  /** Values that the column's affinity has made others of: text that reads as the same number is not one. */
  async #changed(
    index: number,
    source: { readonly column: string; readonly archive: string },
    affinity: string,
  ): Promise<Unfit | undefined> {
    const before = this.#cell(source.archive)
    // With a sign, neither side's affinity has a word in the comparison.
    const after = sql`+s.${cell(index)}`
    const isSame = sql`(${after} is +${before} or cast(${after} as text) is cast(${before} as text))`
    const { rows } = await sql<{ key: string; value: string | null; count: bigint }>`
      select ${this.#keyText()} as key, substr(cast(${before} as text), 1, ${shownCharacters + 1}) as value, count(*) over () as count
      from ${this.#wanted()} join temp.retention_staged as s on s.n = a.n where not ${isSame} order by a.n limit ${shownRows}
    `.execute(this.#db)
    const [first] = rows
    if (first === undefined) return undefined
    const { archive, column } = source
    const name = archive === column ? archive : `${archive} → ${column}`
    const type = this.#table.columns.find((candidate) => candidate.name === column)?.type ?? ''
    return {
      what: `${name} (${this.#typeOf(archive)} → ${type}, affinity ${affinity}), would become another value`,
      count: Number(first.count),
      rows: rows.map(({ key, value }) => shownRow(key, value)),
    }
  }

  /** The numbers of the rows that a predicate is true for. @throws RetentionError `USAGE` */
  async #matching(where: string): Promise<Sql> {
    // Under the table's own name, as a predicate may say it with its columns.
    const { n, from: named } = await stageTyped(this.#db, this.#archive, archived, 'retention_typed')
    const numbers = sql`select ${n} from ${named} where ${wherePredicate(where)}`
    try {
      await predicateTest(where, named).execute(this.#db)
      // What is in double quotes and no column's name, SQLite takes for text.
      await sql`select count(*) from (${numbers})`.execute(this.#db)
    } catch (error) {
      throw unusable(where, error)
    }
    return numbers
  }

  async #missing(keys: Exclude<Selection['keys'], undefined>): Promise<string[]> {
    const { rows } = await sql<{ key: string }>`
      select (select group_concat(value, ', ') from json_each(given.value)) as key from ${given(keys)}
      where (${this.#keyValues()}) not in (select ${this.#keyTexts()} from ${archived} as a)
    `.execute(this.#db)
    return rows.map(({ key }) => key)
  }

  async #isStrict(): Promise<boolean> {
    const { rows } = await sql`
      select 1 from pragma_table_list where schema = 'main' and name = ${this.#table.name.name} and strict = 1
    `.execute(this.#db)
    return rows.length > 0
  }

  /** The wanted rows, as `a`. */
  #wanted(): Sql {
    return this.#isSelected ? sql`${archived} as a join ${selected} as w on w.n = a.n` : sql`${archived} as a`
  }

  #keyText(): Sql {
    const { key } = this.#archive
    if (key.length === 0) return sql`'row ' || a.n`
    return sql.join(
      key.map((name) => sql`${`${name} = `} || coalesce(cast(${this.#cell(name)} as text), 'NULL')`),
      sql` || ', ' || `,
    )
  }

  #keyTexts(): Sql {
    return sql.join(
      this.#archive.key.map((name) => {
        const column = this.#archive.columns.find((candidate) => candidate.name === name)
        return sql`cast(${this.#cell(name)} as text)${column === undefined ? sql`` : sql` collate ${collationOf(column)}`}`
      }),
    )
  }

  #keyValues(): Sql {
    return sql.join(this.#archive.key.map((_, index) => sql`given.value ->> ${BigInt(index)}`))
  }

  #typeOf(name: string): string {
    return this.#archive.columns.find((column) => column.name === name)?.type || 'no type'
  }

  #cell(name: string): Sql {
    return sql`a.${cell(this.#archive.columns.findIndex((column) => column.name === name))}`
  }
}

/** SQLite itself would take any text in a column for numbers. @throws RetentionError `USAGE` */
function checkValues({ columns }: SchemaTable, sources: readonly ColumnSource[], affinities: readonly string[]): void {
  for (const [index, source] of sources.entries()) {
    if ('archive' in source || source.value === null || !['INTEGER', 'REAL'].includes(affinities[index] ?? '')) continue
    if (/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(source.value)) continue
    const type = columns.find(({ name }) => name === source.column)?.type ?? ''
    throw new RetentionError(
      'USAGE',
      `--set ${source.column}: no value for a column of type ${type}: it is no number`,
      {
        hint: nullHint(source.column),
      },
    )
  }
}

function given(keys: readonly (readonly string[])[]): Sql {
  return sql`json_each(${JSON.stringify(keys)}) as given`
}

/** What somebody has written cannot be used. */
function unusable(where: string | undefined, error: unknown): RetentionError {
  const option = where === undefined ? '--keys' : `--where ${JSON.stringify(where)}`
  return new RetentionError('USAGE', `${option} cannot be used on the archive's rows: ${messageOf(error)}`, {
    hint: 'Columns have the names and types that they had when they were archived; nothing has been restored.',
    cause: error,
  })
}
