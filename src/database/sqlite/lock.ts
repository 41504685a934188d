/**
 * Locks between processes on one machine, for which SQLite has none but its own on database files: so a lock is an
 * empty file beside the database, which SQLite itself holds locked. The system frees it when the process ends.
 */
import { rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import Sqlite from 'better-sqlite3'

import { codeOf, messageOf, RetentionError } from '../../errors.ts'
import type { Lock } from '../database.ts'

/** Takes the lock of that name, or returns undefined: another process has it. */
export async function lockBeside(database: string, name: string): Promise<Lock | undefined> {
  const file = lockFile(database, name)
  for (let attempt = 1, busy = 0; attempt <= mostAttempts; attempt += 1) {
    const before = inode(file)
    const raw = lock(file, before)
    if (raw === 'busy') {
      busy += 1
      // It may be somebody who only looks whether it is locked.
      if (busy === 3) return undefined
      await sleep(20)
      continue
    }
    // Whoever held it last may have removed the file between our opening and our locking it: then what we hold is
    // not what the name stands for, and we begin again. So we do when the file had to be made first.
    if (raw !== 'gone' && before !== undefined && inode(file) === before) {
      return { release: async () => release(file, raw) }
    }
    if (raw !== 'gone') raw.close()
  }
  throw new RetentionError('DATABASE_FAILED', `Cannot lock ${file}: it is another file each time`)
}

/** Others may take and give it back in between; on a file system without lasting inode numbers it never ends. */
const mostAttempts = 1000

/** Whether another process has the lock of that name. Only looks: whoever has it keeps readers out. */
export function isLockedBeside(database: string, name: string): boolean {
  const file = lockFile(database, name)
  // Without its file nobody holds it.
  if (inode(file) === undefined) return false
  let raw: Sqlite.Database | undefined
  try {
    raw = new Sqlite(file, { timeout: 0, readonly: true, fileMustExist: true })
    raw.pragma('schema_version')
    return false
  } catch (error) {
    // Given back between our two looks.
    if (inode(file) === undefined) return false
    return isBusy(error)
  } finally {
    raw?.close()
  }
}

function lockFile(database: string, name: string): string {
  return path.join(
    path.dirname(database),
    `${path.basename(database)}-lock-${name.replaceAll(/[^\p{L}\p{N}_.-]/gu, '_')}`,
  )
}

/**
 * Locks a file, which is made if need be.
 * @param before the file that the name stood for
 */
function lock(file: string, before: number | undefined): Sqlite.Database | 'busy' | 'gone' {
  let raw: Sqlite.Database | undefined
  try {
    raw = new Sqlite(file, { timeout: 0 })
    raw.exec('begin exclusive')
    return raw
  } catch (error) {
    raw?.close()
    if (isBusy(error)) return 'busy'
    // SQLite does not go on with a file that has been removed.
    if (before !== undefined && inode(file) !== before) return 'gone'
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

function isBusy(error: unknown): boolean {
  return codeOf(error)?.startsWith('SQLITE_BUSY') === true
}
