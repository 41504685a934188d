/**
 * Locks between processes on one machine, for which SQLite has none but its own on database files: so a lock is an
 * empty file beside the database, which SQLite itself holds locked. The system frees it when the process ends.
 */
import { rmSync, statSync } from 'node:fs'
import path from 'node:path'

import Sqlite from 'better-sqlite3'

import { codeOf, messageOf, RetentionError } from '../../errors.ts'
import type { Lock } from '../database.ts'

/** Takes the lock of that name at once, or returns undefined: another process has it. */
export function lockBeside(database: string, name: string): Lock | undefined {
  const file = lockFile(database, name)
  for (;;) {
    const before = inode(file)
    const raw = lock(file)
    if (raw === undefined) return undefined
    // Whoever held it last may have removed the file between our opening and our locking it: then what we hold is
    // not what the name stands for, and we begin again. So we do when the file had to be made first.
    if (before !== undefined && inode(file) === before) return { release: async () => release(file, raw) }
    raw.close()
  }
}

/** Whether another process has the lock of that name. */
export function isLockedBeside(database: string, name: string): boolean {
  const file = lockFile(database, name)
  // Without its file nobody holds it; and to make one is for those who take it.
  if (inode(file) === undefined) return false
  const raw = lock(file)
  raw?.close()
  return raw === undefined
}

function lockFile(database: string, name: string): string {
  return path.join(
    path.dirname(database),
    `${path.basename(database)}-lock-${name.replaceAll(/[^\p{L}\p{N}_.-]/gu, '_')}`,
  )
}

/** Locks a file, which is made if need be; undefined where it is locked. */
function lock(file: string): Sqlite.Database | undefined {
  let raw: Sqlite.Database | undefined
  try {
    raw = new Sqlite(file, { timeout: 0 })
    raw.exec('begin exclusive')
    return raw
  } catch (error) {
    raw?.close()
    if (codeOf(error)?.startsWith('SQLITE_BUSY') === true) return undefined
    throw new RetentionError('DATABASE_FAILED', `Cannot lock ${file}: ${messageOf(error)}`, {
      hint: 'The folder of the database must be writable, as SQLite itself needs it to be.',
      cause: error,
    })
  }
}

/** Removed while it is still locked, so that nobody else can hold what the name stands for. */
function release(file: string, raw: Sqlite.Database): void {
  try {
    rmSync(file, { force: true })
  } finally {
    raw.close()
  }
}

/** Which file a name stands for; asked by name, as closing a descriptor of it would free the process's locks on it. */
function inode(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.ino
}
