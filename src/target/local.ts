/** A folder as target: durable, exclusive, private. */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, link, lstat, mkdir, open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'

import { codeOf, messageOf, RetentionError } from '../errors.ts'
import type { Draft, Target } from './target.ts'

/** Archives hold people's data: nobody but the owner reads them. */
const fileMode = 0o600
const folderMode = 0o700

/** Large enough that the number of system calls does not matter. */
const chunkBytes = 256 * 1024

export class LocalTarget implements Target {
  readonly name: string
  readonly #folder: string
  readonly #durable: boolean

  /**
   * @param name the folder as the config writes it
   * @param folder its absolute path
   * @param durable whether the user says that it outlives the process
   */
  constructor(name: string, folder: string, durable: boolean) {
    this.name = name
    this.#folder = folder
    this.#durable = durable
  }

  locate(file: string): string {
    return path.join(this.#folder, file)
  }

  async check(): Promise<void> {
    const place = this.#durable ? undefined : throwAwayMachine(process.env)
    if (place !== undefined) {
      throw this.#unusable(`is on a machine that may be thrown away (${place})`, {
        hint:
          'Archives would vanish with it. Mount a disk that stays and say so with ' +
          `archive: { to: ${JSON.stringify(this.name)}, durable: true }.`,
      })
    }
    await this.#writableFolder()
  }

  async prepare(): Promise<void> {
    await this.check()
    await this.#makeFolder()
    const probe = `probe-${randomBytes(6).toString('hex')}`
    const draft = await this.create(probe)
    try {
      await draft.publish()
      await unlink(this.locate(probe))
    } catch (error) {
      await draft.discard()
      throw this.#unusable(`cannot store files: ${messageOf(error)}`, {
        hint: 'A target folder must be writable and support hard links, which make storing exclusive.',
        cause: error,
      })
    }
  }

  async create(file: string): Promise<Draft> {
    const published = this.#path(file)
    const temporary = path.join(this.#folder, `.${file}.${randomBytes(6).toString('hex')}.tmp`)
    const handle = await open(temporary, 'wx', fileMode).catch((error: unknown) => {
      throw this.#unusable(`cannot be written: ${messageOf(error)}`, { cause: error })
    })
    let closed = false
    const close = async (): Promise<void> => {
      if (closed) return
      closed = true
      await handle.close()
    }
    return {
      write: async (chunk) => {
        await handle.appendFile(chunk).catch((error: unknown) => {
          throw this.#unusable(`cannot take ${file}: ${messageOf(error)}`, { cause: error })
        })
      },
      publish: async () => {
        // The bytes must be on the disk before the name is: a name that survives a power cut stands for whole content.
        await handle.sync()
        await close()
        try {
          // link() fails where the name exists, unlike rename(): nothing is ever overwritten.
          await link(temporary, published)
        } catch (error) {
          if (codeOf(error) === 'EEXIST') throw this.#inTheWay(file, error)
          throw error
        }
        await unlink(temporary)
        // The folder's own entry for the name must be on the disk as well.
        await this.#syncFolder(this.#folder)
      },
      discard: async () => {
        await close()
        await unlink(temporary).catch(ignoreMissing)
      },
    }
  }

  async has(file: string): Promise<boolean> {
    return lstat(this.#path(file)).then(
      () => true,
      (error: unknown) => {
        ignoreMissing(error)
        return false
      },
    )
  }

  async read(file: string): Promise<Readable> {
    const location = this.#path(file)
    let handle: FileHandle | undefined
    try {
      // Never through a link: an archive is a file of this folder, whatever somebody put in its place.
      handle = await open(location, constants.O_RDONLY | constants.O_NOFOLLOW)
      if (!(await handle.stat()).isFile()) throw new Error('not a file')
      return handle.createReadStream({ highWaterMark: chunkBytes })
    } catch (error) {
      await handle?.close()
      const missing = codeOf(error) === 'ENOENT'
      throw new RetentionError(
        missing ? 'ARCHIVE_NOT_FOUND' : 'ARCHIVE_CHANGED',
        missing ? `There is no file ${location}` : `${location} cannot be read as a file: ${messageOf(error)}`,
        { cause: error },
      )
    }
  }

  async withdraw(file: string): Promise<void> {
    await unlink(this.#path(file)).catch(ignoreMissing)
    await this.#syncFolder(this.#folder)
  }

  async list(): Promise<string[]> {
    try {
      const entries = await readdir(this.#folder, { withFileTypes: true })
      return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name)
    } catch (error) {
      ignoreMissing(error)
      return []
    }
  }

  #path(file: string): string {
    if (file === '' || file === '.' || file === '..' || path.basename(file) !== file || file.includes('\0')) {
      throw new RetentionError(
        'ARCHIVE_NOT_FOUND',
        `${JSON.stringify(file)} is not the name of a file in ${this.#folder}`,
      )
    }
    return path.join(this.#folder, file)
  }

  /** Proves, without writing, that the folder can be written, or made where it is not there yet. */
  async #writableFolder(): Promise<void> {
    for (let folder = this.#folder; ; folder = path.dirname(folder)) {
      try {
        await access(folder, constants.W_OK | constants.X_OK)
        if (!(await stat(folder)).isDirectory()) throw new Error(`${folder} is not a folder`)
        return
      } catch (error) {
        if (codeOf(error) === 'ENOENT' && path.dirname(folder) !== folder) continue
        throw this.#unusable(`cannot be written: ${messageOf(error)}`, { cause: error })
      }
    }
  }

  async #makeFolder(): Promise<void> {
    try {
      const made = await mkdir(this.#folder, { recursive: true, mode: folderMode })
      if (made === undefined) return
      // A new folder is durable only when the folder that holds it has been written as well, at every level made.
      for (let folder = this.#folder; folder !== path.dirname(made); folder = path.dirname(folder)) {
        await this.#syncFolder(path.dirname(folder))
      }
    } catch (error) {
      throw this.#unusable(`cannot be made: ${messageOf(error)}`, { cause: error })
    }
  }

  async #syncFolder(folder: string): Promise<void> {
    const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  #inTheWay(file: string, cause: unknown): RetentionError {
    return new RetentionError('ARCHIVE_EXISTS', `${this.locate(file)} is in the way; it is left as it is`, { cause })
  }

  #unusable(problem: string, options: { hint?: string; cause?: unknown }): RetentionError {
    return new RetentionError('TARGET_UNUSABLE', `The target ${this.#folder} ${problem}`, options)
  }
}

/**
 * The name of the environment variable that says that this machine's disk goes when the process does; undefined where
 * none says so.
 */
export function throwAwayMachine(environment: NodeJS.ProcessEnv): string | undefined {
  return [
    'CI',
    'GITHUB_ACTIONS',
    'RENDER',
    'FLY_APP_NAME',
    'KUBERNETES_SERVICE_HOST',
    'DYNO',
    'K_SERVICE',
    'VERCEL',
    'AWS_LAMBDA_FUNCTION_NAME',
    'RAILWAY_ENVIRONMENT',
  ].find((name) => !['', '0', 'false', undefined].includes(environment[name]))
}

function ignoreMissing(error: unknown): void {
  if (codeOf(error) !== 'ENOENT') throw error
}
