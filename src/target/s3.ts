/** A folder of an S3 bucket as target: exclusive, checked by checksums, and of constant memory. */
import { createHash } from 'node:crypto'

import type { HeadObjectCommandOutput, ListMultipartUploadsCommandOutput, S3 } from '@aws-sdk/client-s3'

import type { TargetConfig } from '../config/fields.ts'
import type { S3Address } from '../config/s3-address.ts'
import { expiryAt } from '../cutoff.ts'
import { RetentionError } from '../errors.ts'
import { clientFor } from './s3-client.ts'
import { download } from './s3-download.ts'
import { headerOf, nameOf, statusOf, unusable } from './s3-errors.ts'
import { prove } from './s3-proof.ts'
import { ignoreNoUpload, S3Upload, type ObjectSettings } from './s3-upload.ts'
import type { Draft, Target } from './target.ts'

/** Where files go that were set aside. */
const asideFolder = 'set-aside/'

const day = 24 * 60 * 60 * 1000

/** What of a config is for S3 alone. */
export type S3Settings = Pick<TargetConfig, 'storageClass' | 'sseKmsKey' | 'objectLock' | 'expiry'>

export class S3Target implements Target {
  readonly name: string
  readonly #address: S3Address
  readonly #settings: S3Settings

  /** @param name the address as the config writes it */
  constructor(name: string, address: S3Address, settings: S3Settings = {}) {
    this.name = name
    this.#address = address
    this.#settings = settings
  }

  async identity(): Promise<string> {
    const { bucket, prefix } = this.#address
    return `${this.#service} ${bucket}/${prefix}`
  }

  locate(file: string): string {
    const { bucket, prefix } = this.#address
    return `s3://${bucket}/${prefix}${file}`
  }

  async check(): Promise<void> {
    // Unlike HeadBucket it is answered with a reason.
    await this.#orUnusable('be read', (s3) => s3.listObjectsV2({ ...this.#place, MaxKeys: 1 }))
  }

