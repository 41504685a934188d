/**
 * Judges from outside, with SQL and a CSV reader of the tests' own and none of the project's code, whether every row is
 * where it must be: in its table, or in an archive that the ledger knows and whose bytes are those it recorded.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'

import type { TestDatabase } from './database.ts'

/** A row as a text that tells any two different rows apart: its values in the order of their columns' names. */
export type RowText = string

/** What the ledger says of an archive. */
interface Entry {
  readonly name: string
  readonly state: string
  /** Where its file is. */
  readonly location: string
  readonly sha256: string
  readonly rows: number
  /** Rows of other tables that went along. */
  readonly files: readonly { path: string; table: string; rows: number; sha256: string }[]
}

/** A field of a CSV: its text, and whether it stood in quotes. */
interface Field {
  readonly text: string
  readonly quoted: boolean
}

/** A table's rows. */
export async function tableRows(db: TestDatabase, table: string): Promise<RowText[]> {
  const query =
    db.kind === 'sqlite'
      ? `select name from pragma_table_xinfo('${table}') where hidden <> 2 and hidden <> 3`
      : `select attname from pg_attribute where attrelid = '${table}'::regclass and attnum > 0 and not attisdropped and attgenerated = ''`
  const columns = (await db.rows(query)).map(([name]) => String(name)).toSorted()
  const quoted = columns.map((name) => `"${name}"`)
  const cells = quoted.map((name) =>
    db.kind === 'sqlite'
      ? // As the README says that archives write them: text in quotes, and nothing else.
        `case typeof(${name}) when 'null' then 'n' when 'text' then 't' || ${name} when 'blob' then 'v\\x' || lower(hex(${name})) else 'v' || ${name} end`
      : `coalesce('v' || ${name}::text, 'n')`,
  )
  if (db.kind === 'postgres') await db.run("set timezone = 'UTC'; set datestyle = 'ISO'; set extra_float_digits = 1")
  const rows = await db.rows(`select ${cells.join(', ')} from "${table}"`)
  return rows.map((row) => rowText(columns, row.map(String)))
}

/** The rows of an archive. */
function archiveRows(kind: TestDatabase['kind'], bytes: Buffer): RowText[] {
  const [header = [], ...records] = readRecords(bytes)
  const names = header.map(({ text }) => text)
  const order = names.map((_, index) => index).toSorted((a, b) => ((names[a] ?? '') < (names[b] ?? '') ? -1 : 1))
  const columns = order.map((index) => names[index] ?? '')
  return records.map((record) => {
    if (record.length !== names.length) throw new Error(`a record of ${record.length} fields under ${names.length}`)
    return rowText(
      columns,
      order.map((index) => cellText(kind, record[index] ?? { text: '', quoted: false })),
    )
  })
}

/** What the judge found. */
export interface Verdict {
  /** Rows looked at. */
  readonly rows: number
  readonly archives: number
}

/**
 * Throws unless each of the original rows is in exactly one place, and no other row is anywhere.
 * @param folder where the archives are
 */
export async function judge(
  db: TestDatabase,
  table: string,
  folder: string,
  original: readonly RowText[],
): Promise<Verdict> {
  const entries = await ledgerEntries(db)
  const archived = entries.filter(({ state }) => state === 'archived')
  const places = [...(await tableRows(db, table))]
  for (const entry of archived) {
    if (!existsSync(path.join(folder, `${entry.name}.manifest.json`))) throw new Error(`${entry.name} has no manifest`)
    // Not as arguments of one call: an archive may have more rows than a call may have arguments.
    for (const row of fileRows(db.kind, folder, entry.name, entry.sha256, entry.rows)) places.push(row)
  }
  compareRows(places, original)
  return { rows: places.length, archives: archived.length }
}

/** The same for a table whose rows went along with another's. */
export async function judgeChild(
  db: TestDatabase,
  table: string,
  folder: string,
  original: readonly RowText[],
): Promise<void> {
  const places = [...(await tableRows(db, table))]
  for (const { state, files } of await ledgerEntries(db)) {
    for (const file of files) {
      if (state !== 'archived' || file.table.replace('public.', '') !== table) continue
      for (const row of fileRows(db.kind, folder, file.path, file.sha256, file.rows)) places.push(row)
    }
  }
  compareRows(places, original)
}

/**
 * The same for a table whose rows stay, with columns overwritten: what a row held is in the table, or in exactly one archive,
 * and then the table has what the columns were set to.
 * @param set the columns, each as `tableRows` writes what it was set to
 */
