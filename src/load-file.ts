/** Reads one config or policy file, in whichever of the supported languages it is written. */
import { readFile, stat } from 'node:fs/promises'
import { registerHooks } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

import { codeOf, messageOf, RetentionError } from './errors.ts'

/**
 * What a file exports (TypeScript and JavaScript: its default export) or holds (JSON, YAML).
 * @throws RetentionError `CONFIG_INVALID` when it cannot be read; its message names file and place.
 */
export async function loadFile(file: string): Promise<unknown> {
  try {
    switch (path.extname(file)) {
      case '.json':
        return JSON.parse(await readFile(file, 'utf8'))
      case '.yaml':
      case '.yml':
      case '': {
        const { defaultLoaders } = await import('cosmiconfig')
        return defaultLoaders['.yaml'](file, await readFile(file, 'utf8'))
      }
      default:
        return await importDefault(file)
    }
  } catch (error) {
    if (error instanceof RetentionError) throw error
    throw new RetentionError('CONFIG_INVALID', `${file}: cannot be read: ${reason(error, file)}`, { cause: error })
  }
}

async function importDefault(file: string): Promise<unknown> {
  // Node keeps modules by address: with its time in the address, a file that has changed is read again.
  const url = `${pathToFileURL(file).href}?changed=${(await stat(file)).mtimeMs}`
  try {
    return exported(await import(url))
  } catch (error) {
    // A package without "type": "module" makes Node take a .ts file for CommonJS, where `import` and `export` are
    // syntax errors. Nobody should have to change their package for one config file: it is read again as a module.
    if (!(error instanceof SyntaxError) || !/\b(import statement|token 'export'|import\.meta)/.test(error.message)) {
      throw error
    }
    const again = `${url}&module`
    const format = file.endsWith('ts') ? 'module-typescript' : 'module'
    const hooks = registerHooks({
      load: (loaded, context, next) => next(loaded, loaded === again ? { ...context, format } : context),
    })
    try {
      return exported(await import(again))
    } finally {
      hooks.deregister()
    }
  }
}

function exported(module: unknown): unknown {
  return typeof module === 'object' && module !== null && 'default' in module ? module.default : undefined
}

/** The error's message, with the line it points at where Node tells it only in the stack. */
function reason(error: unknown, file: string): string {
  const message = messageOf(error).replaceAll(`${file}:\n`, '').replaceAll(file, path.basename(file))
  if (codeOf(error) === 'ERR_MODULE_NOT_FOUND') return message
  const place =
    error instanceof Error
      ? new RegExp(`${path.basename(file).replaceAll('.', '\\.')}:(\\d+)`).exec(error.stack ?? '')
      : null
  return place === null ? message : `line ${place[1]}: ${message}`
}
