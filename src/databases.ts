/** Works on all databases of a config, side by side. */
import { loadDatabases, type ProjectOptions } from './config/project.ts'
import { asRetentionError, RetentionError } from './errors.ts'
import { reported, type ReportedError } from './report.ts'
import { Turns } from './turns.ts'

/** What came of one of several databases: a report, or what kept it from giving one. */
export type DatabaseReport<Report> =
  | { readonly database: string; readonly report: Report }
  | { readonly database: string; readonly error: ReportedError }

/** What came of several databases, in the config's order. */
export interface DatabasesReport<Report> {
  readonly databases: readonly DatabaseReport<Report>[]
}

/**
 * Calls a function of this package for each database of a config that has several, `parallel` of them at the same time.
 * One database's failure stops no other.
 * @param work is given the options for one: `overDatabases({ cwd }, (options) => apply(options))`
 * @throws RetentionError where it cannot begin: no config, a mistake in it, or one database alone (`USAGE`)
 */
export async function overDatabases<Report>(
  options: ProjectOptions,
  work: (options: ProjectOptions) => Promise<Report>,
): Promise<DatabasesReport<Report>> {
  const databases = await loadDatabases(options)
  if (databases === undefined) throw new RetentionError('USAGE', 'The config has one database alone')
  const turns = new Turns(databases.parallel)
  const one = async (database: string): Promise<DatabaseReport<Report>> => {
    const endTurn = await turns.take()
    try {
      return { database, report: await work({ ...options, database }) }
    } catch (error) {
      return { database, error: reported(asRetentionError(error)) }
    } finally {
      endTurn()
    }
  }
  return { databases: await Promise.all(databases.names.map(one)) }
}

/**
 * The one of several databases that has something.
 * @throws RetentionError `USAGE` where none has it, or more than one
 */
export async function databaseWith(
  options: ProjectOptions,
  has: (options: ProjectOptions) => Promise<boolean>,
): Promise<string> {
  const { databases } = await overDatabases(options, has)
  for (const one of databases) {
    // Which has it cannot be told then.
    if ('error' in one) throw new RetentionError('USAGE', `${one.database}: ${one.error.message}`, { hint: nameOne })
  }
  const found = databases.flatMap((one) => ('report' in one && one.report ? [one.database] : []))
  const [first, ...others] = found
  if (first === undefined) throw new RetentionError('USAGE', 'None of the databases has it', { hint: nameOne })
  if (others.length === 0) return first
  throw new RetentionError('USAGE', `Several databases have it: ${found.join(', ')}`, { hint: nameOne })
}

const nameOne = 'Name the database with --database.'
