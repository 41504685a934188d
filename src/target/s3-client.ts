/** Speaks to an S3 service through the AWS SDK, which is loaded when it is first needed. */
import type { S3 } from '@aws-sdk/client-s3'

import type { S3Address } from '../config/s3-address.ts'
import { codeOf, RetentionError } from '../errors.ts'

/** How often a request is made in all, when the service or the way to it fails; the SDK waits longer each time. */
const attempts = 5
/** How long a connection may take, and how long one may be silent, in milliseconds. */
const connectionTimeout = 10_000
const socketTimeout = 60_000

/** One for each service, so that connections and credentials are used again. */
const clients = new Map<string, Promise<S3>>()

/**
 * The client for a bucket's service.
 * @throws RetentionError `TARGET_UNUSABLE` when the SDK is not installed
 */
export async function clientFor(address: S3Address): Promise<S3> {
  const { region, endpoint, pathStyle } = address
  const key = JSON.stringify([region, endpoint, pathStyle])
  const client = clients.get(key) ?? makeClient(address)
  clients.set(key, client)
  return client
}

async function makeClient({ region, endpoint, pathStyle }: S3Address): Promise<S3> {
  const sdk = await loadSdk()
  // Services that are not AWS seldom care; the SDK does.
  const chosen = region ?? (endpoint === undefined || process.env['AWS_REGION'] ? undefined : 'us-east-1')
  const client = new sdk.S3({
    ...(chosen === undefined ? {} : { region: chosen }),
    ...(endpoint === undefined ? { followRegionRedirects: true } : { endpoint }),
    forcePathStyle: pathStyle,
    maxAttempts: Number(process.env['AWS_MAX_ATTEMPTS']) || attempts,
    // Each upload has a checksum of its own, and all that is read is compared with the ledger's.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Before each part it would wait for the service to say that it wants it.
    expectContinueHeader: false,
    requestHandler: { connectionTimeout, socketTimeout },
  })
  // The signature is over the SHA-256 of what is sent: with the one that is known, it need not be computed again. Services
  // that take no checksums verify this one all the same.
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers?: Record<string, string> }
      const sha256 = headers?.['x-amz-checksum-sha256']
      if (headers !== undefined && sha256 !== undefined)
        headers['x-amz-content-sha256'] = Buffer.from(sha256, 'base64').toString('hex')
      return next(args)
    },
    { step: 'build', name: 'sha256IsKnown' },
  )
  return client
}

async function loadSdk(): Promise<typeof import('@aws-sdk/client-s3')> {
  try {
    return await import('@aws-sdk/client-s3')
  } catch (error) {
    if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new RetentionError('TARGET_UNUSABLE', 'Targets on S3 need the package @aws-sdk/client-s3', {
      hint: 'npm install @aws-sdk/client-s3',
    })
  }
}
