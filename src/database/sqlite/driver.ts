/** Opens SQLite files, and tells what their errors mean. Without Kysely: the reading thread needs little of all else. */
import { existsSync, statSync } from 'node:fs'

import Sqlite from 'better-sqlite3'

import { formatReal } from '../../archive/csv.ts'
import { codeOf, messageOf, RetentionError } from '../../errors.ts'

/** How long SQLite itself waits for a lock before it gives up, in milliseconds. */
const busyTimeout = 5000

/** What SQLite keeps of a file in memory. Rows are read and deleted in their order: more would not be used again. */
const cacheKilobytes = 2048

/** A query's text, and the parameters it is to be run with. */
export interface Statement {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/**
 * Opens a SQLite file that must be there.
 * @throws RetentionError `DATABASE_UNREACHABLE`
 */
export function open(file: string, readOnly: boolean): Sqlite.Database {
  if (!existsSync(file)) {
    throw new RetentionError('DATABASE_UNREACHABLE', `There is no SQLite file ${file}`, {
      hint: 'Check "database" in the config, or DATABASE_URL. Relative paths start at the config\'s folder; the file is never created.',
    })
  }
  if (!statSync(file).isFile()) throw new RetentionError('DATABASE_UNREACHABLE', `${file} is not a file`)
  try {
    const raw = new Sqlite(file, { fileMustExist: true, readonly: readOnly, timeout: busyTimeout })
    // Integers beyond 2^53 stay exact, and 1 (an integer) is told from 1.0 (a real).
    raw.defaultSafeIntegers(true)
    // Writes a REAL as archives do; rows.ts uses it.
    raw.function('retention_real', { deterministic: true }, (value) => formatReal(Number(value)))
    // Fails on a file that is no database, which opening does not look at.
    raw.pragma('schema_version')
    raw.pragma(`cache_size = -${cacheKilobytes}`)
    // A commit must be on the disk when it returns: in WAL mode the driver's default is weaker, and in rollback-journal
    // mode the journal's removal must be on the disk as well. https://www.sqlite.org/pragma.html#pragma_synchronous
    if (!readOnly) raw.pragma('synchronous = extra')
    return raw
  } catch (error) {
    if (isBusy(error)) throw sqliteError(error)
    throw new RetentionError('DATABASE_UNREACHABLE', `Cannot open ${file}: ${messageOf(error)}`, { cause: error })
  }
}

function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error) ?? '')
}

/** An error of SQLite as one of ours. */
function sqliteError(error: unknown): RetentionError {
  if (error instanceof RetentionError) return error
  const message = `SQLite: ${messageOf(error)}`
  if (isBusy(error)) {
    return new RetentionError('DATABASE_BUSY', message, {
      hint: 'Another process is using the database file. Run again later.',
      cause: error,
    })
  }
  return new RetentionError('DATABASE_FAILED', message, { cause: error })
}

/** Runs something whose errors are SQLite's. */
export function attempt<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw sqliteError(error)
  }
}
