/** `init`: looks at a database and writes a first config and policy. Never overwrites anything. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'

import { checkConfig, findConfig, type Config } from './config/config.ts'
import { cutoffOf } from './cutoff.ts'
import type { Candidate, Database } from './database/database.ts'
import { refusalOf } from './database/findings.ts'
import { openDatabase } from './database/open.ts'
import { codeOf, hasCode, RetentionError } from './errors.ts'
import { parseTableName } from './config/fields.ts'
import { isLedgerTable } from './ledger/schema.ts'
import { loadConfig, nowOption, type ProjectOptions } from './config/project.ts'

/** The first policy, as somebody chose it. */
export interface InitChoice {
  /** The table, as `table` or `schema.table`. */
  table: string
  /** The column that ages its rows. */
  column: string
  /** How many days a row lives. */
  days: number
}

/** What `init` can be told. */
export interface InitOptions extends ProjectOptions {
  /** The database to look at, where there is no config yet. Default: `DATABASE_URL`, or `sqlite:./local.db`. */
  database?: string
  /** Decides on the first policy, given the tables that could have one; undefined: write nothing. */
  choose: (candidates: readonly Candidate[]) => Promise<InitChoice | undefined>
  /** The time that ages are computed from. Default: the clock. */
  now?: Date
}

/** What `init` found and wrote. */
export interface InitReport {
  /** The database, without secrets. */
  readonly database: string
  readonly candidates: readonly Candidate[]
  /** Files that were written, or added to. */
  readonly written: readonly string[]
}

/** The ages that a newcomer may think of. */
const ages = [30, 90, 365] as const

/**
 * Lists tables with a time column and, once a choice is made, writes `retention.config.ts` (where there is no config),
 * a policy, and a line in `.gitignore`.
 * @throws RetentionError `USAGE` when the choice cannot work or a file of that name is there already.
 */
export async function init(options: InitOptions): Promise<InitReport> {
  const folder = path.resolve(options.cwd ?? '.')
  const { config, isNew } = await existingConfig(options, folder)
  const database = await openDatabase(config, 'read')
  try {
    const now = nowOption(options.now)
    const all = await database.read((db) => database.candidates(db, ages, now))
    const candidates = all.filter(({ table }) => !isLedgerTable(config.ledger, table))
    const report = { database: database.location, candidates }
    const choice = await options.choose(candidates)
    if (choice === undefined) return { ...report, written: [] }
    await checkChoice(choice, database, config, now)
    const policy = path.join(config.policies, `${policyName(choice.table)}.ts`)
    const written = [await writeNew(policy, policyText(choice))]
    if (isNew) written.unshift(await writeNew(config.file, configText(options.database)))
    const ignored = await ignoreBackups(config.folder)
    return { ...report, written: ignored === undefined ? written : [...written, ignored] }
  } finally {
    await database.close()
  }
}

async function existingConfig(options: InitOptions, folder: string): Promise<{ config: Config; isNew: boolean }> {
  try {
    if (options.config === undefined) await findConfig(folder)
    return { config: await loadConfig(options), isNew: false }
  } catch (error) {
    if (!hasCode(error, 'CONFIG_NOT_FOUND')) throw error
  }
  const file = path.join(folder, 'retention.config.ts')
  const checked = checkConfig(options.database === undefined ? {} : { database: options.database }, file, folder)
  if ('value' in checked) return { config: checked.value, isNew: true }
  throw new RetentionError('USAGE', checked.mistakes.map(({ text }) => text).join('\n'))
}

/** @throws RetentionError `USAGE` when no policy of that choice could work */
async function checkChoice(
  { table, column, days }: InitChoice,
  database: Database,
  config: Config,
  now: Date,
): Promise<void> {
  const name = parseTableName(table)
  if (name !== undefined && isLedgerTable(config.ledger, name))
    throw new RetentionError('USAGE', `"${table}" is one of the ledger's own tables`)
  if (name === undefined) {
    throw new RetentionError('USAGE', `--table is "${table}"; allowed: a table, as "table" or "schema.table"`)
  }
  if (!Number.isSafeInteger(days) || days < 1)
    throw new RetentionError('USAGE', `--days is ${days}; allowed: a whole number, at least 1`)
  const cutoff = cutoffOf(days, 'UTC', now)
  const request = { table: name, column, where: undefined, children: undefined, columnTimezone: 'UTC', cutoff }
  const { table: found, time, findings } = await database.read((db) => database.inspect(db, request))
  const refusal = refusalOf(findings)
  if (found !== undefined && column === '') {
    throw new RetentionError('USAGE', `No column of "${table}" looks like the time of a row`, {
      hint: 'Name it with --column.',
    })
  }
  // What else stands against it, plan tells once it is written.
  if (time?.storage === undefined && refusal !== undefined) {
    throw new RetentionError('USAGE', refusal.message, refusal.hint === undefined ? {} : { hint: refusal.hint })
  }
}

function policyName(table: string): string {
  return table
    .replaceAll('"', '')
    .replaceAll(/[^\p{L}\p{N}_-]+/gu, '_')
    .replace(/^[_-]+(?=[\p{L}\p{N}])/u, '')
}

async function writeNew(file: string, text: string): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true })
  try {
    await writeFile(file, text, { flag: 'wx' })
    return file
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    throw new RetentionError('USAGE', `${file} is there already; it is left as it is`, {
      hint: 'Edit it, or write the policy into a file of another name.',
      cause: error,
    })
  }
}

/** Archives hold people's data, and do not belong into a repository. */
async function ignoreBackups(folder: string): Promise<string | undefined> {
  const file = path.join(folder, '.gitignore')
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error
    return ''
  })
  if (/^\/?backups\/?(\*|$)/m.test(text)) return undefined
  await writeFile(file, `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}backups/\n`)
  return file
}

function configText(database: string | undefined): string {
  // A password does not belong into a file of the repository: only a path to a SQLite file is written down.
  const fallback = database !== undefined && /^(sqlite|file):/i.test(database) ? database : 'sqlite:./local.db'
  return `import { defineConfig } from 'retention'

export default defineConfig({
  database: process.env.DATABASE_URL || ${quoted(fallback)},
  policies: './policies',
  // Must outlive the machine that runs this: on CI, in containers and the like, mount a disk that stays,
  // and say so with { to: '/mnt/backups', durable: true }.
  archive: './backups',
  timezone: 'UTC', // days begin at midnight here
})
`
}

function policyText({ table, column, days }: InitChoice): string {
  // A name that the shell and JavaScript both allow.
  const name = policyName(table)
    .toUpperCase()
    .replaceAll(/[^A-Z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
  const variable = `${/^\d/.test(name) ? '_' : ''}${name === '' ? '' : `${name}_`}RETENTION_DAYS`
  return `import { definePolicy } from 'retention'

// Rows that are older are archived to CSV, verified, and deleted by "retention apply".
export default definePolicy({
  table: ${quoted(table)},
  column: ${quoted(column)},
  // "||" and not "??": an empty variable must not become 0 days.
  days: Number(process.env.${variable} || ${days}),
})
`
}

/** A text in single quotes; JSON knows how to escape all the rest. */
function quoted(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}
