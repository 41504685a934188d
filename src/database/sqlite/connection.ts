/** The connection to a SQLite file, and what its errors mean. */
import { existsSync, statSync } from 'node:fs'
import path from 'node:path'

import Sqlite from 'better-sqlite3'
import { Kysely, SqliteDialect, type CompiledQuery, type SqliteDatabase } from 'kysely'

import { formatReal } from '../../archive/csv.ts'
import { codeOf, messageOf, RetentionError } from '../../errors.ts'
import type { Db, Sql } from '../database.ts'
import { Turns } from './turns.ts'

/** How long SQLite itself waits for a lock before it gives up, in milliseconds. */
const busyTimeout = 5000

/** A query's text, and the parameters it is to be run with. */
export interface Statement {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/** One connection to a SQLite file. */
export class Connection {
  readonly file: string
  /** The driver itself, for what Kysely does not offer. */
  readonly raw: Sqlite.Database
  /** Runs Kysely's queries on the same connection. */
  readonly db: Db
  /** Whose transaction it is. */
  readonly turns = new Turns()

  constructor(file: string, raw: Sqlite.Database) {
    this.file = file
    this.raw = raw
    this.db = new Kysely<unknown>({ dialect: new SqliteDialect({ database: withOurErrors(raw) }) })
  }

  /** A query as text and parameters. */
  compile(query: Sql): Statement {
    const { sql: text, parameters }: CompiledQuery = query.compile(this.db)
    return { sql: text, parameters }
  }

  /** A statement of the driver. */
  statement(text: string): Sqlite.Statement<unknown[]> {
    return attempt(() => this.raw.prepare(text))
  }

  /** A statement of the driver for a query, with the parameters it is to be run with. */
  prepare(query: Sql): { statement: Sqlite.Statement<unknown[]>; parameters: readonly unknown[] } {
    const { sql: text, parameters } = this.compile(query)
    return { statement: this.statement(text), parameters }
  }

  /** A pragma's one value. */
  pragma(name: string): unknown {
    return this.raw.pragma(name, { simple: true })
  }

  /** @throws RetentionError `DATABASE_BUSY` when somebody else is writing for longer than we wait. */
  begin(mode: 'deferred' | 'immediate'): void {
    attempt(() => this.raw.exec(`begin ${mode}`))
  }

  commit(): void {
    attempt(() => this.raw.exec('commit'))
  }

  /** Undoes what is open, if anything is. Never throws: what cannot be rolled back now is when the connection closes. */
  rollback(): void {
    try {
      if (this.raw.inTransaction) this.raw.exec('rollback')
    } catch {
      // A transaction that failed on a full disk may be over already.
    }
  }

  close(): void {
    this.raw.close()
  }
}

/**
 * Opens a SQLite file that must be there.
 * @throws RetentionError `DATABASE_UNREACHABLE`
 */
export function connect(file: string, readOnly: boolean): Connection {
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
    // A commit must be on the disk when it returns: in WAL mode the driver's default is weaker, and in rollback-journal
    // mode the journal's removal must be on the disk as well. https://www.sqlite.org/pragma.html#pragma_synchronous
    if (!readOnly) raw.pragma('synchronous = extra')
    return new Connection(file, raw)
  } catch (error) {
    if (isBusy(error)) throw sqliteError(error)
    throw new RetentionError('DATABASE_UNREACHABLE', `Cannot open ${file}: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * The path in `sqlite:./a.db`, `sqlite:///./a.db`, `sqlite:////var/a.db` or `file:./a.db`, absolute.
 * @param folder where a relative path starts
 */
export function sqliteFile(address: string, folder: string): string {
  let written = address.replace(/^(sqlite|file):/i, '')
  if (written.startsWith('//')) {
    // What follows is an empty host and then a path; ./ and ../ make it a relative one.
    written = written
      .slice(2)
      .replace(/^\/(?=\.\.?\/)/, '')
      .replace(/^\/\//, '/')
  }
  if (['', '/', ':memory:'].includes(written)) {
    throw new RetentionError('CONFIG_INVALID', `"database" names no SQLite file: ${JSON.stringify(address)}`, {
      hint: 'Write it as sqlite:./local.db',
    })
  }
  return path.resolve(folder, written)
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

/** The driver as Kysely uses it, with our errors instead of its own. */
function withOurErrors(raw: Sqlite.Database): SqliteDatabase {
  return {
    close: () => raw.close(),
    prepare: (text) => {
      const statement = attempt(() => raw.prepare(text))
      return {
        reader: statement.reader,
        all: (parameters) => attempt(() => statement.all(...parameters)),
        run: (parameters) => attempt(() => statement.run(...parameters)),
        iterate: (parameters) => attempt(() => statement.iterate(...parameters)),
      }
    },
  }
}
