/** A config and its policies, loaded together so that all mistakes are told at once. */
import path from 'node:path'

import * as v from 'valibot'

import { checkConfig, findConfig, readConfig, type Config, type ConfigInput } from './config.ts'
import { RetentionError } from '../errors.ts'
import { target, type TargetConfig } from './fields.ts'
import { Keys, type AskForKey } from './keys.ts'
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
  const { config, folder, mistakes } = await loadCheckedConfig(options)
  // With mistakes in the config its policies are read all the same, so that theirs are told in the same run.
  const read = await readPolicies(folder, config ?? noDefaults).catch((error: unknown) => {
    if (config !== undefined) throw error
    return { policies: [], mistakes: [] }
  })
  const all = [...mistakes, ...read.mistakes]
  if (config === undefined || all.length > 0) throw invalid(all)
  if (read.policies.length === 0 && needs === 'policies') {
    throw new RetentionError('CONFIG_INVALID', `There are no policies in ${folder}`, {
      hint: 'Run "retention init" to write one.',
    })
  }
  const keys = new Keys(async () => passwordVariables(config, read.policies), options.askForKey)
  return { config: { ...config, keys }, policies: read.policies }
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

async function loadCheckedConfig(options: ProjectOptions): Promise<CheckedConfig> {
  const cwd = path.resolve(options.cwd ?? '.')
  const { file, folder, content } = await source(options.config, cwd)
  const checked = checkConfig(content, file, folder, options.askForKey)
  if ('value' in checked) return { config: checked.value, folder: checked.value.policies, mistakes: [] }
  return { config: undefined, folder: path.join(folder, 'policies'), mistakes: checked.mistakes }
}

async function source(
  config: ProjectOptions['config'],
  cwd: string,
): Promise<{ file: string; folder: string; content: unknown }> {
  if (config !== undefined && typeof config !== 'string' && typeof config !== 'object') {
    throw new RetentionError(
      'USAGE',
      `"config" is ${String(config)}; allowed: a file's path, or the configuration itself`,
    )
  }
  if (typeof config === 'object') return { file: 'config', folder: cwd, content: config }
  const found = config === undefined ? await findConfig(cwd) : await readConfig(path.resolve(cwd, config))
  return { ...found, folder: path.dirname(found.file) }
}

function invalid(mistakes: readonly Mistake[]): RetentionError {
  const lines = mistakes.map(({ file, text }) => `${path.relative('.', file) || file}: ${text}`)
  const count = mistakes.length === 1 ? 'There is a mistake' : `There are ${mistakes.length} mistakes`
  return new RetentionError(
    'CONFIG_INVALID',
    [`${count} in the configuration:`, ...lines.map((line) => `  ${line}`)].join('\n'),
  )
}
