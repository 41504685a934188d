/** Puts the archive of a redaction back: rows that have stayed get again what their columns held. */
import { metered, Meter, readCsv } from '../archive/store.ts'
import { formFindings, type Compared } from './compare-redacted.ts'
import { formatTableName } from '../config/fields.ts'
import type { Db, Finding, RestoreTable, Unlike } from '../database/database.ts'
import { refusalOf } from '../database/findings.ts'
import { hasCode, RetentionError } from '../errors.ts'
import { checkBytes, type FoundArchive } from '../stored/find-archive.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { checkRead, compare, mismatch } from './placing.ts'
import { isPartial } from './placing-reshaped.ts'
import type { RestoreReport } from '../report.ts'
import { commitRestore, noSuchTable, record, type RestoreOrder } from './restore-runner.ts'

/** One restore of a redaction. All of its values are back with the ledger's word for it, or none is. */
export async function downRedacted(archive: FoundArchive, order: RestoreOrder): Promise<RestoreReport> {
  const { database, ledger, onConflict, dryRun } = order
  const { redacted } = archive
  if (redacted === undefined) throw new TypeError('no archive of a redaction')
  checkOrder(archive, order)
  await checkBytes(archive)
  // 1. Lock the table against changes of its form, and look whether its rows can take the values.
  const transaction = await database.restore(archive.table, undefined, Object.keys(redacted.set))
  if (transaction === undefined) throw noSuchTable(archive, archive.table, true)
  const { table } = transaction
  let report: RestoreReport
  try {
    const refusal = refusalOf([...table.findings, ...formFindings(archive, redacted, table)])
    if (refusal !== undefined) throw refusal
    // 2. Find the rows, and set what they held.
    const meter = new Meter()
    const csv = metered(meter, await readCsv(archive))
    const old = await transaction.stageOld(redacted, archive.columns, csv)
    checkRead(archive, old.rows, meter)
    const found = await old.compare(true)
    const { gone, changed } = found
    const later = await laterFindings(archive, transaction.db, ledger)
    if (gone.count + changed.count > 0 && onConflict === 'error') throw conflict(archive, table, found, later)
    const rows = await old.put(onConflict).catch((error: unknown) => {
      throw unfit(archive, table, error)
    })
    const left = gone.count + (onConflict === 'overwrite' ? 0 : changed.count)
    if (rows.rows !== old.rows - left) throw mismatch(archive, table)
    await compare(archive, table, old.readBack(), archive.sha256)
    // 3. Hold them and mark the archive, in the same transaction.
    const state = stateOf(archive, found, left)
    const held = async () => ({ rows: await rows.known(), warnings: [] })
    const recorded =
      dryRun || state === null ? undefined : await record(archive, order, transaction, { rows, state, held })
    report = {
      archive: archive.name,
      location: archive.target.locate(archive.path),
      table: formatTableName(table.name),
      dryRun,
      columns: [],
      rows: archive.rows,
      selected: archive.rows,
      restored: state === null ? 0 : rows.rows,
      conflicts: gone.count + changed.count,
      partitions: [],
      heldUntil: recorded?.heldUntil ?? null,
      state,
      redacted: Object.keys(redacted.set),
      warnings: [...leftFindings(archive, found, order), ...later],
    }
  } catch (error) {
    await transaction.rollback()
    throw error
  }
  // 4. Commit: the values are back and the ledger knows, or neither.
  if (dryRun) await transaction.rollback()
  else
    await commitRestore(archive, order, transaction, report).catch((error: unknown) => {
      throw unfit(archive, table, error)
    })
  return report
}

/** @throws RetentionError `USAGE` where it is asked for what is for rows that have gone */
function checkOrder(archive: FoundArchive, { into, reshaping, selection }: RestoreOrder): void {
  const { map, drop, set } = reshaping
  if (into === undefined && map.size + drop.length + set.size === 0 && !isPartial(selection)) return
  throw new RetentionError(
    'USAGE',
    `${archive.name} holds what columns held of rows that have stayed: --into, --map, --drop, --set, --where and --keys are for rows that have gone`,
    { hint: 'For anything else than all of it, load its CSV file into a table of your own, and UPDATE from there.' },
  )
}

