/** Reads one config or policy file, in whichever of the supported languages it is written. */
import { readFile, stat } from 'node:fs/promises'
import { registerHooks } from 'node:module'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

import { messageOf, RetentionError } from '../errors.ts'

/**
 * What a file exports (TypeScript and JavaScript: its default export, or what that is a promise of) or holds (JSON, YAML).
 * @throws RetentionError `CONFIG_INVALID` when it cannot be read; its message names file and place.
 */
export async function loadFile(file: string): Promise<unknown> {
  try {
    switch (path.extname(file)) {
      case '.json':
      case '.yaml':
      case '.yml':
      case '':
        return await parseData(file, await readFile(file, 'utf8'))
      default:
        return await importDefault(file)
    }
  } catch (error) {
    throw unreadable(error, file)
  }
}

/**
 * What a file of JSON or YAML holds. Nothing in it is run.
 * @throws RetentionError `CONFIG_INVALID`
 */
export async function loadData(file: string, text: string): Promise<unknown> {
  try {
    return await parseData(file, text)
  } catch (error) {
    throw unreadable(error, file)
  }
}

async function parseData(file: string, text: string): Promise<unknown> {
  if (path.extname(file) === '.json') return JSON.parse(text)
  const { defaultLoaders } = await import('cosmiconfig')
  return defaultLoaders['.yaml'](file, text)
}

function unreadable(error: unknown, file: string): RetentionError {
  if (error instanceof RetentionError) return error
  return new RetentionError('CONFIG_INVALID', `${file}: cannot be read: ${reason(error, file)}`, { cause: error })
}

async function importDefault(file: string): Promise<unknown> {
  // Node keeps modules by address: with its time in the address, a file that has changed is read again.
  const url = `${pathToFileURL(file).href}?changed=${(await stat(file)).mtimeMs}`
  if (!/\.[jt]s$/.test(file) || !/^\s*(import|export)\b/m.test(await readFile(file, 'utf8')))
    return exported(await import(url))
  // Node takes a .ts or .js file for what its package says it is, and many packages say CommonJS without meaning it.
  // Nobody should have to change a package for one config file: what is written as a module is read as one.
  const format = file.endsWith('.ts') ? 'module-typescript' : 'module'
  const hooks = registerHooks({
    load: (loaded, context, next) => next(loaded, loaded === url ? { ...context, format } : context),
  })
  try {
    return exported(await imported(url))
  } finally {
    hooks.deregister()
  }
}

/** A module that waits for what never comes would let the process end without a word. */
async function imported(url: string): Promise<unknown> {
  const waiting = new AbortController()
  const late = sleep(loadTimeout, undefined, { signal: waiting.signal }).then(() => {
    throw new Error(`it has not finished loading after ${loadTimeout / 1000} s`)
  })
  try {
    return await Promise.race([import(url), late])
  } finally {
    late.catch(() => {})
    waiting.abort()
  }
}

/** In milliseconds; a config may ask a vault for a password. */
const loadTimeout = 30_000

function exported(module: unknown): unknown {
  return typeof module === 'object' && module !== null && 'default' in module ? module.default : undefined
}

/** The error's message, with the line it points at where Node tells it only in the stack. */
function reason(error: unknown, file: string): string {
  const name = path.basename(file)
  const message = messageOf(error)
    .replaceAll(`${file}:\n`, '')
    .replaceAll(file, name)
    .replaceAll(/\?changed=[\d.]+/g, '')
  const [, place] = error instanceof Error ? (error.stack ?? '').split(/\?changed=[\d.]+(?=:\d)/) : []
  return place === undefined ? message : `line ${Number.parseInt(place.slice(1), 10)}: ${message}`
}
