/** `query`: asks archives by SQL, without restoring them. Only reads. */
import type { Config } from '../config/config.ts'
import { loadConfig, type ProjectOptions } from '../config/project.ts'
import { openDatabase } from '../database/open.ts'
import { RetentionError } from '../errors.ts'
import { Ledger, type LedgerEntry } from '../ledger/ledger.ts'
import { ArchiveFiles } from './archive-files.ts'
import { unfitOf } from './column-types.ts'
import { DuckDb, type Answer } from './duckdb.ts'
import { readablePath, withPrivateFolder } from './readable.ts'
import { dayOf, mayHave, ParsedQuery, unbounded, type TimeBounds } from './time-bounds.ts'
import { viewParts } from './view-parts.ts'
import { describeView, viewStatement, type ReadableFile, type ViewFile } from './views.ts'
import type { QueryReport, QueryValue, QueryView } from '../report.ts'

/** What `query` and `listViews` can be told. */
export interface QueryOptions extends ProjectOptions {
  /** Leaves out archives all of whose rows are from before this day or instant. It chooses no rows. */
  from?: string
  /** Leaves out archives all of whose rows are from after this day or instant. It chooses no rows. */
  to?: string
  /** Makes all columns VARCHAR, each value its text as it stands in the archive. Default false. */
  text?: boolean
  /** Ends the query, with `INTERRUPTED`. */
  signal?: AbortSignal
}

/** The answer to a query, as it comes. */
export interface QueryStream extends Answer, Pick<QueryReport, 'archives' | 'notes'> {}

/**
 * Asks archives by one SELECT, in DuckDB's SQL. Each policy is a view over all its archives but those that were restored;
 * tables whose rows went along are views of their own, `<policy>_<table>`.
 * @throws RetentionError `PACKAGE_MISSING`, `QUERY_FAILED`, `ROWS_UNFIT` where a value is none of its column's type,
 * `USAGE`; and where an archive is missing or cannot be unsealed
 */
export async function query(sql: string, options: QueryOptions = {}): Promise<QueryReport> {
  return streamQuery(sql, options, async ({ rows, ...same }) => {
    const all: QueryValue[][] = []
    for await (const some of rows) for (const row of some) all.push(row)
    return { ...same, rows: all }
  })
}

/** The views that can be asked, with their columns. @throws as `query` */
export async function listViews(options: QueryOptions = {}): Promise<QueryView[]> {
  const config = await loadConfig(options)
  const parts = viewParts(await archived(config, bounds(options)))
  const found = new ArchiveFiles(config)
  const views: QueryView[] = []
  for (const [name, ofView] of Map.groupBy(parts, ({ view }) => view)) {
    views.push(describeView(name, await found.findAll(ofView), () => options.text === true))
  }
  return views
}

/**
 * As `query`, for answers of any length: none of their rows needs to be kept.
 * @param use is given the answer, which ends with it
 * @throws as `query`, all of it before there is an answer, but for what `use` throws
 */
export async function streamQuery<T>(
  sql: string,
  options: QueryOptions,
  use: (answer: QueryStream) => Promise<T>,
): Promise<T> {
  if (typeof sql !== 'string' || sql.trim() === '')
    throw new RetentionError('USAGE', `The query is ${JSON.stringify(sql)}; allowed: a SELECT`)
  const limits = bounds(options)
  const config = await loadConfig(options)
  return withPrivateFolder(async (folder) => {
    const prepared = await withDuckDb(folder, options, async (duck) =>
      prepare(duck, sql, await archived(config, limits), { config, folder, signal: options.signal }),
    )
    const texts: TextColumn[] = []
    for (;;) {
      const outcome = await withDuckDb(folder, options, async (duck) => {
        const answer = await begin(duck, sql, prepared, texts, options.text === true)
        return 'column' in answer ? answer : { value: await use(answer) }
      })
      if ('value' in outcome) return outcome.value
      texts.push(outcome)
    }
  })
}

/** What a query reads. */
interface Prepared {
  readonly files: readonly ReadableFile[]
  /** All views that it names, with every file that tells of their columns. */
  readonly views: ReadonlyMap<string, readonly ViewFile[]>
}

/** A column that is read as text, because a value is none of its type. */
interface TextColumn {
  readonly view: string
  readonly column: string
  readonly note: string
}