function conflict(
  archive: FoundArchive,
  table: RestoreTable,
  { gone, changed }: Compared,
  later: readonly Finding[],
): RetentionError {
  const key = `(${table.key.join(', ')})`
  const some = ({ count, keys }: Unlike): string =>
    `${key} = ${keys.map((one) => `(${one})`).join(', ')}${count > keys.length ? ` and ${count - keys.length} more` : ''}`
  const name = formatTableName(table.name)
  const lines = [
    ...(gone.count > 0 ? [`${gone.count} of its ${archive.rows} rows are not in ${name} any more: ${some(gone)}`] : []),
    ...(changed.count > 0
      ? [
          `${changed.count} of its ${archive.rows} rows have been changed since in the columns that were redacted, or are others with the same key: ${some(changed)}`,
        ]
      : []),
  ]
  return new RetentionError('RESTORE_CONFLICT', `${archive.name} was not restored:\n${lines.join('\n')}`, {
    hint: [
      ...(changed.count > 0 ? later.map(({ text }) => `${text}. Restore those first.`) : []),
      ...(changed.count > 0
        ? [
            'Use --on-conflict skip to leave rows that have been changed, or --on-conflict overwrite to set them as well.',
          ]
        : ['Use --on-conflict skip to restore the others.']),
      ...(gone.count > 0
        ? ['Rows that another policy has archived come back by its own archives: restore those first.']
        : []),
    ].join('\n'),
  })
}

/** The table may have other values by now that do not go together with the old ones, or another constraint. */
function unfit(archive: FoundArchive, table: RestoreTable, error: unknown): unknown {
  if (!hasCode(error, 'DATABASE_FAILED') || error.hint !== undefined) return error
  const text = `What rows of ${archive.name} held does not fit ${formatTableName(table.name)} as it is now; nothing has been restored: ${error.message}`
  const isForeign = /foreign key/i.test(error.message)
  const hint = isForeign
    ? 'What these rows referred to is not there any more. Put that back first.'
    : 'Another row may have such a value now. Change that, or leave rows out by changing them and --on-conflict skip.'
  return new RetentionError('ROWS_UNFIT', text, { hint, cause: error })
}

/** It is restored once all that it holds is in the table again; what the ledger does not know stays so where nothing was put back. */
function stateOf({ entry, rows }: FoundArchive, found: Compared, left: number): RestoreReport['state'] {
  if (entry === undefined && (left === rows || found.same === rows)) return null
  return left === 0 ? 'restored' : 'archived'
}

function leftFindings({ name, entry, rows }: FoundArchive, found: Compared, { onConflict }: RestoreOrder): Finding[] {
  const { gone, changed, same } = found
  const warn = (text: string): Finding => ({ level: 'warning', text })
  return [
    ...(entry === undefined && same === rows
      ? [warn(`Nothing was restored, and ${name} stays unknown to the ledger: its rows hold what it has`)]
      : []),
    ...(gone.count > 0 ? [warn(`${gone.count} of its rows are not in the table any more`)] : []),
    ...(changed.count > 0 && onConflict === 'skip'
      ? [warn(`${changed.count} of its rows have been changed since, and were left as they are`)]
      : []),
  ]
}

/** Later archives may have what rows held after this one was made. */
async function laterFindings(archive: FoundArchive, db: Db, ledger: Ledger): Promise<Finding[]> {
  const { name, table, redacted } = archive
  const since = archive.entry?.archivedAt ?? archive.manifest?.createdAt
  const span = archive.entry ?? {
    from: archive.manifest?.firstTimestamp ?? '',
    to: archive.manifest?.lastTimestamp ?? '',
  }
  if (since === undefined) return []
  const later = (await ledger.entries(db)).filter(
    (entry) =>
      entry.name !== name &&
      entry.state === 'archived' &&
      entry.table === formatTableName(table) &&
      Object.keys(entry.redacted?.set ?? {}).some((column) => Object.hasOwn(redacted?.set ?? {}, column)) &&
      entry.archivedAt > since &&
      entry.from <= span.to &&
      entry.to >= span.from,
  )
  if (later.length === 0) return []
  const names = later.slice(0, 3).map((entry) => entry.name)
  const more = later.length > names.length ? ` and ${later.length - names.length} more` : ''
  const text = `Rows of those times were redacted again later, into ${names.join(', ')}${more}: what they held last may be there`
  return [
    {
      level: 'warning',
      text,
      hint: 'To have that, restore the later archives first, and this one with --on-conflict skip.',
    },
  ]
}