  async prepare(): Promise<void> {
    await this.check()
    const { bucket, prefix } = this.#address
    const at = { Bucket: bucket, prefix, settings: this.#objectSettings() }
    await this.#orUnusable('store files', (s3) => prove(s3, at, this.#service))
  }

  async create(file: string): Promise<Draft> {
    return this.#draft(file, file)
  }

  async has(file: string): Promise<boolean> {
    const object = this.#object(file)
    return this.#orUnusable(`look for ${file}`, async (s3) => typeof (await headOf(s3, object)) === 'object')
  }

  async read(file: string, into?: Buffer): Promise<AsyncIterable<Buffer>> {
    const object = this.#object(file)
    const [s3, first] = await this.#orUnusable(`read ${file}`, async (client) => {
      try {
        return [client, await client.getObject(object)] as const
      } catch (error) {
        if (nameOf(error) !== 'NoSuchKey') throw error
        throw new RetentionError('ARCHIVE_NOT_FOUND', `There is no file ${this.locate(file)}`)
      }
    })
    return this.#told(file, download(s3, object, first, into !== undefined))
  }

  /** On a bucket that keeps versions, the version itself goes, unless it is locked: then it is only no longer to be seen. */
  async withdraw(file: string): Promise<void> {
    const object = this.#object(file)
    await this.#orUnusable(`remove ${file}`, async (s3) => {
      const head = await headOf(s3, object)
      if (typeof head !== 'object') return
      const { VersionId, ObjectLockRetainUntilDate: until } = head
      try {
        await s3.deleteObject({ ...object, VersionId })
      } catch (error) {
        if (VersionId === undefined || statusOf(error) !== 403) throw error
        await s3.deleteObject(object)
        const lock = until === undefined ? '' : `, locked until ${until.toISOString()}`
        throw new RetentionError(
          'TARGET_UNUSABLE',
          `${this.locate(file)} is no longer to be seen, but its version ${VersionId} stays in the bucket${lock}`,
          { hint: versionHint },
        )
      }
    })
  }

  async remove(file: string): Promise<void> {
    const object = this.#object(file)
    if (unfinishedName.test(file)) return this.#orUnusable(`give ${file} up`, (s3) => this.#abort(s3, file))
    await this.#orUnusable(`remove ${file}`, async (s3) => {
      const head = await headOf(s3, object)
      if (head === undefined) return
      if (head === 'hidden') {
        const text = `${this.locate(file)} is hidden by a delete marker, and versions of it may be in the bucket still`
        throw new RetentionError('TARGET_UNUSABLE', text, { hint: 'Remove its versions, and the marker with them.' })
      }
      const { VersionId } = head
      await s3.deleteObject({ ...object, VersionId }).catch((error: unknown) => {
        // Without the version, a mark would hide the file, and its bytes would stay unseen.
        if (VersionId === undefined || statusOf(error) !== 403) throw error
        const text = `${this.locate(file)} cannot be removed: its version ${VersionId} would stay in the bucket`
        throw new RetentionError('TARGET_UNUSABLE', text, { hint: versionHint })
      })
    })
  }

  async lockOn(file: string): Promise<string | undefined> {
    const object = this.#object(file)
    const { ObjectLockRetainUntilDate: until, ObjectLockLegalHoldStatus: hold } = await this.#orUnusable(
      `ask for locks on ${file}`,
      (s3) => s3.headObject(object),
    )
    if (hold === 'ON') return 'under a legal hold of the service'
    return until !== undefined && until.getTime() > Date.now() ? `locked until ${until.toISOString()}` : undefined
  }

  /** What is unfinished is nobody's yet, and is given up. Anything else is copied, then removed. */
  async setAside(file: string): Promise<void> {
    const object = this.#object(file)
    if (unfinishedName.test(file)) return this.#orUnusable(`give ${file} up`, (s3) => this.#abort(s3, file))
    for (let number = 0; ; number += 1) {
      const aside = `${asideFolder}${file}${number === 0 ? '' : `.${number}`}`
      const draft = this.#draft(file, aside)
      try {
        for await (const chunk of await this.read(file)) await draft.write(chunk)
        await draft.publish()
        break
      } catch (error) {
        await draft.discard().catch(() => {})
        if (!(error instanceof RetentionError) || error.code !== 'ARCHIVE_EXISTS') throw error
      }
    }
    await this.#orUnusable(`set ${file} aside`, (s3) => s3.deleteObject(object))
  }

  async list(): Promise<string[]> {
    return this.#orUnusable('be listed', async (s3) => {
      const names: string[] = []
      for (let ContinuationToken: string | undefined; ;) {
        const page = await s3.listObjectsV2({ ...this.#place, ContinuationToken })
        for (const { Key = '' } of page.Contents ?? []) names.push(this.#nameOf(Key))
        if (page.NextContinuationToken === undefined) break
        ContinuationToken = page.NextContinuationToken
      }
      for await (const { name } of this.#uploads(s3)) names.push(name)
      // The service's own browser makes an empty object of the folder's name.
      return names.filter((name) => name !== '')
    })
  }

  async listAside(): Promise<string[]> {
    return this.#orUnusable('be listed', async (s3) => {
      const addresses: string[] = []
      for (let ContinuationToken: string | undefined; ;) {
        const Prefix = `${this.#place.Prefix}${asideFolder}`
        const page = await s3.listObjectsV2({ ...this.#place, Prefix, ContinuationToken })
        for (const { Key = '' } of page.Contents ?? []) addresses.push(this.locate(this.#nameOf(Key)))
        if (page.NextContinuationToken === undefined) return addresses
        ContinuationToken = page.NextContinuationToken
      }
    })
  }

  /** Uploads that were begun and not completed, under the names that such files have in a folder. */
  async *#uploads(s3: S3): AsyncGenerator<{ name: string; Key: string; UploadId: string }> {
    const { bucket: Bucket, prefix } = this.#address
    let from: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {}
    for (;;) {
      // Of the whole bucket: MinIO takes a prefix for the key of one upload.
      const asked = s3.listMultipartUploads({ Bucket, ...from })
      const page: Partial<ListMultipartUploadsCommandOutput> = await asked.catch((error: unknown) => {
        // A service that cannot tell must clear them away itself.
        if (nameOf(error) === 'NotImplemented') return {}
        throw error
      })
      for (const { Key = '', UploadId = '' } of page.Uploads ?? []) {
        if (!Key.startsWith(prefix) || this.#nameOf(Key).includes('/')) continue
        const id = createHash('sha256').update(UploadId).digest('hex').slice(0, 12)
        yield { name: `.${this.#nameOf(Key)}.${id}.tmp`, Key, UploadId }
      }
      if (page.IsTruncated !== true) return
      from = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
    }
  }

  async #abort(s3: S3, unfinished: string): Promise<void> {
    const { bucket: Bucket } = this.#address
    for await (const { name, Key, UploadId } of this.#uploads(s3)) {
      if (name === unfinished) await s3.abortMultipartUpload({ Bucket, Key, UploadId }).catch(ignoreNoUpload)
    }
  }

  /** @param file whose failures they are @param path below the prefix */
  #draft(file: string, path: string): Draft {
    const { Key, Bucket } = { ...this.#object(file), Key: `${this.#address.prefix}${path}` }
    let upload: S3Upload | undefined
    const begun = async (s3: S3): Promise<S3Upload> =>
      (upload ??= new S3Upload({ s3, Bucket, Key, location: this.locate(path), settings: this.#objectSettings() }))
    return {
      write: (chunk) => this.#orUnusable(`write ${file}`, async (s3) => (await begun(s3)).write(chunk)),
      publish: () => this.#orUnusable(`store ${file}`, async (s3) => (await begun(s3)).publish()),
      discard: () => this.#orUnusable(`give ${file} up`, async () => upload?.discard()),
    }
  }

  #objectSettings(): ObjectSettings {
    const { storageClass, sseKmsKey, objectLock } = this.#settings
    return {
      // The services that have others than those that the SDK knows take them all the same.
      ...(storageClass === undefined
        ? {}
        : { StorageClass: storageClass as NonNullable<ObjectSettings['StorageClass']> }),
      ...(sseKmsKey === undefined ? {} : { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: sseKmsKey }),
      ...(objectLock === undefined
        ? {}
        : {
            ObjectLockMode: objectLock.mode,
            ObjectLockRetainUntilDate: this.#lockedUntil(objectLock.days),
          }),
    }
  }

  /** @param days undefined: until it expires, which the config makes sure that it does */
  #lockedUntil(days: number | undefined): Date {
    const now = new Date()
    const { expiry } = this.#settings
    if (days !== undefined || expiry === undefined) return new Date(now.getTime() + (days ?? 0) * day)
    return new Date(expiryAt(now.toISOString(), expiry))
  }

  get #service(): string {
    return this.#address.endpoint ?? 'AWS S3'
  }

  /** The files here, without those in folders below. */
  get #place(): { Bucket: string; Prefix: string; Delimiter: string } {
    return { Bucket: this.#address.bucket, Prefix: this.#address.prefix, Delimiter: '/' }
  }

  #object(file: string): { Bucket: string; Key: string } {
    if (file === '' || file === '.' || file === '..' || /[/\0]/.test(file)) {
      throw new RetentionError('ARCHIVE_NOT_FOUND', `${JSON.stringify(file)} is not the name of a file in ${this.name}`)
    }
    return { Bucket: this.#address.bucket, Key: `${this.#address.prefix}${file}` }
  }

  #nameOf(key: string): string {
    return key.slice(this.#address.prefix.length)
  }

  async #orUnusable<T>(what: string, work: (s3: S3) => Promise<T>): Promise<T> {
    try {
      return await work(await clientFor(this.#address))
    } catch (error) {
      throw unusable(this.name, what, error)
    }
  }

  /** A file's bytes, with failures told in our words. */
  async *#told(file: string, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* bytes
    } catch (error) {
      if (statusOf(error) === 412)
        throw new RetentionError('ARCHIVE_CHANGED', `${this.locate(file)} was replaced while it was read`)
      throw unusable(this.name, `read ${file}`, error)
    }
  }
}

const versionHint = 'Removing a version needs s3:DeleteObjectVersion, and that no lock holds it.'

/** What is known of an object; undefined where it is not there, `hidden` where it is not to be seen. */
async function headOf(
  s3: S3,
  object: { Bucket: string; Key: string },
): Promise<HeadObjectCommandOutput | 'hidden' | undefined> {
  return s3.headObject(object).catch((error: unknown) => {
    if (statusOf(error) !== 404) throw error
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    return headerOf(error, 'x-amz-delete-marker') === 'true' ? 'hidden' : undefined
  })
}

/** As this target lists what is unfinished. */
const unfinishedName = /^\..+\.[0-9a-f]{12}\.tmp$/
