/** Collects the rows that a table's constraints keep out, as they are tried one by one, and says which and why. */
import { sql } from 'kysely'

import { codeOf, messageOf, type RetentionError } from '../../errors.ts'
import type { Db, Sql } from '../database.ts'
import { rowsUnfit, shownCharacters, shownRow, shownRows, type Unfit } from '../unfit.ts'
import type { SchemaTable } from './table.ts'

/** https://www.sqlite.org/rescode.html */
const broken = /^SQLITE_(MISMATCH$|CONSTRAINT_(CHECK|DATATYPE|FOREIGNKEY|NOTNULL|PRIMARYKEY|ROWID|UNIQUE)$)/

/** Whether an error says that a row breaks a constraint of its table. */
export function isBroken(error: unknown): error is RetentionError {
  return error instanceof Error && broken.test(codeOf(error.cause) ?? '')
}

/** The staged rows as a query sees them. */
interface Incoming {
  /** They, as `s`, without those that are skipped. */
  readonly rows: Sql
  /** A column of theirs, by its name in the table; undefined where they have none. */
  cell(name: string): Sql | undefined
}

/** Rows that were refused, by what SQLite said. */
export class BrokenRows {
  readonly #refused = new Map<string, { count: number; first: bigint[]; isForeign: boolean }>()

  /** @throws whatever says something else than that a constraint is broken */
  note(n: bigint, error: unknown): void {
    if (!isBroken(error)) throw error
    const what = messageOf(error).replace(/^SQLite: /, '')
    const isForeign = codeOf(error.cause) === 'SQLITE_CONSTRAINT_FOREIGNKEY'
    const known = this.#refused.get(what) ?? { count: 0, first: [], isForeign }
    this.#refused.set(what, known)
    known.count += 1
    if (known.first.length < shownRows) known.first.push(n)
  }

  /** What was refused, and what a commit would be refused for; undefined where all is well. */
  async error(db: Db, table: SchemaTable, incoming: Incoming): Promise<RetentionError | undefined> {
    const key = table.key.every((name) => incoming.cell(name) !== undefined) ? table.key : []
    const parts = key.map((name) => sql`${`${name} = `} || coalesce(cast(${incoming.cell(name)} as text), 'NULL')`)
    const keyText = key.length === 0 ? sql`'row ' || s.n` : sql.join(parts, sql` || ', ' || `)
    const parents = await missingParents(db, table, incoming, keyText)
    const reasons: Unfit[] = [...parents]
    for (const [what, { count, first, isForeign }] of this.#refused) {
      // SQLite does not say which of several foreign keys it was; looking has told.
      if (isForeign && parents.length > 0) continue
      const { rows } = await sql<{ key: string }>`
        select ${keyText} as key from ${incoming.rows} where s.n in (${sql.join(first)}) order by s.n
      `.execute(db)
      reasons.push({ what, count, rows: rows.map((row) => shownRow(row.key)) })
    }
    return reasons.length === 0 ? undefined : rowsUnfit(table.name, reasons)
  }
}

/** Foreign keys, where they are enforced, to rows that are neither there nor come with these. */
async function missingParents(db: Db, table: SchemaTable, incoming: Incoming, keyText: Sql): Promise<Unfit[]> {
  const { rows: parts } = await sql<{ id: bigint; parent: string; from: string; to: string | null; place: bigint }>`
    select k.id, k."table" as parent, k."from", k."to", k.seq as place
    from pragma_foreign_key_list(${table.name.name}) as k, pragma_foreign_keys as enforced, pragma_defer_foreign_keys as deferred
    -- Where they are put off to the commit, parents may be yet to come.
    where enforced.foreign_keys = 1 and deferred.defer_foreign_keys = 0 order by k.id, k.seq
  `.execute(db)
  const reasons: Unfit[] = []
  for (const key of Map.groupBy(parts, ({ id }) => id).values()) {
    const parent = key[0]?.parent ?? ''
    const columns = key.map(({ from }) => incoming.cell(from))
    // A parent that is not there at all is SQLite's to tell.
    const referenced = await referencedColumns(db, parent, key)
    if (referenced === undefined || !columns.every((column) => column !== undefined)) continue
    const isParent = sql.join(
      // With `+` it has no affinity of its own: SQLite compares by the parent's alone.
      columns.map((column, index) => sql`p.${sql.id(referenced[index] ?? '')} = +${column}`),
      sql` and `,
    )
    const isNull = sql.join(
      columns.map((column) => sql`${column} is null`),
      sql` or `,
    )
    const value = sql.join(
      columns.map((column) => sql`coalesce(cast(${column} as text), 'NULL')`),
      sql` || ', ' || `,
    )
    const { rows } = await sql<{ key: string; value: string; count: bigint }>`
      select ${keyText} as key, substr(${value}, 1, ${shownCharacters + 1}) as value, count(*) over () as count
      from ${incoming.rows}
      where not (${isNull} or exists (select 1 from ${sql.id('main', parent)} as p where ${isParent}))
      order by s.n limit ${shownRows}
    `.execute(db)
    const [first] = rows
    if (first === undefined) continue
    reasons.push({
      what: `foreign key (${key.map(({ from }) => from).join(', ')}), which is not in ${parent} (${referenced.join(', ')})`,
      count: Number(first.count),
      rows: rows.map((row) => shownRow(row.key, row.value)),
    })
  }
  return reasons
}

/** The parent's columns of a foreign key: without names it means the primary key. */
async function referencedColumns(
  db: Db,
  parent: string,
  key: readonly { readonly to: string | null }[],
): Promise<string[] | undefined> {
  const { rows } = await sql<{ name: string }>`
    select name from pragma_table_info(${parent}, 'main') where pk > 0 order by pk
  `.execute(db)
  const names = key.map(({ to }, index) => to ?? rows[index]?.name)
  return names.every((name) => name !== undefined) ? names : undefined
}
