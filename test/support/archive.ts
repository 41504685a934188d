/** Reads archives from outside, with a CSV reader of the tests' own. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'

/** An archive's content. */
export interface ReadArchive {
  readonly header: (string | null)[]
  /** Fields as text; null where the field is empty and has no quotes. */
  readonly rows: (string | null)[][]
  readonly sha256: string
}

/** Reads an archive of a project. */
export function readArchive(project: string, name: string, folder = 'backups'): ReadArchive {
  const bytes = readFileSync(path.join(project, folder, name))
  const [header = [], ...rows] = readCsv(bytes.toString('utf8'))
  return { header, rows, sha256: createHash('sha256').update(bytes).digest('hex') }
}

/** RFC 4180, character by character; tells the empty text from NULL. */
export function readCsv(text: string): (string | null)[][] {
  const records: (string | null)[][] = []
  let record: (string | null)[] = []
  let field = ''
  let quoted = false
  let inside = false
  const endField = (): void => {
    record.push(field === '' && !quoted ? null : field)
    field = ''
    quoted = false
  }
  const characters = text.startsWith('\ufeff') ? text.slice(1) : text
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? ''
    if (inside) {
      if (character !== '"') field += character
      else if (characters[at + 1] === '"') {
        field += '"'
        at += 1
      } else inside = false
    } else if (character === '"') {
      inside = true
      quoted = true
    } else if (character === ',') {
      endField()
    } else if (character === '\n') {
      endField()
      records.push(record)
      record = []
    } else {
      field += character
    }
  }
  if (inside || field !== '' || record.length > 0) throw new Error('the CSV ends in the middle of a record')
  return records
}