export async function judgeRedacted(
  db: TestDatabase,
  table: string,
  folder: string,
  original: readonly RowText[],
  set: Readonly<Record<string, string>>,
): Promise<Verdict> {
  const archived = (await ledgerEntries(db)).filter(({ state }) => state === 'archived')
  const held = new Map<string, Map<string, string>>()
  for (const entry of archived) {
    if (!existsSync(path.join(folder, `${entry.name}.manifest.json`))) throw new Error(`${entry.name} has no manifest`)
    for (const row of fileRows(db.kind, folder, entry.name, entry.sha256, entry.rows)) {
      const cells = cellsOf(row)
      const id = cells.get('id') ?? ''
      if (held.has(id)) throw new Error(`what row ${id} held is in two archives`)
      held.set(id, cells)
    }
  }
  const rows = (await tableRows(db, table)).map((row) => {
    const cells = cellsOf(row)
    const old = held.get(cells.get('id') ?? '')
    if (old === undefined) return row
    for (const [name, value] of Object.entries(set)) {
      if (cells.get(name) !== value)
        throw new Error(`${name} of row ${cells.get('id')} is archived, and not overwritten`)
    }
    return JSON.stringify([...cells].map(([name, value]) => [name, old.get(name) ?? value]))
  })
  compareRows(rows, original)
  return { rows: rows.length, archives: archived.length }
}

function cellsOf(row: RowText): Map<string, string> {
  return new Map(JSON.parse(row) as [string, string][])
}

/** The rows of a stored file, whose CSV must be what was recorded of it. It may be compressed. */
export function fileRows(
  kind: TestDatabase['kind'],
  folder: string,
  name: string,
  recorded: string,
  count: number,
): RowText[] {
  const file = [name, `${name}.gz`, `${name}.zst`].find((one) => existsSync(path.join(folder, one)))
  if (file === undefined) throw new Error(`lost: ${name} is in the ledger, and its file is not there`)
  const stored = readFileSync(path.join(folder, file))
  const bytes = file.endsWith('.gz') ? gunzipSync(stored) : file.endsWith('.zst') ? zstdDecompressSync(stored) : stored
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  if (sha256 !== recorded) throw new Error(`lost: ${name} has other bytes than the ledger recorded`)
  const rows = archiveRows(kind, bytes)
  if (rows.length !== count) throw new Error(`${name} has ${rows.length} rows, and the ledger ${count}`)
  return rows
}

/** Throws unless two lists hold the same rows, each as often. */
export function compareRows(actual: readonly RowText[], expected: readonly RowText[]): void {
  const counts = new Map<RowText, number>()
  for (const row of expected) counts.set(row, (counts.get(row) ?? 0) - 1)
  for (const row of actual) counts.set(row, (counts.get(row) ?? 0) + 1)
  const wrong = [...counts].filter(([, count]) => count !== 0)
  if (wrong.length === 0) return
  const lost = wrong.filter(([, count]) => count < 0)
  const twice = wrong.filter(([, count]) => count > 0)
  throw new Error(
    `${lost.length} rows are in no place, ${twice.length} in too many or unknown: ${JSON.stringify(wrong.slice(0, 3))}`,
  )
}

/** What the ledger says; nothing where there is none yet. */
export async function ledgerEntries(db: TestDatabase): Promise<Entry[]> {
  const exists = await db.value(
    db.kind === 'sqlite'
      ? "select count(*) from sqlite_schema where name = 'retention_ledger'"
      : "select count(*) from pg_class where relname = 'retention_ledger'",
  )
  if (Number(exists) === 0) return []
  const rows = await db.rows('select name, state, location, sha256, rows, files from retention_ledger')
  return rows.map(([name, state, location, sha256, count, files]) => ({
    name: String(name),
    state: String(state),
    location: String(location),
    sha256: String(sha256),
    rows: Number(count),
    files: JSON.parse(String(files)) as Entry['files'],
  }))
}

function rowText(columns: readonly string[], cells: readonly string[]): RowText {
  return JSON.stringify(columns.map((name, index) => [name, cells[index]]))
}

function cellText(kind: TestDatabase['kind'], { text, quoted }: Field): string {
  if (text === '' && !quoted) return 'n'
  return `${kind === 'sqlite' && quoted ? 't' : 'v'}${text}`
}

/** RFC 4180, character by character. */
function readRecords(bytes: Buffer): Field[][] {
  const text = bytes.toString('utf8').replace(/^\ufeff/, '')
  const records: Field[][] = []
  let record: Field[] = []
  let at = 0
  while (at < text.length) {
    let field = ''
    const quoted = text[at] === '"'
    if (quoted) {
      for (at += 1; ; at += 1) {
        const end = text.indexOf('"', at)
        if (end === -1) throw new Error('a quote is not closed')
        field += text.slice(at, end)
        at = end + 1
        if (text[at] !== '"') break
        field += '"'
      }
    } else {
      const end = /[,\n]/g
      end.lastIndex = at
      const stop = end.exec(text)?.index ?? text.length
      field = text.slice(at, stop)
      at = stop
    }
    record.push({ text: field, quoted })
    const next = text[at]
    at += 1
    if (next === ',') continue
    if (next !== '\n') throw new Error('the CSV ends in the middle of a record')
    records.push(record)
    record = []
  }
  if (record.length > 0) throw new Error('the CSV ends in the middle of a record')
  return records
}
