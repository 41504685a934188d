/** A folder of Google Drive and the files in it, through Drive's interface of version 3. */
import { statusOf } from './gdrive-errors.ts'
import { ask, askJson, textOf } from './gdrive-http.ts'

/** A file, as far as it matters here. */
export interface DriveFile {
  readonly id: string
  readonly name: string
  readonly mimeType: string
  readonly trashed: boolean
  /** In bytes, as a decimal number; what has no bytes of its own has none. */
  readonly size?: string
  /** Hexadecimal, of the bytes; what has no bytes of its own has none. */
  readonly md5Checksum?: string
  readonly sha256Checksum?: string
  /** The shared drive that it is on; undefined: none. */
  readonly driveId?: string
  /** What these credentials may do; each of it is there only where it means something. */
  readonly capabilities?: Readonly<Partial<Record<Capability, boolean>>>
  /** The ids of who may do something with it; on a shared drive they may be left out. */
  readonly permissionIds?: readonly string[]
}

type Capability = 'canDelete' | 'canAddChildren' | 'canListChildren' | 'canTrashChildren' | 'canDeleteChildren'

const files = '/drive/v3/files'
const fields = 'id,name,mimeType,trashed,size,md5Checksum'
/** What is asked of a file that was just stored, beside what is asked of each. */
export const checksums = ',sha256Checksum'
export const storedFields = `${fields}${checksums}`
const folderType = 'application/vnd.google-apps.folder'
/** Without it, files on shared drives are not there. */
export const onAllDrives = { supportsAllDrives: 'true' }

/** Ids that are nobody's yet. */
const unusedIds: string[] = []

/** An id for a new file: with it, a request that is made twice makes one file. */
export async function newId(): Promise<string> {
  if (unusedIds.length === 0) {
    const query = { count: '50', space: 'drive', type: 'files', fields: 'ids' }
    const { ids } = await askJson<{ ids: string[] }>({ method: 'GET', to: `${files}/generateIds`, query })
    unusedIds.push(...ids)
  }
  const id = unusedIds.pop()
  if (id === undefined) throw new Error('Drive gave no ids')
  return id
}

/** A file by its id; undefined where it is not there, in the bin too. */
export async function fileOf(id: string, more = ''): Promise<DriveFile | undefined> {
  try {
    const query = { ...onAllDrives, fields: `${fields}${more}` }
    const file = await askJson<DriveFile>({ method: 'GET', to: `${files}/${id}`, query })
    return file.trashed ? undefined : file
  } catch (error) {
    if (statusOf(error) === 404) return undefined
    throw error
  }
}

/** Whether something is a folder. */
export function isFolder(file: DriveFile): boolean {
  return file.mimeType === folderType
}

/** Removes a file for good; one that is gone is no mistake. */
export async function deleteFile(id: string): Promise<void> {
  try {
    await ask({ method: 'DELETE', to: `${files}/${id}`, query: onAllDrives }, textOf)
  } catch (error) {
    if (statusOf(error) !== 404) throw error
  }
}

/** Removes a file, for good or, where the credentials allow no more, into the bin. @returns whether for good */
export async function discardFile(id: string): Promise<boolean> {
  try {
    await deleteFile(id)
    return true
  } catch (error) {
    if (statusOf(error) !== 403) throw error
    await update(id, { trashed: true })
    return false
  }
}

/** Changes what is said of a file, not its bytes. */
async function update(id: string, changes: object, query: Readonly<Record<string, string>> = {}): Promise<void> {
  await askJson({
    method: 'PATCH',
    to: `${files}/${id}`,
    query: { ...onAllDrives, ...query, fields: 'id' },
    headers: { 'content-type': 'application/json; charset=UTF-8' },
    body: Buffer.from(JSON.stringify(changes)),
  })
}

/** A part of a list. */
interface Page {
  readonly files?: readonly DriveFile[]
  readonly nextPageToken?: string
  readonly incompleteSearch?: boolean
}

