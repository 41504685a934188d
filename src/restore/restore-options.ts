/** What `restore` can be told of columns and rows, checked and in the form that a plan takes. */
import type { Selection } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { Reshaping } from '../reshape.ts'

/** A row's key: its value, or of a key of several columns their values in order. */
export type RestoreKey = string | number | bigint | readonly (string | number | bigint)[]

/** What to do with columns and rows. */
export interface ReshapeOptions {
  /** Columns of the archive that have another name in the table now: `{ old: 'new' }`. */
  map?: Readonly<Record<string, string>>
  /** Columns of the archive whose values stay in it; the archive then stays archived, as the only place that has them. */
  drop?: readonly string[]
  /** Columns of the table, and the value that all restored rows get in them: as text, or null for NULL. */
  set?: Readonly<Record<string, string | null>>
  /**
   * Restores only the archive's rows that this SQL predicate is true for, over its columns as they were named and typed
   * when they were archived. The archive stays archived.
   */
  where?: string
  /** Restores only the rows with these keys. The archive stays archived. */
  keys?: readonly RestoreKey[]
}

/** @throws RetentionError `USAGE` with all that is wrong */
export function reshapeOptions({ map, drop, set, where, keys }: ReshapeOptions): {
  readonly reshaping: Reshaping
  readonly selection: Selection
} {
  const isText = (value: unknown): value is string => typeof value === 'string' && value !== '' && !value.includes('\0')
  const isKeyPart = (value: unknown): boolean =>
    (typeof value === 'string' && !value.includes('\0')) || typeof value === 'bigint' || Number.isFinite(value)
  const isKey = (key: RestoreKey): boolean =>
    Array.isArray(key) ? key.length > 0 && key.every(isKeyPart) : isKeyPart(key)
  const mistakes: string[] = []
  const check = (isRight: boolean, name: string, value: unknown, allowed: string): void => {
    if (!isRight) mistakes.push(`"${name}" is ${JSON.stringify(value)}; allowed: ${allowed}`)
  }
  for (const [column, target] of Object.entries(map ?? {}))
    check(isText(column) && isText(target), `map`, { [column]: target }, "a column of the archive, and the table's")
  for (const column of drop ?? []) check(isText(column), 'drop', column, 'a column of the archive')
  for (const [column, value] of Object.entries(set ?? {})) {
    const isRight = isText(column) && (value === null || value === '' || isText(value))
    check(isRight, 'set', { [column]: value }, 'a column of the table, and a text or null')
  }
  if (where !== undefined) check(isText(where) && where.trim() !== '', 'where', where, 'an SQL predicate')
  if (keys !== undefined) check(keys.length > 0, 'keys', keys, 'at least one key')
  for (const key of keys ?? []) check(isKey(key), 'keys', key, 'text, numbers, or a list of them')
  if (mistakes.length > 0) throw new RetentionError('USAGE', mistakes.join('\n'))
  return {
    reshaping: {
      map: new Map(Object.entries(map ?? {})),
      drop: drop ?? [],
      set: new Map(Object.entries(set ?? {})),
    },
    selection: {
      where,
      keys: keys?.map((key) => (Array.isArray(key) ? key.map(String) : [String(key)])),
    },
  }
}
