/** An archive's rows beside their table as text, to choose among them and to make rows of the table's form today. */
import { sql } from 'kysely'

import { messageOf, RetentionError } from '../../errors.ts'
import type { ArchivedRows, ArchiveForm, ColumnSource, Db, Selection, Sql, StagedRows } from '../database.ts'
import { nullHint, rowsUnfit, shownCharacters, shownRow, shownRows, type Unfit } from '../unfit.ts'
import { predicateTest, wherePredicate } from '../where.ts'
import type { Transaction } from './connection.ts'
import { collated, stageText, typedRows } from './archived-text.ts'
import { conversionOf, type Conversion, type OldType } from './conversion.ts'
import { failingRows } from './failing-rows.ts'
import { stageQuery } from './restore-staged.ts'
import { tryOut } from './savepoint.ts'
import type { CatalogTable } from './table.ts'

/** The archive's rows: `n` their order from 1, `c0`, `c1`, … their text. */
const archived = sql.id('pg_temp', 'retention_archived')
/** The numbers of those that are wanted. */
const selected = sql.id('pg_temp', 'retention_selected')

/** Copies an archive's CSV into a temporary table that goes with the transaction. */
export async function stageArchive(
  transaction: Transaction,
  table: CatalogTable,
  archive: ArchiveForm,
  csv: AsyncIterable<Buffer>,
): Promise<ArchivedRows> {
  const { rows, types } = await stageText(transaction, 'retention_archived', archive, csv)
  return new PostgresArchived(transaction, table, archive, rows, types)
}

class PostgresArchived implements ArchivedRows {
  readonly rows: number
  readonly #transaction: Transaction
  readonly #table: CatalogTable
  readonly #archive: ArchiveForm
  readonly #types: readonly OldType[]
  #isSelected = false

  constructor(
    transaction: Transaction,
    table: CatalogTable,
    archive: ArchiveForm,
    rows: number,
    types: readonly OldType[],
  ) {
    this.#transaction = transaction
    this.#table = table
    this.#archive = archive
    this.rows = rows
    this.#types = types
  }

