/** The manifest: the small JSON beside an archive that says what it holds; alone it is enough to restore. */
import * as v from 'valibot'

import { messageOf, RetentionError } from '../errors.ts'
import { encodings } from './encoding.ts'

/** The version of the manifest's form that this tool writes. */
export const manifestFormat = 1

const column = v.object({
  name: v.string(),
  type: v.string(),
  nullable: v.boolean(),
  /** Its collation, where that is not its type's own, or on SQLite BINARY: predicates over its values ask by it. */
  collation: v.optional(v.string()),
  /** On SQLite, that predicates may call it `rowid` as well. */
  rowid: v.optional(v.literal(true)),
})

const table = v.object({ schema: v.optional(v.string()), name: v.string() })

const file = v.object({
  /** The table the rows are from. */
  table,
  /** The CSV's name, beside the manifest. */
  file: v.string(),
  /** The CSV's columns, in its order, with the database's types. */
  columns: v.pipe(v.array(column), v.minLength(1)),
  /** The columns that tell rows apart; empty where the table has no key. */
  key: v.array(v.string()),
  /** The statements that make the table. */
  ddl: v.array(v.string()),
  /** The partition that the rows were, and that was dropped with them. */
  partition: v.optional(
    v.object({
      table,
      /** The table that it was attached to, and with what bounds. */
      of: table,
      bounds: v.string(),
      /** Its rows had times from one up to the other; null where it had no such end. */
      from: v.nullable(v.string()),
      to: v.nullable(v.string()),
      /** The statements that make it, before it is attached; and those that give it its owner and grants. */
      ddl: v.array(v.string()),
      rights: v.array(v.string()),
    }),
  ),
  rows: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /**
   * Where it holds no rows that went, but what columns of rows held before they were overwritten: by the columns of `key`,
   * which rows; and what the columns were set to.
   */
  redacted: v.optional(
    v.object({
      key: v.pipe(v.array(v.string()), v.minLength(1)),
      set: v.record(v.string(), v.nullable(v.union([v.string(), v.number(), v.boolean()]))),
    }),
  ),
  /**
   * Where it holds no rows that went, but references that their foreign key set to something else: by the columns of `key`,
   * which rows; the other columns as they were, of which some were set.
   */
  link: v.optional(
    v.object({
      key: v.array(v.string()),
      columns: v.array(v.string()),
      sets: v.array(v.string()),
      to: v.picklist(['null', 'default']),
    }),
  ),
  /** With `children`: what its rows refer to in other files of the archive, or in itself, by foreign keys. */
  references: v.optional(v.array(v.object({ columns: v.array(v.string()), table, to: v.array(v.string()) }))),
  /** The CSV itself. */
  csv: v.object({ bytes: v.number(), sha256: v.string() }),
  /**
   * The CSV as it is stored: the same, or how it is compressed and sealed. The file's name then ends accordingly, in `.gz`
   * say.
   */
  stored: v.object({ bytes: v.number(), sha256: v.string(), encoding: v.optional(v.picklist(encodings)) }),
})

const schema = v.object({
  format: v.literal(manifestFormat),
  /** Which database the archive is from. */
  database: v.object({ kind: v.picklist(['postgres', 'sqlite']), version: v.string() }),
  policy: v.string(),
  /** The column that aged the rows. */
  column: v.string(),
  /** Rows before this instant were due. */
  cutoff: v.string(),
  /** No archived row's timestamp lies outside these two. */
  firstTimestamp: v.string(),
  lastTimestamp: v.string(),
  /**
   * One CSV for each table: the policy's own, then those whose rows went along, each after the ones that its rows refer to,
   * as far as there is such an order; then references.
   */
  files: v.pipe(v.array(file), v.minLength(1)),
  host: v.string(),
  run: v.string(),
  toolVersion: v.string(),
  createdAt: v.string(),
})

/** What a manifest says. */
export type Manifest = v.InferOutput<typeof schema>

/** A manifest as it is stored. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`
}

/**
 * Reads a manifest.
 * @param name what to call it in messages
 * @throws RetentionError `MANIFEST_INVALID`
 */
export function parseManifest(text: string, name: string): Manifest {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new RetentionError('MANIFEST_INVALID', `${name} is not JSON: ${messageOf(error)}`, { cause: error })
  }
  const format = typeof json === 'object' && json !== null && 'format' in json ? json.format : undefined
  if (typeof format === 'number' && format > manifestFormat) {
    throw new RetentionError(
      'MANIFEST_INVALID',
      `${name} has format ${format}; this version reads up to ${manifestFormat}`,
      {
        hint: 'Upgrade retention on this machine.',
      },
    )
  }
  const result = v.safeParse(schema, json)
  if (result.success) return result.output
  const [issue] = result.issues
  throw new RetentionError(
    'MANIFEST_INVALID',
    `${name} is no manifest: ${v.getDotPath(issue) ?? 'it'}: ${issue.message}`,
  )
}
