/** The archive of a redaction beside its table: what the rows hold now. Changes nothing. */
import { readCsv } from '../archive/store.ts'
import { formatTableName } from '../config/fields.ts'
import type { Database, Finding, OldValues, Redacted, RestoreTable, RestoreTransaction } from '../database/database.ts'
import type { FoundArchive } from '../stored/find-archive.ts'
import { formOf } from './placing-reshaped.ts'

/** What the table's rows are, beside the archive's. */
export type Compared = Awaited<ReturnType<OldValues['compare']>>

/**
 * Compares an archive with its table, and undoes it again unless the work has committed.
 * @param lock whether the rows may not change while the work goes on
 * @returns undefined where there is no such table, or it has another form now, so that nothing can be said
 */
export async function withCompared<T>(
  archive: FoundArchive,
  redacted: Redacted,
  database: Database,
  lock: boolean,
  work: (found: Compared, transaction: RestoreTransaction) => Promise<T>,
): Promise<T | undefined> {
  const transaction = await database.restore(archive.table, undefined, Object.keys(redacted.set))
  if (transaction === undefined) return undefined
  try {
    if (formFindings(archive, redacted, transaction.table).length > 0) return undefined
    const old = await transaction.stageOld(redacted, archive.columns, await readCsv(archive))
    return await work(await old.compare(lock), transaction)
  } finally {
    await transaction.rollback()
  }
}

/** What of the table has changed so that the archive's values do not fit any more. */
export function formFindings(archive: FoundArchive, { key, set }: Redacted, table: RestoreTable): Finding[] {
  const name = formatTableName(table.name)
  const refuse = (text: string): Finding => ({
    level: 'refusal',
    text,
    hint: 'Give the table the form that it had for the restore; or load the CSV file into a table of your own, and UPDATE from there.',
  })
  const findings: Finding[] = []
  const isKey = key.length === table.key.length && key.every((column) => table.key.includes(column))
  if (!isKey)
    findings.push(
      refuse(`Rows of ${archive.name} are known by (${key.join(', ')}), which is not the key of ${name} now`),
    )
  for (const { name: column, type } of formOf(archive).columns) {
    const now = table.columns.find((one) => one.name === column)
    if (now === undefined) findings.push(refuse(`${name} has no column "${column}", which ${archive.name} has`))
    else if (type !== undefined && now.type !== type)
      findings.push(refuse(`Column "${column}" of ${name} is of type ${now.type} now, and was of type ${type}`))
    else if (now.generated && Object.hasOwn(set, column))
      findings.push(refuse(`Column "${column}" of ${name} is computed now`))
  }
  return findings
}
