/**
 * When commits to a SQLite file are on the disk. Others wait for a commit as long as it waits for the disk: so with a
 * write-ahead log the commits of steps do not, and `settle` brings all of them to the disk at once. The log keeps their
 * order, and each is whole or not there: if the power goes before, the last steps are undone, their rows in the table again
 * and their archives unknown to the ledger.
 */
import { constants, realpathSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'

import type Sqlite from 'better-sqlite3'

import { messageOf, RetentionError } from '../../errors.ts'

/** So many pages make a long log: 32 MB, where pages have the usual size. */
const longLog = 8192

export class Durability {
  readonly #file: string
  readonly #raw: Sqlite.Database
  /** Whether the next commit waits for the disk; a connection is opened so. */
  #waits = true
  /** Whether there may be commits that are not on the disk. */
  #isUnsettled = false
  /** How long the log was at the last checkpoint, in pages. */
  #pages = 0

  constructor(file: string, raw: Sqlite.Database) {
    this.#file = file
    this.#raw = raw
  }

  /** To be called before each transaction that writes. @param isForStep its commit need not wait for the disk */
  next(isForStep: boolean): void {
    // As long as we are connected, nobody can end a write-ahead log.
    const waits = !isForStep || this.#raw.pragma('journal_mode', { simple: true }) !== 'wal'
    if (!waits) this.#isUnsettled = true
    if (waits === this.#waits) return
    this.#raw.pragma(`synchronous = ${waits ? 'extra' : 'normal'}`)
    // Steps make checkpoints themselves, when nobody waits for them. https://www.sqlite.org/wal.html#ckpt
    this.#raw.pragma(`wal_autocheckpoint = ${waits ? 1000 : 0}`)
    this.#waits = waits
  }

  /**
   * Takes what steps have committed out of the write-ahead log, as far as no reader is in the way. Nobody waits for it; were the
   * log left to grow, whoever commits next would have to do it. Never throws: what cannot be done now stays in the log.
   */
  checkpoint(): void {
    if (this.#waits) return
    try {
      const [{ log = 0n } = {}] = this.#raw.pragma('wal_checkpoint(passive)') as { log?: bigint }[]
      this.#pages = Number(log)
    } catch {
      // The commit stands.
    }
  }

  /**
   * Lets a long log begin anew, for which all must be taken out of it while nobody reads it. To be called when no step is being
   * read: they are read without a break, and the log would become as long as all of them together. Never throws.
   */
  shorten(): void {
    if (this.#pages >= longLog) this.checkpoint()
  }

  /**
   * Returns when all that was committed is on the disk: what SQLite's own waiting is, without keeping others from writing
   * meanwhile. A checkpoint would not do: it goes no further than the oldest reader. Closing the log gives none of SQLite's
   * locks away, which closing the database's own file would.
   * @throws RetentionError `DATABASE_FAILED`
   */
  async settle(): Promise<void> {
    if (!this.#isUnsettled) return
    try {
      // SQLite puts its log beside the file itself, not beside a link to it.
      const log = `${realpathSync(this.#file)}-wal`
      await sync(log, constants.O_RDWR)
      // The log may be new: its name must be on the disk as well.
      await sync(path.dirname(log), constants.O_RDONLY | constants.O_DIRECTORY)
    } catch (error) {
      throw new RetentionError(
        'DATABASE_FAILED',
        `SQLite's log could not be brought to the disk: ${messageOf(error)}`,
        {
          hint: 'What was archived is deleted and recorded, but if the power goes now, it may be in its table again. No row is lost either way.',
          cause: error,
        },
      )
    }
    this.#isUnsettled = false
  }
}

async function sync(file: string, flags: number): Promise<void> {
  const handle = await open(file, flags)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
