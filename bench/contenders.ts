/** Who races: retention, and what people do without it, on the same data. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'

import { due } from './data.ts'
import type { Copy, Kind } from './databases.ts'
import type { Command } from './measure.ts'
import { retention, writeProject } from './project.ts'
import { credentials, type S3Service } from './s3.ts'

/** How archives are stored, where they are not the CSV as it is. */
type Sealed = 'gzip' | 'zstd' | 'zip'

/** A program that a machine may not have. */
export type Program = 'psql' | 'sqlite3'

/** One that is measured. */
export interface Contender {
  readonly name: string
  /**
   * What its time is compared with: the fastest way that there is without any care, or what people really do. And retention
   * with archives that are compressed or sealed, or on S3.
   */
  readonly role: 'retention' | 'floor' | 'everyday' | Sealed | 's3'
  /** The program that it needs. */
  readonly needs?: Program
  /** Races only where this program is absent, in its place. */
  readonly insteadOf?: Program
  /** What is to be done first, which is not measured. */
  readonly first?: (copy: Copy) => Command
  /** @param s3 a service of its own, for what has that role */
  readonly command: (copy: Copy, s3?: S3Service) => Command
}

/** What is raced for, and what shows that the work was done. */
export interface Task {
  readonly name: 'apply' | 'restore'
  /** Which part of the due rows is in the table afterwards. */
  readonly leaves: 'none' | 'all'
  readonly contenders: readonly Contender[]
}

const sealings: Readonly<Record<Sealed, { name: string; archive: Record<string, unknown> }>> = {
  gzip: { name: 'gzip', archive: { compress: 'gzip' } },
  zstd: { name: 'zstd', archive: { compress: 'zstd' } },
  zip: { name: 'AES-256 zip', archive: { encrypt: { zip: { password: { env: 'RETENTION_ZIP_PASSWORD' } } } } },
}

const sealed: readonly Contender[] = (['gzip', 'zstd', 'zip'] as const).map((role) => ({
  name: `retention apply, ${sealings[role].name}`,
  role,
  command: (copy) => {
    writeProject(copy, {}, sealings[role].archive)
    return { ...retention(['apply'], copy), env: { RETENTION_ZIP_PASSWORD: 'bench' } }
  },
}))

const onS3: Contender = {
  name: 'retention apply, S3',
  role: 's3',
  command: (copy, s3) => {
    if (s3 === undefined) throw new Error('no S3 service was started')
    writeProject(copy, {}, { to: s3.address })
    return { ...retention(['apply'], copy), env: credentials, server: s3.process }
  },
}

/** Archiving and deleting the due half; then putting all of it back from one archive, into the table with its indexes. */
export const tasks: Readonly<Record<Kind, readonly Task[]>> = {
  postgres: [
    {
      name: 'apply',
      leaves: 'none',
      contenders: [
        {
          name: 'psql \\copy (delete … returning *)',
          role: 'floor',
          needs: 'psql',
          command: ({ address, folder }) =>
            psql(
              address,
              `\\copy (delete from conversation_log where ${due} returning *) to '${folder}/out.csv' csv header`,
            ),
        },
        {
          name: 'COPY (DELETE … RETURNING *) over the wire',
          role: 'floor',
          insteadOf: 'psql',
          command: ({ address, folder }) => script('raw-copy.ts', 'out', address, `${folder}/out.csv`),
        },
        { name: 'retention apply', role: 'retention', command: apply },
        ...sealed,
        onS3,
        { name: 'the everyday script', role: 'everyday', command: everyday },
      ],
    },
    {
      name: 'restore',
      leaves: 'all',
      contenders: [
        {
          name: 'psql \\copy from',
          role: 'floor',
          needs: 'psql',
          first: archiveAll,
          command: (copy) => psql(copy.address, `\\copy conversation_log from '${archiveOf(copy)}' csv header`),
        },
        {
          name: 'COPY FROM STDIN over the wire',
          role: 'floor',
          insteadOf: 'psql',
          first: archiveAll,
          command: (copy) => script('raw-copy.ts', 'in', copy.address, archiveOf(copy)),
        },
        { name: 'retention restore', role: 'retention', first: archiveAll, command: restore },
      ],
    },
  ],
  sqlite: [
    {
      name: 'apply',
      leaves: 'none',
      contenders: [
        {
          name: 'sqlite3 shell: .mode csv, delete',
          role: 'floor',
          needs: 'sqlite3',
          command: ({ address, folder }) =>
            sqlite3(
              address,
              `.headers on\n.mode csv\n.output ${folder}/out.csv\nselect * from conversation_log where ${due};\n.output stdout\ndelete from conversation_log where ${due};`,
            ),
        },
        { name: 'retention apply', role: 'retention', command: apply },
        ...sealed,
        onS3,
        { name: 'the everyday script', role: 'everyday', command: everyday },
      ],
    },
    {
      name: 'restore',
      leaves: 'all',
      contenders: [
        {
          name: 'sqlite3 shell: .import',
          role: 'floor',
          needs: 'sqlite3',
          first: archiveAll,
          command: (copy) => sqlite3(copy.address, `.import --csv --skip 1 ${archiveOf(copy)} conversation_log`),
        },
        { name: 'retention restore', role: 'retention', first: archiveAll, command: restore },
      ],
    },
  ],
}

/** Whether a program is on this machine. */
export function has(program: Program): boolean {
  return spawnSync(program, ['--version']).status === 0
}

/** A statement or command in psql. */
export function psql(address: string, text: string): Command {
  return { words: ['psql', '-qX', '-v', 'ON_ERROR_STOP=1', address, '-c', text] }
}

/** Lines for the sqlite3 shell. */
export function sqlite3(file: string, lines: string): Command {
  return { words: ['sqlite3', '-bail', file], input: `${lines}\n` }
}

/** `retention apply` with a policy as `init` writes it. */
export function apply(copy: Copy): Command {
  writeProject(copy)
  return retention(['apply'], copy)
}

function archiveAll(copy: Copy): Command {
  writeProject(copy, { batch: 1_000_000, batchBytes: '1GB' })
  return retention(['apply'], copy)
}

function restore(copy: Copy): Command {
  return retention(['restore', archiveOf(copy)], copy)
}

function archiveOf({ folder }: Copy): string {
  const archives = readdirSync(path.join(folder, 'backups')).filter((name) => name.endsWith('.csv'))
  const [archive] = archives
  if (archive === undefined || archives.length > 1) throw new Error(`${archives.length} archives instead of one`)
  return path.join(folder, 'backups', archive)
}

function everyday({ address, folder }: Copy): Command {
  return script('everyday.ts', address, `${folder}/out.csv`)
}

function script(name: string, ...args: readonly string[]): Command {
  // The everyday script holds all rows in memory, more than Node allows by default.
  return { words: [process.execPath, '--max-old-space-size=8192', path.join(import.meta.dirname, name), ...args] }
}
