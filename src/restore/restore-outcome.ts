/** What becomes of an archive whose rows have been put back: restored, or still the only place that has something. */
import type { TableName } from '../config/fields.ts'
import type { Finding, OnConflict } from '../database/database.ts'
import type { FoundArchive } from '../stored/find-archive.ts'
import type { ArchiveState } from '../ledger/ledger.ts'
import type { Placed } from './placing.ts'
import type { Shape } from '../reshape.ts'

/** What the ledger is to say of an archive, and what people should know. */
export interface Outcome {
  /** Null where the ledger does not know it and has no reason to. */
  readonly state: ArchiveState | null
  readonly warnings: readonly Finding[]
}

/** An archive is restored once all that it holds is in its table again: each row, each column, as it was written. */
export function outcomeOf(
  archive: FoundArchive,
  shape: Shape,
  placed: Placed,
  { into, onConflict }: { readonly into: TableName | undefined; readonly onConflict: OnConflict },
): Outcome {
  const { rows, conflicts, selected, missing, rewritten } = placed
  const warn = (text: string, hint?: string): Finding => ({
    level: 'warning',
    text,
    ...(hint === undefined ? {} : { hint }),
  })
  const notes =
    missing.length === 0
      ? []
      : [warn(`${archive.name} has no row with ${missing.length} of the keys: ${first(missing)}`)]
  if (into !== undefined) return { state: archive.entry?.state ?? null, warnings: notes }
  const same = onConflict === 'skip' ? conflicts.same : 0
  const restored = rows.rows
  if (restored === 0 && archive.entry === undefined) {
    const why =
      selected === 0
        ? 'none of its rows was asked for'
        : same === selected
          ? 'its rows are in the table'
          : 'its keys are in use by other rows'
    const text = `Nothing was restored, and ${archive.name} stays unknown to the ledger: ${why}`
    return { state: null, warnings: [...notes, warn(text)] }
  }
  const dropped = shape.columns.flatMap(({ change, archive: name }) =>
    change === 'dropped' && name !== null ? [name] : [],
  )
  const [skipped, left] = [selected - restored - same, archive.rows - selected]
  const reasons = [
    ...(skipped > 0 ? [`${skipped} of its rows are nowhere else as they were then`] : []),
    ...(left > 0 ? [`${left} of its ${archive.rows} rows were not asked for`] : []),
    ...(dropped.length > 0 ? [`the values of ${dropped.join(', ')} are nowhere else`] : []),
    ...(rewritten.length > 0 ? [`the text of ${rewritten.join(', ')} is nowhere else as it was written then`] : []),
  ]
  if (reasons.length === 0) return { state: 'restored', warnings: notes }
  const later = left > 0 ? 'To restore the others later, use --on-conflict skip.' : undefined
  return {
    state: 'archived',
    warnings: [...notes, warn(`${archive.name} stays archived: ${reasons.join('; ')}`, later)],
  }
}

function first(keys: readonly string[]): string {
  return `${keys.slice(0, 5).join('; ')}${keys.length > 5 ? '; …' : ''}`
}
