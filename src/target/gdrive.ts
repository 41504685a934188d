/** A folder of Google Drive as target: checked by checksums, of constant memory, and never overwriting anything. */
import { randomBytes } from 'node:crypto'

import type { GdriveAddress } from '../config/gdrive-address.ts'
import { RetentionError } from '../errors.ts'
import { download } from './gdrive-download.ts'
import { DriveError, statusOf, unusable } from './gdrive-errors.ts'
import { deleteFile, discardFile, DriveFolder, fileOf, isFolder, type DriveFile } from './gdrive-files.ts'
import { hasNameAlone } from './gdrive-name.ts'
import { folderFields, problemWith } from './gdrive-proof.ts'
import { DriveUpload } from './gdrive-upload.ts'
import type { Draft, Target } from './target.ts'

/** Where files go that were set aside. */
const asideFolder = 'set-aside'

export class DriveTarget implements Target {
  readonly name: string
  readonly #id: string
  #folder: Promise<DriveFolder> | undefined
  /** What was stored through this object: Drive's index of names may be behind. */
  readonly #stored = new Map<string, DriveFile>()

  /** @param name the address as the config writes it */
  constructor(name: string, { folder }: GdriveAddress) {
    this.name = name
    this.#id = folder
  }

  async identity(): Promise<string> {
    return `Google Drive ${this.#id}`
  }

  locate(file: string): string {
    return `gdrive://${this.#id}/${file}`
  }

