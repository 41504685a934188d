/** Chooses among rows that a database has laid out in temporary tables of its own. */
import { sql } from 'kysely'

import { codeOf, messageOf, RetentionError } from '../errors.ts'
import type { Choice, ChoiceFile, Chosen, FilePredicate, FileReference } from './choice.ts'
import type { ArchiveColumn, Db, Sql } from './database.ts'
import { heldPredicate, noCondition, predicateTest, wherePredicate } from './where.ts'

/** What is a database's own about it. */
export interface Dialect {
  /** Where temporary tables are. */
  readonly schema: 'pg_temp' | 'temp'
  /** A column, for a comparison with the one that it refers to by a foreign key, by the key's own way of comparing. */
  asReferred(column: ArchiveColumn, to: ArchiveColumn): Sql
  /** Whether any number goes for true. */
  readonly takesNumbers: boolean
}

/** The rows of a file, laid out. */
export interface LaidOut {
  readonly rows: number
  /** The column with their numbers, which no predicate can name. */
  readonly n: Sql
  /** To select from: they go by the name of their table, and the columns by theirs. */
  readonly from: Sql
}

/** How many numbers are read at a time. */
const pageRows = 50_000

/**
 * Chooses rows, with all that refers to them in the same archive, at any depth.
 * @throws RetentionError `USAGE` where the predicate cannot be used on the rows, `REFUSED` where an exception cannot
 */
export async function choose(
  db: Db,
  dialect: Dialect,
  files: readonly ChoiceFile[],
  laidOut: readonly LaidOut[],
  choice: Choice,
): Promise<Chosen> {
  const chooser = new Chooser(db, dialect, files, laidOut)
  await chooser.choose(choice)
  const all = await chooser.counts('chosen')
  const excepted: number[] = []
  for (const exception of choice.except) excepted.push(await chooser.except(exception))
  if (excepted.some((rows) => rows > 0)) {
    // A row that stays needs those that it refers to. What was chosen for their sake alone stays with them.
    await chooser.spreadUp()
    await chooser.choose(choice)
  }
  const chosen = []
  for (const [at, { rows }] of laidOut.entries()) {
    const numbers = await chooser.numbers(at)
    chosen.push({ rows, numbers, left: (all[at] ?? 0) - numbers.length })
  }
  return { files: chosen, excepted }
}

/** Two temporary tables of numbers for each file: the rows that are chosen, and those that are not to be. */
class Chooser {
  readonly #db: Db
  readonly #dialect: Dialect
  readonly #files: readonly ChoiceFile[]
  readonly #laidOut: readonly LaidOut[]
  #isMade = false

  constructor(db: Db, dialect: Dialect, files: readonly ChoiceFile[], laidOut: readonly LaidOut[]) {
    this.#db = db
    this.#dialect = dialect
    this.#files = files
    this.#laidOut = laidOut
  }

