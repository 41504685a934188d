/** Who is measured: retention, and what people do without it, on the same data. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'

import { cutoff } from './data.ts'
import type { Command } from './measure.ts'

/** A fresh copy of the data, and a folder of its own to write to. */
export interface Copy {
  /** `postgres://…`, or a SQLite file. */
  readonly address: string
  readonly folder: string
}

/** One that is measured. */
export interface Contender {
  readonly name: string
  /** The program that it needs, which a machine may not have. */
  readonly needs?: string
  /** What is to be done first, which is not measured. */
  readonly first?: (copy: Copy) => readonly Command[]
  readonly command: (copy: Copy) => Command
  /** How many due rows are left in the table: what shows that the work was done. */
  readonly leaves: 'none' | 'all'
}

const root = path.join(import.meta.dirname, '..')
const bin = path.join(root, 'dist/bin.js')
const due = `created_at < '${cutoff}'`
const archive = 'conversation_log_backup_20260101.csv'

/** A project as `init` makes one, on a copy. */
function project({ address, folder }: Copy, policy: Record<string, unknown> = {}): void {
  const database = address.startsWith('postgres') ? address : `sqlite:${address}`
  writeFileSync(
    path.join(folder, 'retention.config.json'),
    JSON.stringify({ database, archive: { to: './backups', durable: true } }),
  )
  writeFileSync(
    path.join(folder, 'policies/conversation_log.json'),
    JSON.stringify({ table: 'conversation_log', column: 'created_at', days: 30, ...policy }),
  )
}

function retention(args: readonly string[], copy: Copy): Command {
  return { words: [process.execPath, bin, ...args], cwd: copy.folder }
}

const apply = ['apply', '--before', cutoff.slice(0, 10)]

const retentionApply: Contender = {
  name: 'retention apply',
  leaves: 'none',
  command: (copy) => (project(copy), retention(apply, copy)),
}

const everydayScript: Contender = {
  name: 'the everyday script',
  leaves: 'none',
  command: ({ address, folder }) => ({
    words: [
      process.execPath,
      '--max-old-space-size=8192',
      path.join(root, 'bench/everyday.ts'),
      address,
      `${folder}/out.csv`,
    ],
  }),
}

/** All due rows in one archive, to be put back. */
const archiveFirst = (copy: Copy): readonly Command[] => (project(copy, { batch: 1_000_000 }), [retention(apply, copy)])

const retentionRestore: Contender = {
  name: 'retention restore',
  leaves: 'all',
  first: archiveFirst,
  command: (copy) => retention(['restore', archive, '--hold', 'none'], copy),
}

/** Archiving and deleting the due half. */
export const applying: Readonly<Record<'postgres' | 'sqlite', readonly Contender[]>> = {
  postgres: [
    {
      name: 'psql \\copy (delete … returning *)',
      needs: 'psql',
      leaves: 'none',
      command: ({ address, folder }) => ({
        words: [
          'psql',
          '-qX',
          '-v',
          'ON_ERROR_STOP=1',
          address,
          '-c',
          `\\copy (delete from conversation_log where ${due} returning *) to '${folder}/out.csv' csv header`,
        ],
      }),
    },
    retentionApply,
    everydayScript,
  ],
  sqlite: [
    {
      name: 'sqlite3 shell: .mode csv, delete',
      needs: 'sqlite3',
      leaves: 'none',
      command: ({ address, folder }) => ({
        words: ['sqlite3', '-bail', address],
        input: `.headers on\n.mode csv\n.output ${folder}/out.csv\nselect * from conversation_log where ${due};\n.output stdout\ndelete from conversation_log where ${due};\n`,
      }),
    },
    retentionApply,
    everydayScript,
  ],
}

/** Putting one archive of all due rows back, into the table with its indexes. */
export const restoring: typeof applying = {
  postgres: [
    {
      name: 'psql \\copy from',
      needs: 'psql',
      leaves: 'all',
      first: archiveFirst,
      command: ({ address, folder }) => ({
        words: [
          'psql',
          '-qX',
          '-v',
          'ON_ERROR_STOP=1',
          address,
          '-c',
          `\\copy conversation_log from '${folder}/backups/${archive}' csv header`,
        ],
      }),
    },
    retentionRestore,
  ],
  sqlite: [
    {
      name: 'sqlite3 shell: .import',
      needs: 'sqlite3',
      leaves: 'all',
      first: archiveFirst,
      command: ({ address, folder }) => ({
        words: ['sqlite3', '-bail', address],
        input: `.import --csv --skip 1 ${folder}/backups/${archive} conversation_log\n`,
      }),
    },
    retentionRestore,
  ],
}
