/** Foreign keys that make deleting a table's rows harmful or impossible. */
import { sql } from 'kysely'

import type { Db, Finding, Sql } from '../database.ts'
import type { SchemaTable } from './table.ts'

/** A foreign key that refers to a table. */
export interface ForeignKey {
  readonly table: string
  /** SQLite's words: CASCADE, SET NULL, SET DEFAULT, RESTRICT, NO ACTION. */
  readonly action: string
  readonly columns: readonly string[]
  readonly referenced: readonly string[]
}

/**
 * What foreign keys stand against deleting rows of a table. Keys that change other tables are refused whatever their
 * rows are now: a row inserted a moment later would be lost in silence. Keys that only block are refused when a row
 * hangs on a due one; a later one makes the step fail, and nothing is lost.
 * @param due which rows would go; undefined asks about the first kind only, and reads no rows
 */
export async function foreignKeyFindings(
  db: Db,
  table: SchemaTable,
  due: Sql<boolean> | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const key of await referencingKeys(db, table)) findings.push(...(await keyFindings(db, table, key, due)))
  return findings
}

/** How messages call a key: SQLite keeps no names of them. */
export function keyName({ columns }: ForeignKey): string {
  return `its foreign key (${columns.join(', ')})`
}

/** The same of one key. */
export async function keyFindings(
  db: Db,
  table: SchemaTable,
  key: ForeignKey,
  due: Sql<boolean> | undefined,
): Promise<Finding[]> {
  const action = { CASCADE: 'deletes', 'SET NULL': 'sets to NULL', 'SET DEFAULT': 'sets to their default' }[key.action]
  if (action !== undefined) {
    const text = `Deleting rows of "${table.name.name}" ${action} rows of "${key.table}", unarchived, by ${keyName(key)}`
    const hint = `Say "children" in the policy to archive them along; or make it ON DELETE NO ACTION, and give "${key.table}" a policy of its own.`
    return [{ level: 'refusal', text, hint }]
  }
  if (due === undefined || !(await hasRowOnDue(db, table, key, due))) return []
  const text = `Rows of "${key.table}" refer to due rows of "${table.name.name}" by ${keyName(key)}, which blocks deleting them`
  const hint = `Say "children" in the policy to archive them along; or give "${key.table}" a policy that archives its rows first, or leave such rows out with "where".`
  return [{ level: 'refusal', text, hint }]
}

export async function referencingKeys(db: Db, table: SchemaTable): Promise<ForeignKey[]> {
  const { rows } = await sql<{ table: string; id: bigint; action: string; from: string; to: string | null }>`
    select s.name as "table", k.id, k.on_delete as action, k."from", k."to"
    from sqlite_schema as s, pragma_foreign_key_list(s.name) as k
    where s.type = 'table' and lower(k."table") = lower(${table.name.name})
    order by s.name, k.id, k.seq
  `.execute(db)
  return [...Map.groupBy(rows, (row) => `${row.id} ${row.table}`).values()].flatMap((parts) => {
    const [first] = parts
    if (first === undefined) return []
    // Without named columns a foreign key means the primary key.
    const referenced = parts.map((part, index) => part.to ?? table.primaryKey[index] ?? '')
    return [{ table: first.table, action: first.action, columns: parts.map((part) => part.from), referenced }]
  })
}

async function hasRowOnDue(db: Db, table: SchemaTable, key: ForeignKey, due: Sql<boolean>): Promise<boolean> {
  const columns = sql.join(key.columns.map((name) => sql.id('retention_child', name)))
  const referenced = sql.join(key.referenced.map((name) => sql.id(name)))
  const { rows } = await sql`
    select 1 from ${sql.id(key.table)} as retention_child
    where (${columns}) in (select ${referenced} from ${table.sql} where ${due})
    limit 1
  `.execute(db)
  return rows.length > 0
}