  /** Chooses anew, without what has been excepted. */
  async choose({ where, files }: FilePredicate): Promise<void> {
    await this.#empty()
    for (const at of files) {
      const { n, from } = this.#rows(at)
      await this.#asked(where, at, 'USAGE', async () => {
        if (this.#dialect.takesNumbers) await this.#checkCondition(where, from)
        await sql`insert into ${this.#set('chosen', at)} select ${n} from ${from}
          where ${wherePredicate(where)} and not ${this.#isIn('excepted', at)}`.execute(this.#db)
      })
    }
    await this.#spread((reference, child) => {
      const { file, to } = reference
      const [rows, parents] = [this.#rows(child), this.#rows(file)]
      return sql`insert into ${this.#set('chosen', child)} select ${rows.n} from ${rows.from}
        where not ${this.#isIn('chosen', child)} and (${this.#referring(reference, child)}) in (
          select ${list(to)} from ${parents.from} where ${this.#isIn('chosen', file)})`
    })
  }

  /** Excepts those of the chosen rows that a predicate is true for or unknown; returns how many. */
  async except({ where, files }: FilePredicate): Promise<number> {
    let count = 0
    for (const at of files) {
      const { n, from } = this.#rows(at)
      const among = sql`from ${from} where ${heldPredicate(where)} and ${this.#isIn('chosen', at)}`
      await this.#asked(where, at, 'REFUSED', async () => {
        const { rows } = await sql<{ count: unknown }>`select count(*) as count ${among}`.execute(this.#db)
        count += Number(rows[0]?.count ?? 0)
        await sql`insert into ${this.#set('excepted', at)} select ${n} ${among} on conflict do nothing`.execute(
          this.#db,
        )
      })
    }
    return count
  }

  /** Excepts the chosen rows that excepted ones refer to, at any height. */
  async spreadUp(): Promise<void> {
    await this.#spread((reference, child) => {
      const { file, to } = reference
      const [rows, parents] = [this.#rows(child), this.#rows(file)]
      return sql`insert into ${this.#set('excepted', file)} select ${parents.n} from ${parents.from}
        where ${this.#isIn('chosen', file)}
          and not ${this.#isIn('excepted', file)} and (${list(to)}) in (
          select ${this.#referring(reference, child)} from ${rows.from} where ${this.#isIn('excepted', child)})`
    })
  }

  async counts(set: 'chosen' | 'excepted'): Promise<number[]> {
    const counts: number[] = []
    for (const at of this.#files.keys()) {
      const { rows } = await sql<{ count: unknown }>`select count(*) as count from ${this.#set(set, at)}`.execute(
        this.#db,
      )
      counts.push(Number(rows[0]?.count ?? 0))
    }
    return counts
  }

  /** The numbers of the chosen rows of a file, in their order. */
  async numbers(at: number): Promise<Uint32Array> {
    const numbers = new Uint32Array((await this.counts('chosen'))[at] ?? 0)
    for (let done = 0; done < numbers.length;) {
      const { rows } = await sql<{ n: unknown }>`
        select n from ${this.#set('chosen', at)} where n > ${numbers[done - 1] ?? 0} order by n limit ${pageRows}
      `.execute(this.#db)
      if (rows.length === 0) throw new TypeError('rows that were counted are there')
      for (const { n } of rows) {
        numbers[done] = Number(n)
        done += 1
      }
    }
    return numbers
  }

  async #empty(): Promise<void> {
    for (const at of this.#files.keys()) {
      if (this.#isMade) await sql`delete from ${this.#set('chosen', at)}`.execute(this.#db)
      else {
        for (const set of ['chosen', 'excepted'])
          await sql`create temporary table ${sql.id(`retention_${set}_${at}`)} (n bigint primary key)`.execute(this.#db)
      }
    }
    this.#isMade = true
  }

  /** Follows foreign keys until nothing more is found. */
  async #spread(step: (reference: FileReference, child: number) => Sql): Promise<void> {
    for (let isMore = true; isMore;) {
      isMore = false
      for (const [child, { references }] of this.#files.entries()) {
        for (const reference of references) {
          const { numAffectedRows = 0n } = await step(reference, child).execute(this.#db)
          isMore ||= numAffectedRows > 0n
        }
      }
    }
  }

  /** Runs what a predicate of somebody's own is a part of. It may name a person, and so is not quoted. */
  async #asked(where: string, at: number, code: 'USAGE' | 'REFUSED', work: () => Promise<void>): Promise<void> {
    try {
      await predicateTest(where, this.#rows(at).from).execute(this.#db)
      await work()
    } catch (error) {
      if (!(error instanceof RetentionError) || error.code !== 'DATABASE_FAILED') throw error
      const columns = this.#files[at]?.columns.map(({ name }) => name).join(', ')
      // Of a value that cannot be read as its type, Postgres's message has the value: somebody's, perhaps.
      const isOfData = codeOf(error.cause)?.startsWith('22') === true
      const text = isOfData ? 'a value in it, or in a row, is not of the type that it is taken for' : messageOf(error)
      throw new RetentionError(code, text, { hint: `Its columns are ${columns}.`, cause: error })
    }
  }

  /** The name of a column alone, as of a condition that was not written to its end, would be true for most rows. */
  async #checkCondition(where: string, from: Sql): Promise<void> {
    const { rows } = await sql`select 1 from ${from} where ${noCondition(where)} limit 1`.execute(this.#db)
    if (rows.length === 0) return
    throw new RetentionError('USAGE', 'it is no condition: for a row it is neither true nor false', {
      hint: 'Compare it with something, as in "customer = 42".',
    })
  }

  #rows(at: number): LaidOut {
    const rows = this.#laidOut[at]
    if (rows === undefined) throw new TypeError(`there is no file ${at}`)
    return rows
  }

  /** The columns of a reference, for a comparison with what they refer to. */
  #referring({ columns, file, to }: FileReference, child: number): Sql {
    return sql.join(
      columns.map((name, index) =>
        this.#dialect.asReferred(this.#column(child, name), this.#column(file, to[index] ?? '')),
      ),
    )
  }

  #column(at: number, name: string): ArchiveColumn {
    const columns = this.#files[at]?.columns ?? []
    // On SQLite a foreign key may write names in another letter case.
    const found =
      columns.find((column) => column.name === name) ??
      columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
    return found ?? { name, type: undefined, collation: null, isRowid: false }
  }

  /** True for the rows of a file that are in a set. */
  #isIn(set: 'chosen' | 'excepted', at: number): Sql<boolean> {
    return sql<boolean>`exists (select 1 from ${this.#set(set, at)} as retention_set where retention_set.n = ${this.#rows(at).n})`
  }

  #set(set: 'chosen' | 'excepted', at: number): Sql {
    return sql.id(this.#dialect.schema, `retention_${set}_${at}`)
  }
}

function list(columns: readonly string[]): Sql {
  return sql.join(columns.map((name) => sql.id(name)))
}
