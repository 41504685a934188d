/** A folder as target: durable, exclusive, private. */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, link, lstat, mkdir, open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises'
import path from 'node:path'

import { codeOf, messageOf, RetentionError } from '../errors.ts'
import type { Draft, Target } from './target.ts'

/** Archives hold people's data: nobody but the owner reads them. */
const fileMode = 0o600
const folderMode = 0o700

/** Where files go that were set aside. */
const asideFolder = 'set-aside'

/** Large enough that the number of system calls does not matter, and small enough that used buffers are soon free again. */
const chunkBytes = 64 * 1024

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

  async identity(): Promise<string> {
    // A folder may be there under several paths: through links, or mounted twice.
    return stat(this.#folder).then(
      ({ dev, ino }) => `${dev}:${ino}`,
      () => this.#folder,
    )
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
    const handle = await this.#orUnusable(`write ${file}`, () => open(temporary, 'wx', fileMode))
    let isOpen = true
    let isLinked = false
    let isDone = false
    const close = async (): Promise<void> => {
      if (!isOpen) return
      isOpen = false
      await handle.close()
    }
    const publish = async (): Promise<void> => {
      // The bytes must be on the disk before the name is: a name that survives a power cut stands for whole content.
      await handle.sync()
      await close()
      // link() fails where the name exists, unlike rename(): nothing is ever overwritten.
      await link(temporary, published)
      isLinked = true
      await unlink(temporary)
      // The folder's own entry for the name must be on the disk as well.
      await syncFolder(this.#folder)
      isDone = true
    }
    return {
      write: (chunk) => this.#orUnusable(`write ${file}`, () => handle.appendFile(chunk)),
      publish: () =>
        this.#orUnusable(`store ${file}`, () =>
          publish().catch((error: unknown) => {
            throw codeOf(error) === 'EEXIST' && !isLinked ? this.#inTheWay(file, error) : error
          }),
        ),
      discard: async () => {
        if (isDone) return
        await close()
        await unlink(temporary).catch(ignoreMissing)
        if (isLinked) await unlink(published).catch(ignoreMissing)
      },
    }
  }

  async has(file: string): Promise<boolean> {
    const location = this.#path(file)
    return this.#orUnusable(`look for ${file}`, () =>
      lstat(location).then(
        () => true,
        (error: unknown) => {
          ignoreMissing(error)
          return false
        },
      ),
    )
  }

  async read(file: string, into?: Buffer): Promise<AsyncIterable<Buffer>> {
    const location = this.#path(file)
    let handle: FileHandle | undefined
    try {
      // Never through a link: an archive is a file of this folder, whatever somebody put in its place.
      handle = await open(location, constants.O_RDONLY | constants.O_NOFOLLOW)
      if (!(await handle.stat()).isFile()) throw new Error('not a file')
      return chunksOf(handle, location, into)
    } catch (error) {
      await handle?.close()
      if (codeOf(error) !== 'ENOENT') throw unreadable(location, error)
      throw new RetentionError('ARCHIVE_NOT_FOUND', `There is no file ${location}`, { cause: error })
    }
  }

  async remove(file: string): Promise<void> {
    if (!(await this.has(file))) return
    await this.#orUnusable(`remove ${file}`, () => this.withdraw(file))
  }

  async withdraw(file: string): Promise<void> {
    await unlink(this.#path(file)).catch(ignoreMissing)
    await syncFolder(this.#folder)
  }

  async lockOn(): Promise<undefined> {
    return undefined
  }

  async setAside(file: string): Promise<void> {
    const from = this.#path(file)
    const folder = path.join(this.#folder, asideFolder)
    await this.#orUnusable(`set ${file} aside`, async () => {
      await mkdir(folder, { recursive: true, mode: folderMode })
      for (let number = 0; ; number += 1) {
        const to = path.join(folder, number === 0 ? file : `${file}.${number}`)
        const isTaken = await link(from, to).then(
          () => false,
          (error: unknown) => {
            if (codeOf(error) === 'EEXIST') return true
            throw error
          },
        )
        if (!isTaken) break
      }
      await syncFolder(folder)
      await unlink(from)
      await syncFolder(this.#folder)
    })
  }

  async list(): Promise<string[]> {
    return this.#filesIn(this.#folder)
  }

  async listAside(): Promise<string[]> {
    const folder = path.join(this.#folder, asideFolder)
    return (await this.#filesIn(folder)).map((name) => path.join(folder, name))
  }

  async #filesIn(folder: string): Promise<string[]> {
    return this.#orUnusable('be listed', async () => {
      try {
        const entries = await readdir(folder, { withFileTypes: true })
        return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name)
      } catch (error) {
        ignoreMissing(error)
        return []
      }
    })
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
        const isMissing = codeOf(error) === 'ENOENT' && path.dirname(folder) !== folder
        // A link that leads nowhere is there, and in the way.
        if (
          isMissing &&
          !(await lstat(folder).then(
            () => true,
            () => false,
          ))
        )
          continue
        throw this.#unusable(`cannot be written: ${messageOf(error)}`, { cause: error })
      }
    }
  }

  async #makeFolder(): Promise<void> {
    await this.#orUnusable('be made', async () => {
      const made = await mkdir(this.#folder, { recursive: true, mode: folderMode })
      // A new folder is durable only when the folder that holds it has been written as well, at every level made. An
      // earlier run may have been cut off in between, so the last is always written.
      const last = made === undefined ? this.#folder : made
      for (let folder = this.#folder; ; folder = path.dirname(folder)) {
        await syncFolder(path.dirname(folder)).catch((error: unknown) => {
          // Of a folder that we did not make, somebody else may own the parent.
          if (made !== undefined) throw error
        })
        if (folder === last) return
      }
    })
  }

  /** Runs something that only a fault of the folder or its disk can make fail. */
  async #orUnusable<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof RetentionError) throw error
      throw this.#unusable(`cannot ${what}: ${messageOf(error)}`, { cause: error })
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

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The bytes of an open file, which is closed with their end; all chunks are read into one buffer, where one is given. */
async function* chunksOf(handle: FileHandle, location: string, into: Buffer | undefined): AsyncGenerator<Buffer> {
  try {
    for (;;) {
      const buffer = into ?? Buffer.allocUnsafeSlow(chunkBytes)
      const { bytesRead } = await handle.read(buffer, 0, buffer.length)
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } catch (error) {
    throw unreadable(location, error)
  } finally {
    await handle.close()
  }
}

function unreadable(location: string, cause: unknown): RetentionError {
  return new RetentionError('ARCHIVE_CHANGED', `${location} cannot be read as a file: ${messageOf(cause)}`, { cause })
}

function ignoreMissing(error: unknown): void {
  if (codeOf(error) !== 'ENOENT') throw error
}
