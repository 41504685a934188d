/** Lays an archive's files out in a transaction that is undone, to choose among their rows. */
import { sql } from 'kysely'

import { choose, type LaidOut } from '../choose.ts'
import type { ArchiveColumn, Choice, ChoiceFile, Chosen, Sql } from '../database.ts'
import { collated, stageText, typedRows } from './archived-text.ts'
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
      laidOut.push({ rows, ...(await typedRows(db, file, types, table)) })
    }
    return await choose(db, { schema: 'pg_temp', asReferred, takesNumbers: false }, files, laidOut, choice)
  } finally {
    await transaction.rollback()
  }
}

/** A foreign key compares by what it refers to. Between two collations, neither of them said, Postgres does not choose. */
function asReferred(column: ArchiveColumn, to: ArchiveColumn): Sql {
  const isSame = column.collation === to.collation
  return collated(sql.id(column.name), isSame ? null : (to.collation ?? 'pg_catalog."default"'))
}
