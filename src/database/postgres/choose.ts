/** Lays an archive's files out in a transaction that is undone, to choose among their rows. */
import { sql } from 'kysely'

import { choose, type LaidOut } from '../choose.ts'
import type { Choice, ChoiceFile, Chosen } from '../database.ts'
import { stageText, typedRows } from './archived-text.ts'
import { Transaction, type Connections } from './connection.ts'

export async function chooseRecords(
  connections: Connections,
  files: readonly ChoiceFile[],
  choice: Choice,
): Promise<Chosen> {
  const transaction = await Transaction.begin(connections, 'read write', { ...connections.limits, step: 0 })
  try {
    const { db } = transaction
    const laidOut: LaidOut[] = []
    for (const [at, file] of files.entries()) {
      const name = `retention_archived_${at}`
      const { rows, types } = await stageText(transaction, name, file, await file.open())
      const table = sql`${sql.id('pg_temp', name)}`
      // Nobody else does: the transaction ends before the server's own would.
      await sql`analyze ${table}`.execute(db)
      laidOut.push({ rows, ...typedRows(file, types, table) })
    }
    return await choose(db, 'pg_temp', files, laidOut, choice)
  } finally {
    await transaction.rollback()
  }
}