/** Finds the archives that a query needs, and makes them readable. */
async function prepare(
  duck: DuckDb,
  sql: string,
  entries: readonly LedgerEntry[],
  { config, folder, signal }: { config: Config; folder: string; signal: AbortSignal | undefined },
): Promise<Prepared> {
  const needed = await new ArchiveFiles(config).needed(viewParts(entries), sql, await ParsedQuery.parse(duck, sql))
  const files: ReadableFile[] = []
  for (const file of needed.toRead) {
    signal?.throwIfAborted()
    files.push({ ...file, file: await readablePath(file.archive, folder, signal) })
  }
  return { files, views: Map.groupBy([...needed.toRead, ...needed.toDescribe], ({ view }) => view) }
}

/** Begins a query; or says which column must be read as text for it. */
async function begin(
  duck: DuckDb,
  sql: string,
  { files, views }: Prepared,
  texts: readonly TextColumn[],
  isText: boolean,
): Promise<QueryStream | TextColumn> {
  for (const [name, ofView] of views) {
    const isTextColumn = (column: string): boolean =>
      isText || texts.some((text) => text.view === name && text.column === column)
    const read = files.filter(({ view }) => view === name)
    await duck.run(viewStatement(describeView(name, ofView, isTextColumn), read))
  }
  await duck.confine(files.map(({ file }) => file))
  try {
    const { columns, rows } = await duck.ask(sql)
    const archives = [...new Set(files.map(({ of }) => of.name))]
    return { columns, rows, archives, notes: texts.map(({ note }) => note) }
  } catch (error) {
    const unfit = unfitIn(error, files)
    if (unfit === undefined) throw error
    // SQLite's types are an intention: a column holds what it holds.
    if (unfit.of.archive.databaseKind !== 'sqlite') throw unfit.error
    return { view: unfit.of.view, column: unfit.column, note: `${unfit.error.message}: it is read as text` }
  }
}

/** The value that is none of its column's type, where that is what an error is about. */
function unfitIn(
  error: unknown,
  files: readonly ReadableFile[],
): { error: RetentionError; of: ReadableFile; column: string } | undefined {
  const unfit = error instanceof RetentionError ? unfitOf(error.message) : undefined
  const of = files.find(({ file }) => file === unfit?.file)
  if (unfit === undefined || of === undefined) return undefined
  const { column, type, value } = unfit
  const message = `Column "${column}" of ${of.archive.name} has ${JSON.stringify(value)}, which is no ${type} of DuckDB's`
  const hint = '--text reads all columns as text, as it stands in the archives; cast in the query what should be more.'
  return { error: new RetentionError('ROWS_UNFIT', message, { hint, cause: error }), of, column }
}

/** Lends a DuckDB, which ends with the signal. @throws RetentionError `INTERRUPTED` */
async function withDuckDb<T>(
  folder: string,
  { signal }: Pick<QueryOptions, 'signal'>,
  work: (duck: DuckDb) => Promise<T>,
): Promise<T> {
  const duck = await DuckDb.open(folder)
  const interrupt = (): void => duck.interrupt()
  signal?.addEventListener('abort', interrupt)
  try {
    signal?.throwIfAborted()
    return await work(duck)
  } catch (error) {
    if (signal?.aborted === true) throw new RetentionError('INTERRUPTED', 'The query was interrupted')
    throw error
  } finally {
    signal?.removeEventListener('abort', interrupt)
    duck.close()
  }
}

/** The archives whose rows are in no table, as far as times may match; the oldest first. */
async function archived(config: Config, limits: TimeBounds): Promise<LedgerEntry[]> {
  const database = await openDatabase(config, 'read')
  try {
    const ledger = await Ledger.forReading(database, config.ledger)
    const entries = await database.read((db) => ledger.entries(db))
    return entries.filter((entry) => entry.state === 'archived' && mayHave(entry, limits))
  } finally {
    await database.close()
  }
}

function bounds({ from, to }: QueryOptions): TimeBounds {
  const day = (name: string, time: string | undefined, none: number): number => {
    if (time === undefined) return none
    const found = dayOf(time)
    if (found !== undefined) return found
    throw new RetentionError(
      'USAGE',
      `--${name} is ${JSON.stringify(time)}; allowed: a day or instant, such as "2026-01-31"`,
    )
  }
  return { from: day('from', from, unbounded.from), to: day('to', to, unbounded.to) }
}
