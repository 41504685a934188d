/** A config and its policies, loaded together so that all mistakes are told at once. */
import path from 'node:path'

import * as v from 'valibot'

import { checkConfig, findConfig, readConfig, type Config, type ConfigInput } from './config.ts'
import { databaseNamed, databasesOf, folderFor, sharedMistake, type Databases } from './databases.ts'
import { RetentionError } from '../errors.ts'
import { target, type TargetConfig } from './fields.ts'
import { Keys, type AskForKey } from './keys.ts'
import { noticeMistakes } from './notices.ts'
import { readPolicies, type Policy, type PolicyDefaults } from './policy.ts'
import { passwordVariable } from './sealing.ts'
import { didYouMean, type Mistake } from './validate.ts'

/** Which project a library call is about. */
export interface ProjectOptions {
  /**
   * The config file's path, or the configuration itself (its relative paths then start at `cwd`).
   * Default: the file that cosmiconfig finds from `cwd` upwards.
   */
  config?: string | ConfigInput
  /** Which database, where the config has several: the commands of the command line work on all. Default: the only one. */
  database?: string
  /** Where to look for the config, and where a relative `config` path starts. Default: the process's folder. */
  cwd?: string
  /**
   * Is asked for the key of sealed archives where the environment has none: the `password` of zips, or an `identity` (a
   * private key) of age. Default: nobody is.
   */
  askForKey?: AskForKey
}

/**
 * The time that a call goes by. Default: the clock.
 * @throws RetentionError `USAGE` where it is none
 */
export function nowOption(now: Date | undefined): Date {
  if (now === undefined) return new Date()
  if (now instanceof Date && !Number.isNaN(now.getTime())) return now
  throw new RetentionError('USAGE', `"now" is ${String(now)}; allowed: a Date`)
}

/** A text that a call needs. @throws RetentionError `USAGE` where it is none, or an empty one */
export function textOption(name: string, text: unknown): string {
  if (typeof text === 'string' && text.trim() !== '' && !text.includes('\0')) return text
  throw new RetentionError('USAGE', `"${name}" is ${text === undefined ? 'missing' : 'not a text, or empty'}`)
}

/** A target that a call names: what a config's `archive` may be as a text. @throws RetentionError `USAGE` where it is none */
export function targetOption(name: string, to: unknown): TargetConfig {
  const checked = v.safeParse(target, textOption(name, to))
  if (checked.success) return checked.output
  const [{ message }] = checked.issues
  throw new RetentionError('USAGE', `"${name}" is ${JSON.stringify(to)}; allowed: ${message}`)
}

/** A checked config with its checked policies. */
export interface Project {
  readonly config: Config
  readonly policies: readonly Policy[]
}

/**
 * Loads a config and all its policies.
 * @param needs `config`: there may be no policies
 * @throws RetentionError `CONFIG_NOT_FOUND`, or `CONFIG_INVALID` with every mistake of every file in its message.
 */
export async function loadProject(
  options: ProjectOptions,
  needs: 'policies' | 'config' = 'policies',
): Promise<Project> {
  const { config, folder, policies, mistakes } = await readProject(options)
  if (config === undefined || mistakes.length > 0) throw invalid(mistakes)
  if (policies.length === 0 && needs === 'policies') throw noPolicies(folder)
  const keys = new Keys(async () => passwordVariables(config, policies), options.askForKey)
  return { config: { ...config, keys }, policies }
}

/** What was found of a config and its policies, and all that is wrong with them. */
export interface ReadProject extends CheckedConfig {
  readonly policies: readonly Policy[]
}

/**
 * Reads a config and all its policies, as far as they can be read.
 * @param from where the content comes from; by default the config's file
 * @throws RetentionError `CONFIG_NOT_FOUND`, `CONFIG_INVALID` where there is nothing to read
 */
export async function readProject(options: ProjectOptions, from?: ConfigSource): Promise<ReadProject> {
  const { config, folder, mistakes } = await loadCheckedConfig(options, from)
  // With mistakes in the config its policies are read all the same, so that theirs are told in the same run.
  const read = await readPolicies(folder, config ?? noDefaults).catch((error: unknown) => {
    if (config !== undefined) throw error
    return { policies: [], mistakes: [] }
  })
  const { policies, shared } = placedFor(config, read.policies)
  const names = [...read.policies, ...read.mistakes].map(({ file }) => path.parse(file).name)
  const unknown = config === undefined ? [] : noticeMistakes(config.notices, names, config.file)
  return { config, folder, policies, mistakes: [...mistakes, ...read.mistakes, ...shared, ...unknown] }
}

export function noPolicies(folder: string): RetentionError {
  return new RetentionError('CONFIG_INVALID', `There are no policies in ${folder}`, {
    hint: 'Run "retention init" to write one.',
  })
}

/** Policies with their archives where those of one of several databases go, and what is wrong with that. */
function placedFor(
  config: Config | undefined,
  policies: readonly Policy[],
): { policies: readonly Policy[]; shared: readonly Mistake[] } {
  const name = config?.name
  if (name === undefined) return { policies, shared: [] }
  const shared = policies.flatMap(({ file, archive }): Mistake[] => {
    const mistake = archive === undefined ? undefined : sharedMistake(archive)
    return mistake === undefined ? [] : [{ file, text: mistake }]
  })
  const placed = policies.map((policy) =>
    policy.archive === undefined ? policy : { ...policy, archive: folderFor(name, policy.archive) },
  )
  return { policies: placed, shared }
}

