/** `check`: whether config and policies are right, as far as their files tell. */
import { databasesOf, withAddresses } from './config/databases.ts'
import { formatTableName } from './config/fields.ts'
import {
  configSource,
  invalid,
  noPolicies,
  readProject,
  type ProjectOptions,
  type ReadProject,
} from './config/project.ts'
import { withoutSecrets } from './errors.ts'

/** A policy as its file and the config have it. */
export interface CheckedPolicy {
  readonly policy: string
  readonly table: string
  readonly column: string
  readonly days: number
  readonly action: 'archive' | 'redact'
  /** Where its archives go: one, or where the config has several databases, one for each of them. */
  readonly targets: readonly string[]
  /** As cron has it; null: it never runs by itself. */
  readonly schedule: string | null
}

/** Config and policies without a mistake. */
export interface CheckReport {
  /** The config's file. */
  readonly config: string
  readonly policies: readonly CheckedPolicy[]
  /** What is right, and would fail where it is run as here: variables of the environment that are not set. */
  readonly warnings: readonly string[]
}

/**
 * Checks config and policy files. Opens no database, no target and no connection; files of TypeScript and JavaScript are run, as
 * everywhere. A database's address may be missing.
 * @throws RetentionError `CONFIG_NOT_FOUND`, or `CONFIG_INVALID` with every mistake of every file in its message
 */
export async function check(options: ProjectOptions = {}): Promise<CheckReport> {
  const written = await configSource(options)
  const { content, missing } = withAddresses(written.content)
  const source = { ...written, content }
  const databases = databasesOf(content, source.file)
  const names =
    databases === undefined || 'mistakes' in databases || options.database !== undefined
      ? [options.database]
      : databases.value.names
  const read: ReadProject[] = []
  for (const database of names)
    read.push(await readProject({ ...options, ...(database === undefined ? {} : { database }) }, source))
  const mistakes = new Map(
    read.flatMap((project) => project.mistakes).map((mistake) => [`${mistake.file}\0${mistake.text}`, mistake]),
  )
  if (mistakes.size > 0) throw invalid([...mistakes.values()])
  const [first] = read
  if (first === undefined || first.policies.length === 0) throw noPolicies(first?.folder ?? source.folder)
  const unset = variablesIn(read.map(({ config, policies }) => [config?.archive, config?.notices, policies]))
    .filter((name) => (process.env[name] ?? '') === '')
    .map((name) => `${name} is not set here`)
  const addresses = missing.map((name) => `There is no address here for ${name === undefined ? 'the database' : name}`)
  return { config: source.file, policies: first.policies.map(checkedPolicy(read)), warnings: [...addresses, ...unset] }
}

function checkedPolicy(read: readonly ReadProject[]): (policy: ReadProject['policies'][number]) => CheckedPolicy {
  return ({ name, table, column, days, action, schedule }) => ({
    policy: name,
    table: formatTableName(table),
    column,
    days,
    action,
    targets: [...new Set(read.flatMap((project) => targetsOf(project, name)))],
    schedule: schedule?.cron ?? null,
  })
}

function targetsOf({ config, policies }: ReadProject, name: string): string[] {
  const target = policies.find((policy) => policy.name === name)?.archive ?? config?.archive
  return target === undefined ? [] : [withoutSecrets(target.to)]
}

/** The names in all `env('NAME')` within a value, sorted. */
function variablesIn(value: unknown): string[] {
  const names = new Set<string>()
  const visit = (inner: unknown): void => {
    if (typeof inner !== 'object' || inner === null) return
    if ('env' in inner && typeof inner.env === 'string') names.add(inner.env)
    else for (const part of Object.values(inner)) visit(part)
  }
  visit(value)
  return [...names].toSorted()
}
