/** The connection to a SQLite file: the driver, Kysely on it, and whose turn it is. */
import path from 'node:path'

import type Sqlite from 'better-sqlite3'
import { Kysely, SqliteDialect, type CompiledQuery, type SqliteDatabase } from 'kysely'

import { RetentionError } from '../../errors.ts'
import { Turns } from '../../turns.ts'
import type { Db, Sql } from '../database.ts'
import { attempt, open, type Statement } from './driver.ts'
import { Durability } from './durability.ts'

/** One connection to a SQLite file. */
export class Connection {
  readonly file: string
  /** The driver itself, for what Kysely does not offer. */
  readonly raw: Sqlite.Database
  /** Runs Kysely's queries on the same connection. */
  readonly db: Db
  /** Whose transaction it is. */
  readonly turns = new Turns()
  readonly #durability: Durability

  constructor(file: string, raw: Sqlite.Database) {
    this.file = file
    this.raw = raw
    this.#durability = new Durability(file, raw)
    this.db = new Kysely<unknown>({ dialect: new SqliteDialect({ database: withOurErrors(raw) }) })
  }

  /** A query as text and parameters. */
  compile(query: Sql): Statement {
    const { sql: text, parameters }: CompiledQuery = query.compile(this.db)
    return { sql: text, parameters }
  }

  /** A statement of the driver for a query, with the parameters it is to be run with. */
  prepare(query: Sql): { statement: Sqlite.Statement<unknown[]>; parameters: readonly unknown[] } {
    const { sql: text, parameters } = this.compile(query)
    return { statement: attempt(() => this.raw.prepare(text)), parameters }
  }

  /** A pragma's one value. */
  pragma(name: string): unknown {
    return this.raw.pragma(name, { simple: true })
  }

  /**
   * @param isForStep its commit may become durable with the next `settle` only
   * @throws RetentionError `DATABASE_BUSY` when somebody else is writing for longer than we wait.
   */
  begin(mode: 'deferred' | 'immediate', isForStep = false): void {
    attempt(() => {
      if (mode === 'immediate') this.#durability.next(isForStep)
      this.raw.exec(`begin ${mode}`)
    })
  }

  /** Returns when all that was committed is on the disk. */
  async settle(): Promise<void> {
    const endTurn = await this.turns.take()
    try {
      await this.#durability.settle()
    } finally {
      endTurn()
    }
  }

  commit(): void {
    attempt(() => this.raw.exec('commit'))
  }

  /** Takes what steps have committed out of the write-ahead log. Never throws: see `Durability.checkpoint`. */
  checkpoint(): void {
    this.#durability.checkpoint()
  }

  /** Lets a long write-ahead log begin anew. Never throws: see `Durability.shorten`. */
  shortenLog(): void {
    this.#durability.shorten()
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

/** Connects to a SQLite file that must be there. @throws RetentionError `DATABASE_UNREACHABLE` */
export function connect(file: string, readOnly: boolean): Connection {
  return new Connection(file, open(file, readOnly))
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