/**
 * The databases of a config: their names, and how many are worked on at the same time. Undefined where it has one alone.
 * @throws RetentionError `CONFIG_NOT_FOUND`, `CONFIG_INVALID`
 */
export async function loadDatabases(
  options: ProjectOptions,
): Promise<Pick<Databases, 'names' | 'parallel'> | undefined> {
  const { file, content } = await configSource(options)
  const databases = databasesOf(content, file)
  if (databases === undefined) return undefined
  if ('mistakes' in databases) throw invalid(databases.mistakes)
  return databases.value
}

function passwordVariables(config: Config, policies: readonly Policy[]): (string | undefined)[] {
  return [config.archive, ...policies.map(({ archive }) => archive ?? config.archive)].map(passwordVariable)
}

const noDefaults: PolicyDefaults = { gentle: false, throttle: undefined, archive: {}, timezone: 'UTC', schedule: false }

/** Loads the config alone. @throws as `loadProject`. */
export async function loadConfig(options: ProjectOptions): Promise<Config> {
  const { config, folder, mistakes } = await loadCheckedConfig(options)
  if (config === undefined) throw invalid(mistakes)
  // A policy with a mistake in it must not stand in the way of a restore.
  const policies = async (): Promise<readonly Policy[]> =>
    readPolicies(folder, config).then(
      (read) => read.policies,
      () => [],
    )
  return { ...config, keys: new Keys(async () => passwordVariables(config, await policies()), options.askForKey) }
}

/**
 * The policies of those names, or all where none is named.
 * @throws RetentionError `POLICY_UNKNOWN`.
 */
export function selectPolicies(policies: readonly Policy[], names: readonly string[]): readonly Policy[] {
  // From JavaScript it may be anything; one name alone is an easy mistake.
  if (!Array.isArray(names))
    throw new RetentionError('USAGE', `"policies" is ${JSON.stringify(names)}; allowed: a list of names`)
  const known = policies.map((policy) => policy.name)
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length > 0) {
    const named = unknown.map((name) => `"${name}"${didYouMean(name, known)}`).join(', ')
    throw new RetentionError('POLICY_UNKNOWN', `No policy is called ${named}`, {
      hint: `The policies are: ${known.join(', ')}.`,
    })
  }
  return names.length === 0 ? policies : policies.filter((policy) => names.includes(policy.name))
}

interface CheckedConfig {
  readonly config: Config | undefined
  /** The folder of the policies, as far as it can be told. */
  readonly folder: string
  readonly mistakes: readonly Mistake[]
}

async function loadCheckedConfig(options: ProjectOptions, from?: ConfigSource): Promise<CheckedConfig> {
  const { file, folder, content } = from ?? (await configSource(options))
  const policies = path.join(folder, 'policies')
  const databases = databasesOf(content, file)
  if (databases !== undefined && 'mistakes' in databases)
    return { config: undefined, folder: policies, mistakes: databases.mistakes }
  const name = databaseNamed(options.database, databases?.value.names)
  const own =
    name === undefined || databases === undefined ? { content, hasFolder: false } : databases.value.configFor(name)
  const checked = checkConfig(own.content, file, folder, options.askForKey)
  if ('mistakes' in checked) return { config: undefined, folder: policies, mistakes: checked.mistakes }
  const config = name === undefined ? checked.value : { ...checked.value, name }
  if (name === undefined || !own.hasFolder) return { config, folder: config.policies, mistakes: [] }
  const mistake = sharedMistake(config.archive)
  const mistakes = mistake === undefined ? [] : [{ file, text: mistake }]
  return { config: { ...config, archive: folderFor(name, config.archive) }, folder: config.policies, mistakes }
}

/** A config's content, not yet checked, and where it comes from. */
export interface ConfigSource {
  readonly file: string
  readonly folder: string
  readonly content: unknown
}

/** Finds and reads a config. @throws RetentionError `CONFIG_NOT_FOUND`, `CONFIG_INVALID` */
export async function configSource({ config, cwd = '.' }: ProjectOptions): Promise<ConfigSource> {
  const from = path.resolve(cwd)
  if (config !== undefined && typeof config !== 'string' && typeof config !== 'object') {
    throw new RetentionError(
      'USAGE',
      `"config" is ${String(config)}; allowed: a file's path, or the configuration itself`,
    )
  }
  if (typeof config === 'object') return { file: 'config', folder: from, content: config }
  const found = config === undefined ? await findConfig(from) : await readConfig(path.resolve(from, config))
  return { ...found, folder: path.dirname(found.file) }
}

/** The error that tells all mistakes. */
export function invalid(mistakes: readonly Mistake[]): RetentionError {
  const lines = mistakes.map(({ file, text }) => `${path.relative('.', file) || file}: ${text}`)
  const count = mistakes.length === 1 ? 'There is a mistake' : `There are ${mistakes.length} mistakes`
  return new RetentionError(
    'CONFIG_INVALID',
    [`${count} in the configuration:`, ...lines.map((line) => `  ${line}`)].join('\n'),
  )
}
