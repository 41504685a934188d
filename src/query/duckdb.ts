/** DuckDB, in memory, with nothing of the machine in reach but the files that it is given. */
import type { DuckDBConnection, DuckDBResult, DuckDBType, DuckDBValue } from '@duckdb/node-api'

import { messageOf, RetentionError } from '../errors.ts'
import type { QueryValue } from '../report.ts'

type Api = typeof import('@duckdb/node-api')

/** A name as SQL has it. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A text as SQL has it. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** The rows of a query, as they come. */
export interface Answer {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: AsyncIterable<QueryValue[][]>
}

/** The table of an answer; the query itself cannot know it yet. */
const answer = 'temp.main.answer'

/** One DuckDB of its own. */
export class DuckDb {
  readonly #api: Api
  readonly #connection: DuckDBConnection
  readonly #close: () => void
  #isInterrupted = false

  private constructor(api: Api, connection: DuckDBConnection, close: () => void) {
    this.#api = api
    this.#connection = connection
    this.#close = close
  }

  /**
   * Opens one.
   * @param folder where it may put what does not fit into memory
   * @throws RetentionError `PACKAGE_MISSING`
   */
  static async open(folder: string): Promise<DuckDb> {
    const api = await loadDuckDb()
    // Extensions would come from the network.
    const off = { autoinstall_known_extensions: 'false', autoload_known_extensions: 'false' }
    const instance = await api.DuckDBInstance.create(':memory:', off)
    const connection = await instance.connect()
    const duck = new DuckDb(api, connection, () => {
      connection.closeSync()
      instance.closeSync()
    })
    await duck.run(`SET temp_directory = ${literal(folder)}`)
    await duck.run(`SET memory_limit = '1GB'`)
    await duck.run(`SET TimeZone = 'UTC'`)
    return duck
  }

  /** From here on it reads these files, and no others; nor can that be changed. */
  async confine(files: readonly string[]): Promise<void> {
    await this.run(`SET allowed_paths = [${files.map(literal).join(', ')}]`)
    await this.run('SET enable_external_access = false')
    await this.run('SET lock_configuration = true')
  }

  /** Runs a statement of our own. @throws RetentionError `QUERY_FAILED` */
  async run(sql: string): Promise<void> {
    // It may have come when nothing was running.
    if (this.#isInterrupted) failed(new Error('interrupted'))
    await this.#connection.run(sql).catch(failed)
  }

  /** The first row of a query of our own. @throws RetentionError `QUERY_FAILED` */
  async row(sql: string): Promise<readonly QueryValue[]> {
    const result = await this.#connection.run(sql).catch(failed)
    const [row = []] = await result.convertRows(this.#value)
    return row
  }

  /**
   * Begins somebody's query.
   * @throws RetentionError `QUERY_FAILED`, also while its rows are read; `USAGE` where it is not one SELECT
   */
  async ask(sql: string): Promise<Answer> {
    const statements = await this.#connection.extractStatements(sql).catch(failed)
    // Anything else could write over the files that may be read.
    const only = 'One SELECT is asked for; statements that change something are none of archives.'
    if (statements.count !== 1)
      throw new RetentionError('USAGE', `There are ${statements.count} statements`, { hint: only })
    const { statementType } = await statements.prepare(0).catch(failed)
    if (statementType !== this.#api.StatementType.SELECT)
      throw new RetentionError('USAGE', 'The statement is no SELECT', { hint: only })
    // Of an answer that is fetched while it is made, an error would be its end, as if that were all. A table, which may
    // be larger than memory, is there whole or not at all.
    const isTable = !/^\s*(?:describe|desc|show|summarize)\b/i.test(sql)
    await this.run(`CREATE TEMP TABLE ${answer} AS ${isTable ? sql : `FROM (${sql.replace(/;\s*$/, '')}\n)`}`)
    const result = await this.#connection.stream(`FROM ${answer}`).catch(failed)
    const types = result.columnTypes()
    return {
      columns: result.columnNames().map((name, index) => ({ name, type: String(types[index]) })),
      rows: this.#rows(result),
    }
  }

  async *#rows(result: DuckDBResult): AsyncGenerator<QueryValue[][]> {
    let count = 0
    for await (const rows of result.yieldConvertedRows<QueryValue>(this.#value)) {
      count += rows.length
      yield rows
    }
    const [expected] = await this.row(`SELECT count(*) FROM ${answer}`)
    if (count !== expected) failed(new Error(`${count} of ${JSON.stringify(expected)} rows could be read`))
  }

  /** Ends the query that is running, with an error of its own. */
  interrupt(): void {
    this.#isInterrupted = true
    this.#connection.interrupt()
  }

  close(): void {
    this.#close()
  }

  /** A value for JSON: exact, and a number only where every reader of JSON would read the same one. */
  readonly #value = (value: DuckDBValue, type: DuckDBType): QueryValue => {
    const convert = this.#value
    const json = this.#api.JsonDuckDBValueConverter
    const { DuckDBBlobValue, DuckDBDateValue, DuckDBIntervalValue, DuckDBTimestampTZValue, DuckDBTimestampValue } =
      this.#api
    if (value === null) return null
    if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
    if (value instanceof DuckDBBlobValue) return `\\x${Buffer.from(value.bytes).toString('hex')}`
    if (value instanceof DuckDBIntervalValue) return value.toString()
    // As text it would be a day.
    if (value instanceof DuckDBDateValue && !value.isFinite) return value.days > 0 ? 'infinity' : '-infinity'
    if (value instanceof DuckDBTimestampTZValue) {
      const text = new DuckDBTimestampValue(value.micros).toString()
      // As text it would be in the machine's own time zone.
      return value.isFinite ? `${text}+00` : text
    }
    return json(value, type, convert)
  }
}

function failed(error: unknown): never {
  const message = messageOf(error)
  throw new RetentionError('QUERY_FAILED', `DuckDB: ${message}`, { ...hintFor(message), cause: error })
}

function hintFor(message: string): { hint?: string } {
  // It knows the views that the query names, and so has none of the others to offer.
  if (/^(?:Catalog|Binder) Error/.test(message))
    return { hint: '"retention query" without SQL lists what can be asked.' }
  return /Parser Error: syntax error/.test(message)
    ? { hint: 'A column whose name is a word of DuckDB\'s, such as at, stands in double quotes: "at".' }
    : {}
}

async function loadDuckDb(): Promise<Api> {
  try {
    return await import('@duckdb/node-api')
  } catch (error) {
    throw new RetentionError('PACKAGE_MISSING', `Queries on archives need a package: ${messageOf(error)}`, {
      hint: 'npm install @duckdb/node-api',
      cause: error,
    })
  }
}
