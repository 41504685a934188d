/**
 * Policies of a folder that nobody has looked at yet, a pull request's say: its files are read as data. Nothing in them is run,
 * neither as code nor as SQL, and nothing that they name is opened but tables.
 */
import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import path from 'node:path'

import { codeOf, RetentionError } from '../errors.ts'
import { formatTableName } from './fields.ts'
import { loadData } from './load-file.ts'
import { checkPolicies, policyFiles, policyName, type Policy } from './policy.ts'
import { invalid, loadProject, type Project, type ProjectOptions } from './project.ts'

/** A policy that is not planned, and why. */
export interface Unplanned {
  readonly policy: string
  readonly reason: string
}

/**
 * A config with the policies of another folder in place of its own. They go without their `archive`: to open one of somebody's
 * choice would send it our credentials. A `where` is kept only where one of the config's own policies has the same for the same
 * table: SQL can call functions, and its errors can quote any row.
 * @throws RetentionError as `loadProject`; `USAGE` where the folder is reached through a symbolic link
 */
export async function loadDataProject(
  options: ProjectOptions,
  folder: string,
): Promise<Project & { readonly unplanned: readonly Unplanned[] }> {
  const { config, policies: trusted } = await loadProject(options, 'config')
  const place = await withoutLinks(path.resolve(options.cwd ?? '.'), folder)
  const files: string[] = []
  const texts = new Map<string, string>()
  const unplanned: Unplanned[] = []
  for (const file of await policyFiles(place)) {
    const text = /\.(json|ya?ml)$/.test(file) ? await plainText(file) : undefined
    if (text === undefined)
      unplanned.push({
        policy: policyName(file),
        reason: /\.[cm]?[jt]s$/.test(file) ? 'code: not planned' : `no plain file of at most ${largest / 1024} kB`,
      })
    else {
      files.push(file)
      texts.set(file, text)
    }
  }
  const load = async (file: string): Promise<unknown> => {
    const content = await loadData(file, texts.get(file) ?? '')
    if (isTree(content)) return content
    throw new RetentionError('CONFIG_INVALID', `${file}: uses YAML anchors, which are not taken here`)
  }
  const { policies, mistakes } = await checkPolicies(files, load, config)
  if (mistakes.length > 0) throw invalid(mistakes)
  const planned = policies.filter((policy) => {
    const isKnown = policy.where === undefined || trusted.some((own) => isSameSelection(own, policy))
    if (!isKnown) unplanned.push({ policy: policy.name, reason: 'a new "where" is SQL: not planned' })
    return isKnown
  })
  return { config, policies: planned.map((policy) => ({ ...policy, archive: undefined })), unplanned }
}

function isSameSelection(one: Policy, other: Policy): boolean {
  return one.where === other.where && formatTableName(one.table) === formatTableName(other.table)
}

/** The folder, unless a link leads to it: what lies behind one was not part of what is to be looked at. */
async function withoutLinks(cwd: string, folder: string): Promise<string> {
  const place = path.resolve(cwd, folder)
  const real = await Promise.all([realpath(cwd), realpath(place)]).catch((error: unknown) => {
    throw new RetentionError('USAGE', `The folder ${JSON.stringify(folder)} of policies does not exist`, {
      cause: error,
    })
  })
  if (path.join(real[0], path.relative(cwd, place)) === real[1]) return place
  throw new RetentionError(
    'USAGE',
    `The folder ${JSON.stringify(folder)} of policies is reached through a symbolic link`,
    {
      hint: 'Name the folder that it leads to, if that is to be trusted.',
    },
  )
}

/** In bytes: far more than any policy needs. */
const largest = 64 * 1024

/** Undefined where it is a link, no file, or too large. */
async function plainText(file: string): Promise<string | undefined> {
  // A pipe would be waited for.
  const opened = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      if (codeOf(error) === 'ELOOP' || codeOf(error) === 'EMLINK') return undefined
      throw error
    },
  )
  if (opened === undefined) return undefined
  try {
    const found = await opened.stat()
    return found.isFile() && found.size <= largest ? await opened.readFile('utf8') : undefined
  } finally {
    await opened.close()
  }
}

/** Whether no object is in it twice: a few lines of YAML with anchors can stand for more than any memory holds. */
function isTree(value: unknown, seen: Set<unknown> = new Set()): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (seen.has(value)) return false
  seen.add(value)
  return Object.values(value).every((part) => isTree(part, seen))
}
