/** Free pages of a SQLite file: how many there are, and giving them back. */
import { statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import type { Finding, Space } from '../database.ts'
import type { Connection } from './connection.ts'
import { attempt } from './driver.ts'

/** How much one piece gives back, in bytes: the write lock is held for some hundredths of a second. */
const piece = 2 * 1024 * 1024

/** As `PRAGMA auto_vacuum` numbers them. https://www.sqlite.org/pragma.html#pragma_auto_vacuum */
const modes = ['none', 'full', 'incremental'] as const

/** What the file's free pages come to. */
export function fileSpace(connection: Connection): Space {
  const unused = number(connection, 'freelist_count') * number(connection, 'page_size')
  const autoVacuum = modeOf(connection)
  const returns = autoVacuum === 'incremental' && unused > 0
  return {
    bytes: statSync(connection.file).size,
    unused,
    autoVacuum,
    returnable: returns ? unused : 0,
    command: returns ? commandLine(connection, 'PRAGMA incremental_vacuum;') : null,
  }
}

/** Gives free pages back, a piece at a time, and rests after each as long as it took: others come to write in between. */
export async function returnPages(connection: Connection, signal: AbortSignal): Promise<Finding[]> {
  const mode = modeOf(connection)
  // SQLite has given them back with each commit.
  if (mode === 'full') return []
  if (mode === 'none') return [cannotShrink(connection)]
  const pages = Math.ceil(piece / number(connection, 'page_size'))
  for (let left = Math.ceil(number(connection, 'freelist_count') / pages); left > 0; left -= 1) {
    if (signal.aborted) return [{ level: 'warning', text: '"reclaim" was interrupted', hint: 'A later one goes on.' }]
    const began = performance.now()
    await returnPiece(connection, pages)
    await sleep(performance.now() - began, undefined, { signal }).catch(() => {})
  }
  return checkpoint(connection)
}

async function returnPiece(connection: Connection, pages: number): Promise<void> {
  const endTurn = await connection.turns.take()
  try {
    attempt(() => connection.raw.pragma(`incremental_vacuum(${pages})`))
  } finally {
    endTurn()
  }
}

/** In WAL mode the file itself shrinks at a checkpoint. A passive one waits for nobody and keeps nobody waiting. */
function checkpoint(connection: Connection): Finding[] {
  attempt(() => connection.raw.pragma('wal_checkpoint(passive)'))
  const held = statSync(connection.file).size - number(connection, 'page_count') * number(connection, 'page_size')
  if (connection.pragma('journal_mode') !== 'wal' || held <= 0) return []
  const text = 'The file shrinks at a later checkpoint: somebody still reads it as it was before'
  return [{ level: 'warning', text }]
}

function cannotShrink(connection: Connection): Finding {
  const command = commandLine(connection, 'PRAGMA auto_vacuum = incremental; VACUUM;')
  return {
    level: 'warning',
    text: '"reclaim" does nothing here: auto_vacuum is none, and free pages stay in the file for new rows',
    hint: `To change that, once: ${command}\nIt writes the whole file anew, locks it meanwhile, and needs up to twice its size on the disk.`,
  }
}

function modeOf(connection: Connection): NonNullable<Space['autoVacuum']> {
  return modes[number(connection, 'auto_vacuum')] ?? 'none'
}

function number(connection: Connection, pragma: string): number {
  return Number(attempt(() => connection.pragma(pragma)))
}

/** For a POSIX shell. */
function commandLine({ file }: Connection, statements: string): string {
  const word = /^[\w./-]+$/.test(file) ? file : `'${file.replaceAll("'", String.raw`'\''`)}'`
  return `sqlite3 ${word} '${statements}'`
}
