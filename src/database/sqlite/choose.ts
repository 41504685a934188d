/** Lays an archive's files out in temporary tables, to choose among their rows. */
import { sql } from 'kysely'

import { choose, type LaidOut } from '../choose.ts'
import type { Choice, ChoiceFile, Chosen } from '../database.ts'
import { stageCells, stageTyped } from './archived-cells.ts'
import type { Connection } from './connection.ts'

/** To be called in a transaction that is undone. */
export async function chooseRecords(
  connection: Connection,
  files: readonly ChoiceFile[],
  choice: Choice,
): Promise<Chosen> {
  const laidOut: LaidOut[] = []
  for (const [at, file] of files.entries()) {
    const name = `retention_archived_${at}`
    const rows = await stageCells(connection, name, file, await file.open())
    const typed = await stageTyped(connection.db, file, sql`${sql.id('temp', name)}`, `retention_typed_${at}`)
    laidOut.push({ rows, ...typed })
  }
  return choose(connection.db, 'temp', files, laidOut, choice)
}
