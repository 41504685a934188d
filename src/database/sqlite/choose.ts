/** Lays an archive's files out in temporary tables, to choose among their rows. */
import { sql } from 'kysely'

import { choose, type LaidOut } from '../choose.ts'
import type { ArchiveColumn, Choice, ChoiceFile, Chosen, Sql } from '../database.ts'
import { collationOf, stageCells, stageTyped } from './archived-cells.ts'
import { affinityOf } from './cells.ts'
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
  return choose(connection.db, { schema: 'temp', asReferred, takesNumbers: true }, files, laidOut, choice)
}

/**
 * A foreign key compares with collation and affinity of what it refers to. By `+`, a column has no affinity of its own.
 * https://www.sqlite.org/foreignkeys.html#fk_basics
 */
function asReferred(column: ArchiveColumn, to: ArchiveColumn): Sql {
  const isSame = affinityOf(column.type ?? '') === affinityOf(to.type ?? '')
  return sql`${sql.raw(isSame ? '' : '+')}${sql.id(column.name)} collate ${collationOf(to)}`
}