  async check(): Promise<void> {
    await this.#orUnusable('store files', async () => {
      const problem = await problemWith(await this.#look())
      if (problem === undefined) return
      const { text, hint } = problem
      throw new RetentionError('TARGET_UNUSABLE', `The target ${this.name} cannot store files: ${text}`, { hint })
    })
  }

  async prepare(): Promise<void> {
    await this.check()
    const probe = `probe-${randomBytes(6).toString('hex')}`
    const draft = await this.create(probe)
    try {
      await draft.write(Buffer.from('retention looks whether files can be stored here\n'))
      await draft.publish()
    } catch (error) {
      await draft.discard().catch(() => {})
      throw error
    }
    const stored = this.#stored.get(probe)
    this.#stored.delete(probe)
    if (stored !== undefined) await this.#orUnusable('remove files', () => discardFile(stored.id))
  }

  async create(file: string): Promise<Draft> {
    this.#checkName(file)
    const upload = new DriveUpload({ folder: this.#id, name: file, location: this.locate(file) })
    let isDone = false
    return {
      write: (chunk) => this.#orUnusable(`write ${file}`, () => upload.write(chunk)),
      publish: () =>
        this.#orUnusable(`store ${file}`, async () => {
          const folder = await this.#opened()
          if ((await folder.named(file)).length > 0) throw this.#inTheWay(file)
          const stored = await upload.finish()
          if (!(await hasNameAlone(folder, stored, upload.signal))) throw this.#inTheWay(file)
          this.#stored.set(file, stored)
          isDone = true
        }),
      discard: async () => {
        if (!isDone) await this.#orUnusable(`give ${file} up`, () => upload.discard())
      },
    }
  }

  async has(file: string): Promise<boolean> {
    this.#checkName(file)
    return this.#orUnusable(`look for ${file}`, async () => {
      const stored = this.#stored.get(file)
      const isThere = stored !== undefined && (await fileOf(stored.id)) !== undefined
      return isThere || (await this.#all(file)).length > 0
    })
  }

  async read(file: string): Promise<AsyncIterable<Buffer>> {
    this.#checkName(file)
    const found = await this.#orUnusable(`read ${file}`, () => this.#one(file))
    if (found === undefined) throw this.#notFound(file)
    if (found.md5Checksum === undefined)
      throw new RetentionError(
        'ARCHIVE_CHANGED',
        `${this.locate(file)} cannot be read as a file: it is of the type ${found.mimeType}`,
      )
    return this.#told(file, download(found, this.locate(file)))
  }

  /** Where the credentials may not remove for good, the file goes into the bin, and that is told. */
  async withdraw(file: string): Promise<void> {
    this.#checkName(file)
    await this.#orUnusable(`remove ${file}`, async () => {
      const found = await this.#one(file)
      if (found === undefined) return
      const isGone = await discardFile(found.id)
      this.#stored.delete(file)
      if (!isGone)
        throw new RetentionError(
          'TARGET_UNUSABLE',
          `${this.locate(file)} is in Drive's bin, and not removed for good`,
          {
            hint: deleteHint,
          },
        )
    })
  }

  async remove(file: string): Promise<void> {
    this.#checkName(file)
    await this.#orUnusable(`remove ${file}`, async () => {
      const found = await this.#one(file)
      if (found === undefined) return this.#checkBin(file)
      await deleteFile(found.id).catch((error: unknown) => {
        if (statusOf(error) !== 403) throw error
        const text = `${this.locate(file)} cannot be removed: it could only go into Drive's bin, and stay there`
        throw new RetentionError('TARGET_UNUSABLE', text, { hint: deleteHint })
      })
      this.#stored.delete(file)
    })
  }

  async lockOn(file: string): Promise<string | undefined> {
    this.#checkName(file)
    return this.#orUnusable(`ask whether ${file} can be removed`, async () => {
      const found = await this.#one(file)
      const details = found === undefined ? undefined : await fileOf(found.id, ',capabilities')
      const isKept = details?.capabilities?.canDelete === false
      return isKept ? 'kept by Drive, which lets these credentials do no more than put it into the bin' : undefined
    })
  }

  async setAside(file: string): Promise<void> {
    this.#checkName(file)
    await this.#orUnusable(`set ${file} aside`, async () => {
      const found = await this.#one(file)
      if (found === undefined) throw this.#notFound(file)
      const folder = await this.#opened()
      const [aside = await folder.makeFolder(asideFolder)] = await folder.folders(asideFolder)
      for (let number = 0; ; number += 1) {
        const name = `${file}${number === 0 ? '' : `.${number}`}`
        if ((await aside.named(name)).length > 0) continue
        await folder.move(found.id, aside, name)
        break
      }
      this.#stored.delete(file)
    })
  }

  async list(): Promise<string[]> {
    return this.#orUnusable('be listed', async () => {
      const names = new Set<string>()
      for await (const file of (await this.#opened()).all()) if (!isFolder(file)) names.add(file.name)
      return [...names]
    })
  }

  async listAside(): Promise<string[]> {
    return this.#orUnusable('be listed', async () => {
      const addresses: string[] = []
      for (const aside of await (await this.#opened()).folders(asideFolder))
        for await (const { name } of aside.all()) addresses.push(`gdrive://${aside.id}/${name}`)
      return addresses
    })
  }

  /** Whose file is in the bin, nobody can tell: it is left there. @throws RetentionError `TARGET_UNUSABLE` where one is */
  async #checkBin(file: string): Promise<void> {
    const [binned] = await (await this.#opened()).binned(file)
    if (binned === undefined) return
    const text = `${this.locate(file)} is in Drive's bin, with all its bytes`
    const hint = `Delete it there for good: the file with the id ${binned.id}.`
    throw new RetentionError('TARGET_UNUSABLE', text, { hint })
  }

  /** The one file of a name; undefined where there is none. @throws RetentionError `ARCHIVE_CHANGED` where there are several */
  async #one(file: string): Promise<DriveFile | undefined> {
    const stored = this.#stored.get(file)
    if (stored !== undefined) return stored
    const found = await this.#all(file)
    if (found.length < 2) return found[0]
    throw new RetentionError(
      'ARCHIVE_CHANGED',
      `There are ${found.length} files called ${this.locate(file)}, with the ids ${found.map(({ id }) => id).join(', ')}`,
      { hint: 'One of them is not ours. Look at both, and rename the one that is not to be there.' },
    )
  }

  async #all(file: string): Promise<DriveFile[]> {
    const folder = await this.#opened()
    const named = await folder.named(file)
    return named.length > 0 ? named : folder.listed(file)
  }

  async #opened(): Promise<DriveFolder> {
    this.#folder ??= this.#look().then((folder) => new DriveFolder(folder))
    return this.#folder.catch((error: unknown) => {
      this.#folder = undefined
      throw error
    })
  }

  async #look(): Promise<DriveFile> {
    const folder = await fileOf(this.#id, folderFields)
    if (folder === undefined) throw new DriveError(404, 'notFound', 'there is no such folder')
    return folder
  }

  #checkName(file: string): void {
    if (file === '' || file === '.' || file === '..' || /[/\0]/.test(file))
      throw new RetentionError('ARCHIVE_NOT_FOUND', `${JSON.stringify(file)} is not the name of a file in ${this.name}`)
  }

  #inTheWay(file: string): RetentionError {
    return new RetentionError('ARCHIVE_EXISTS', `${this.locate(file)} is in the way; it is left as it is`)
  }

  #notFound(file: string): RetentionError {
    return new RetentionError('ARCHIVE_NOT_FOUND', `There is no file ${this.locate(file)}`)
  }

  async #orUnusable<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw unusable(this.name, what, error)
    }
  }

  /** A file's bytes, with failures told in our words. */
  async *#told(file: string, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* bytes
    } catch (error) {
      throw statusOf(error) === 404 ? this.#notFound(file) : unusable(this.name, `read ${file}`, error)
    }
  }
}

const deleteHint =
  'To remove for good, the account must own the file; on a shared drive, it must be a manager of the drive.'