  async select({ where, keys }: Selection): Promise<{ rows: number; missing: string[] }> {
    if (where === undefined && keys === undefined) return { rows: this.rows, missing: [] }
    // Under the table's own name, as a predicate may say it with its columns.
    const { n, from: typed } = await typedRows(this.#db, this.#archive, this.#types, archived)
    const wanted = [
      ...(where === undefined ? [] : [wherePredicate(where)]),
      ...(keys === undefined ? [] : [this.#hasKey(keys)]),
    ]
    try {
      if (where !== undefined) await predicateTest(where, typed).execute(this.#db)
      await sql`create temporary table retention_selected on commit drop as
        select ${n} as n from ${typed} where ${sql.join(wanted, sql` and `)}`.execute(this.#db)
      await sql`analyze ${selected}`.execute(this.#db)
    } catch (error) {
      throw unusable({ where, keys }, error)
    }
    this.#isSelected = true
    const { rows } = await sql<{ count: string }>`select count(*)::text as count from ${selected}`.execute(this.#db)
    return { rows: Number(rows[0]?.count ?? 0), missing: keys === undefined ? [] : await this.#missing(keys) }
  }

  async reshape(sources: readonly ColumnSource[]): Promise<{ staged: StagedRows; rewritten: string[] }> {
    const conversions = await this.#conversions(sources)
    await this.#checkValues(conversions)
    const values = sql.join(conversions.map(({ value }) => value))
    const columns = conversions.map(({ column }) => column.name)
    const all = await tryOut(this.#db, async () => {
      const staged = await stageQuery(
        this.#transaction,
        this.#table,
        columns,
        sql`select ${values} from ${this.#wanted()} order by a.n`,
      )
      return { staged, ...(await this.#compare(conversions)) }
    })
    if ('error' in all || all.value.unfit.some((count) => count > 0)) {
      const reasons = await this.#reasons(conversions, 'error' in all ? undefined : all.value.unfit)
      if (reasons.length === 0 && 'error' in all) throw all.error
      throw rowsUnfit(this.#table.name, reasons)
    }
    return { staged: all.value.staged, rewritten: all.value.rewritten }
  }

  get #db(): Db {
    return this.#transaction.db
  }

  async #conversions(sources: readonly ColumnSource[]): Promise<Conversion[]> {
    const conversions: Conversion[] = []
    for (const source of sources) {
      const column = this.#table.columns.find(({ name }) => name === source.column)
      if (column === undefined) throw new TypeError(`a plan names ${source.column}, which is not there`)
      const cell =
        'archive' in source
          ? {
              text: this.#cell(source.archive),
              old: this.#typeOf(source.archive),
              named: this.#archive.columns.find(({ name }) => name === source.archive)?.type,
            }
          : { text: sql<string | null>`${source.value}::text`, old: { type: 'text', category: 'S' }, named: 'text' }
      conversions.push(await conversionOf(this.#db, column, source, cell))
    }
    return conversions
  }

  /** One value for all rows is looked at by itself: it is not theirs. @throws RetentionError `USAGE` */
  async #checkValues(conversions: readonly Conversion[]): Promise<void> {
    for (const { archive, column, value, isSame } of conversions) {
      if (archive !== undefined) continue
      const tried = await tryOut(this.#db, async () =>
        sql<{ same: boolean }>`select ${isSame} as same, ${value} as value`.execute(this.#db),
      )
      if ('value' in tried && tried.value.rows[0]?.same === true) continue
      const why = 'error' in tried ? tried.error.message : 'it would become another value'
      throw new RetentionError('USAGE', `--set ${column.name}: no value for a column of type ${column.type}: ${why}`, {
        hint: nullHint(column.name),
        ...('error' in tried ? { cause: tried.error } : {}),
      })
    }
  }

  /** How many values of each column are not the same any more, and the columns in which some are written otherwise. */
  async #compare(conversions: readonly Conversion[]): Promise<{ unfit: number[]; rewritten: string[] }> {
    const unfit = conversions.map(({ isSame }) => sql`count(*) filter (where not ${isSame})`)
    const rewritten = conversions.map(({ isRewritten }) => sql`count(*) filter (where ${isRewritten ?? sql`false`})`)
    const { rows } = await sql<{ unfit: string[]; rewritten: string[] }>`
      select array[${sql.join(unfit)}]::text[] as unfit, array[${sql.join(rewritten)}]::text[] as rewritten
      from ${this.#wanted()}
    `.execute(this.#db)
    const [counts] = rows
    return {
      unfit: (counts?.unfit ?? []).map(Number),
      rewritten: conversions.filter((_, index) => counts?.rewritten[index] !== '0').map(({ column }) => column.name),
    }
  }

  /** Why some rows cannot go in. @param unfit how many values of each column are others, where all could be read */
  async #reasons(conversions: readonly Conversion[], unfit: readonly number[] | undefined): Promise<Unfit[]> {
    const reasons: Unfit[] = []
    // Rows are now looked for by their numbers, again and again.
    await sql`create index on ${archived} (n)`.execute(this.#db)
    await sql`analyze ${archived}`.execute(this.#db)
    if (this.#isSelected) await sql`create index on ${selected} (n)`.execute(this.#db)
    for (const [index, conversion] of conversions.entries()) {
      const { archive, column, types, value, isSame } = conversion
      if (archive === undefined) continue
      const name = archive === column.name ? archive : `${archive} → ${column.name}`
      const failing = unfit === undefined ? await this.#failing(conversion) : undefined
      if (failing !== undefined && failing.numbers.length > 0) {
        const among = sql`a.n in (${sql.join(failing.numbers.slice(0, shownRows))})`
        reasons.push({
          what: `${name} (${types}), cannot be converted`,
          count: failing.numbers.length,
          isAtLeast: !failing.isAll,
          rows: await this.#show(conversion, among),
        })
        continue
      }
      const { rows } = await sql<{ count: string }>`
        select count(${value}) filter (where not ${isSame})::text as count from ${this.#wanted()}
      `.execute(this.#db)
      const count = unfit?.[index] ?? Number(rows[0]?.count ?? 0)
      if (count === 0) continue
      const what = `${name} (${types}), would become another value`
      reasons.push({ what, count, rows: await this.#show(conversion, sql`not ${isSame}`) })
    }
    return reasons
  }

  async #failing({ value, isSame }: Conversion): ReturnType<typeof failingRows> {
    return failingRows(this.#db, this.rows, async (from, to) =>
      sql`select count(${value}), count(${isSame}) from ${this.#wanted()} where a.n between ${from} and ${to}`.execute(
        this.#db,
      ),
    )
  }

  /** The first of some rows, by their keys, with their value. */
  async #show({ text }: Conversion, where: Sql): Promise<string[]> {
    const { rows } = await sql<{ key: string; value: string | null }>`
      select ${this.#keyText()} as key, left(${text}, ${shownCharacters + 1}) as value
      from ${this.#wanted()} where ${where} order by a.n limit ${shownRows}
    `.execute(this.#db)
    return rows.map(({ key, value }) => shownRow(key, value))
  }

  /** The wanted rows, as `a`. */
  #wanted(): Sql {
    return this.#isSelected ? sql`${archived} as a join ${selected} using (n)` : sql`${archived} as a`
  }

  #keyText(): Sql<string> {
    const { key } = this.#archive
    if (key.length === 0) return sql<string>`concat('row ', a.n)`
    return sql<string>`concat_ws(', ', ${sql.join(key.map((name) => sql`concat(${`${name} = `}::text, ${this.#cell(name)})`))})`
  }

  #hasKey(keys: Exclude<Selection['keys'], undefined>): Sql<boolean> {
    const columns = sql.join(this.#archive.key.map((name) => sql.id(name)))
    return sql<boolean>`(${columns}) in (select ${this.#keyValues()} from ${given(keys)})`
  }

  async #missing(keys: Exclude<Selection['keys'], undefined>): Promise<string[]> {
    const columns = sql.join(this.#archive.key.map((name) => this.#typed(name)))
    const { rows } = await sql<{ key: string }>`
      select array_to_string(array(select json_array_elements_text(e)), ', ') as key from ${given(keys)}
      where (${this.#keyValues()}) not in (select ${columns} from ${archived})
    `.execute(this.#db)
    return rows.map(({ key }) => key)
  }

  #keyValues(): Sql {
    return sql.join(
      this.#archive.key.map((name, index) => sql`cast(e ->> ${index}::int as ${sql.raw(this.#typeOf(name).type)})`),
    )
  }

  #typed(name: string): Sql {
    const { collation = null } = this.#archive.columns[this.#index(name)] ?? {}
    return collated(sql`cast(${this.#cell(name, '')} as ${sql.raw(this.#typeOf(name).type)})`, collation)
  }

  #typeOf(name: string): OldType {
    return this.#types[this.#index(name)] ?? { type: 'text', category: 'S' }
  }

  #cell(name: string, of = 'a'): Sql<string | null> {
    const cell = `c${this.#index(name)}`
    return of === '' ? sql<string | null>`${sql.id(cell)}` : sql<string | null>`${sql.id(of, cell)}`
  }

  #index(name: string): number {
    return this.#archive.columns.findIndex((column) => column.name === name)
  }
}

function given(keys: readonly (readonly string[])[]): Sql {
  return sql`json_array_elements(${JSON.stringify(keys)}::json) as given(e)`
}

/** What somebody has written cannot be used. */
function unusable({ where, keys }: Selection, error: unknown): RetentionError {
  const option =
    where === undefined ? '--keys' : `--where ${JSON.stringify(where)}${keys === undefined ? '' : ' or --keys'}`
  return new RetentionError('USAGE', `${option} cannot be used on the archive's rows: ${messageOf(error)}`, {
    hint: 'Columns have the names and types that they had when they were archived; nothing has been restored.',
    cause: error,
  })
}