/** A folder of which it is known that it is there. */
export class DriveFolder {
  readonly id: string
  /** The shared drive that it is on; undefined also where these credentials may see no more of that than the folder. */
  #driveId: string | undefined

  constructor({ id, driveId }: Pick<DriveFile, 'id' | 'driveId'>) {
    this.id = id
    this.#driveId = driveId
  }

  /** What has a name here, as Drive's index of names has it: that may be seconds behind, and at times minutes. */
  async named(name: string): Promise<DriveFile[]> {
    const found: DriveFile[] = []
    // Drive takes names that differ in letter case for the same.
    for await (const file of this.#search(nameIs(name))) if (file.name === name) found.push(file)
    return found
  }

  /** The same by the list of the folder: slower where there is much, and never seen to be behind. */
  async listed(name: string): Promise<DriveFile[]> {
    const found: DriveFile[] = []
    for await (const file of this.all()) if (file.name === name) found.push(file)
    return found
  }

  /** What has a name in the bin, and was here. */
  async binned(name: string): Promise<DriveFile[]> {
    const found: DriveFile[] = []
    for await (const file of this.#search(nameIs(name), true)) if (file.name === name) found.push(file)
    return found
  }

  /** All that is here, folders too. */
  all(): AsyncGenerator<DriveFile> {
    return this.#search()
  }

  /** The folders of a name here. */
  async folders(name: string): Promise<DriveFolder[]> {
    const found = await this.named(name)
    return found.filter(isFolder).map(({ id }) => new DriveFolder({ id, ...this.#drive }))
  }

  async makeFolder(name: string): Promise<DriveFolder> {
    const id = await newId()
    const body = Buffer.from(JSON.stringify({ id, name, mimeType: folderType, parents: [this.id] }))
    const headers = { 'content-type': 'application/json; charset=UTF-8' }
    await askJson({ method: 'POST', to: files, query: { ...onAllDrives, fields: 'id' }, headers, body }).catch(
      (error: unknown) => {
        // Made by a request whose answer was lost.
        if (statusOf(error) !== 409) throw error
      },
    )
    return new DriveFolder({ id, ...this.#drive })
  }

  /** Moves a file from here to another folder, under another name. */
  async move(id: string, to: DriveFolder, name: string): Promise<void> {
    await update(id, { name }, { addParents: to.id, removeParents: this.id })
  }

  get #drive(): { driveId: string } | object {
    return this.#driveId === undefined ? {} : { driveId: this.#driveId }
  }

  async *#search(condition?: string, trashed = false): AsyncGenerator<DriveFile> {
    const conditions = [
      `'${this.id}' in parents`,
      `trashed = ${trashed}`,
      ...(condition === undefined ? [] : [condition]),
    ]
    const query = {
      ...onAllDrives,
      includeItemsFromAllDrives: 'true',
      spaces: 'drive',
      q: conditions.join(' and '),
      pageSize: '1000',
      fields: `nextPageToken,incompleteSearch,files(${fields})`,
    }
    for (let pageToken: string | undefined; ;) {
      const page = await this.#page({ ...query, ...(pageToken === undefined ? {} : { pageToken }) })
      if (page.incompleteSearch === true) throw new Error('Drive has not looked everywhere')
      yield* page.files ?? []
      pageToken = page.nextPageToken
      if (pageToken === undefined) return
    }
  }
  async #page(query: Readonly<Record<string, string>>): Promise<Page> {
    const driveId = this.#driveId
    const where = driveId === undefined ? { corpora: 'user' } : { corpora: 'drive', driveId }
    try {
      return await askJson<Page>({ method: 'GET', to: files, query: { ...query, ...where } })
    } catch (error) {
      if (statusOf(error) !== 404 || driveId === undefined) throw error
      // For whoever is let into the folder alone, the drive is not there.
      this.#driveId = undefined
      return this.#page(query)
    }
  }
}

/** A condition of a search, quoted as Drive wants it. */
function nameIs(name: string): string {
  return `name = '${name.replaceAll(/[\\']/g, String.raw`\$&`)}'`
}
