/** Proves that a service stores what it is given and overwrites nothing: some that speak S3 pass over `If-None-Match`. */
import { createHash, randomBytes } from 'node:crypto'

import type { S3 } from '@aws-sdk/client-s3'

import { RetentionError } from '../errors.ts'
import { statusOf } from './s3-errors.ts'
import { ignoreNoUpload, type ObjectSettings } from './s3-upload.ts'

/** Services that have proven it to this process. */
const proven = new Set<string>()

/**
 * Stores a small object, tries to overwrite it in both ways that archives are stored, and removes it.
 * @param service what is proven once of it need not be again
 * @throws RetentionError `TARGET_UNUSABLE` when something can be overwritten; else the SDK's errors
 */
export async function prove(
  s3: S3,
  { Bucket, prefix, settings }: { Bucket: string; prefix: string; settings: ObjectSettings },
  service: string,
): Promise<void> {
  const Key = `${prefix}probe-${randomBytes(6).toString('hex')}`
  // A lock would keep it.
  const { ObjectLockMode: _, ObjectLockRetainUntilDate: __, ...kept } = settings
  const Body = Buffer.from('retention looks whether files can be stored here\n')
  const ChecksumSHA256 = createHash('sha256').update(Body).digest('base64')
  const put = (): Promise<unknown> => s3.putObject({ Bucket, Key, ...kept, Body, ChecksumSHA256, IfNoneMatch: '*' })
  await put()
  try {
    if (proven.has(service)) return
    await mustFail(service, 'PutObject', put)
    const { UploadId } = await s3.createMultipartUpload({ Bucket, Key, ...kept, ChecksumAlgorithm: 'SHA256' })
    const part = { PartNumber: 1, ChecksumSHA256 }
    try {
      const { ETag } = await s3.uploadPart({ Bucket, Key, UploadId, Body, ...part })
      const MultipartUpload = { Parts: [{ ...part, ETag }] }
      await mustFail(service, 'CompleteMultipartUpload', () =>
        s3.completeMultipartUpload({ Bucket, Key, UploadId, MultipartUpload, IfNoneMatch: '*' }),
      )
    } finally {
      await s3.abortMultipartUpload({ Bucket, Key, UploadId }).catch(ignoreNoUpload)
    }
    proven.add(service)
  } finally {
    await s3.deleteObject({ Bucket, Key })
  }
}

async function mustFail(service: string, operation: string, request: () => Promise<unknown>): Promise<void> {
  const status = await request().then(
    () => 200,
    (error: unknown) => {
      if (statusOf(error) !== 412) throw error
      return 412
    },
  )
  if (status === 412) return
  throw new RetentionError(
    'TARGET_UNUSABLE',
    `${service} overwrites files: it passes over If-None-Match in ${operation}`,
    {
      hint: 'An archive could be lost there. Use a service, or a newer version of it, with conditional writes.',
    },
  )
}
