/** Which views there are, by the ledger alone, and which files of archives each has. */
import { plainName } from '../archive/encoding.ts'
import { parseTableName } from '../config/fields.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'

/** A file of an archive, as a part of a view. */
export interface ViewPart {
  readonly view: string
  readonly entry: LedgerEntry
  /** The name of its CSV. */
  readonly csv: string
  /** Its columns. */
  readonly columns: readonly string[]
  /** Whether its rows are of the policy's own table, and so have the times that the ledger knows. */
  readonly isOwn: boolean
}

/**
 * The views over some archives: one for each policy, by its name, and one for each table whose rows went along,
 * `<policy>_<table>`. References that were set to something else are in none: their rows have stayed.
 */
export function viewParts(entries: readonly LedgerEntry[]): ViewPart[] {
  const names = new ViewNames()
  for (const { policy } of entries) names.of(policy, [policy])
  return entries.flatMap((entry) => [
    { view: names.of(entry.policy, []), entry, csv: entry.name, columns: entry.columns, isOwn: true },
    ...entry.files
      .filter(({ link }) => link === undefined)
      .map(({ path, table, columns }) => {
        const { schema, name } = parseTableName(table) ?? { schema: undefined, name: table }
        const wanted = [
          `${entry.policy}_${name}`,
          ...(schema === undefined ? [] : [`${entry.policy}_${schema}_${name}`]),
        ]
        return {
          view: names.of(`${entry.policy} ${table}`, wanted),
          entry,
          csv: plainName(path),
          columns,
          isOwn: false,
        }
      }),
  ])
}

/** Gives each view a name of its own; to DuckDB, letter case makes no difference. */
class ViewNames {
  readonly #names = new Map<string, string>()
  readonly #taken = new Set<string>()

  /** The name of what goes by a key: the one that it has, or the first of those wanted that is free. */
  of(key: string, wanted: readonly string[]): string {
    const known = this.#names.get(key)
    if (known !== undefined) return known
    let name = wanted.find((one) => !this.#taken.has(one.toLowerCase())) ?? `${wanted[0] ?? key}_`
    while (this.#taken.has(name.toLowerCase())) name += '_'
    this.#names.set(key, name)
    this.#taken.add(name.toLowerCase())
    return name
  }
}
