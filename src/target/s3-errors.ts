/** What a failure of an S3 service means, and what to do about it. None of the SDK's errors leaves: they hold credentials. */
import { codeOf, messageOf, type RetentionError } from '../errors.ts'
import { unusableTarget, type Explanation } from './unusable.ts'

/** What the SDK puts on its errors; each of it may be missing. */
interface SdkError {
  readonly name: string
  readonly message: string
  readonly $metadata?: { readonly httpStatusCode?: number; readonly attempts?: number }
  readonly $response?: { readonly headers?: Record<string, string> }
  /** The bucket's region, where the one asked is another's. */
  readonly Region?: string
}

/** The HTTP status of a service's answer; undefined where there was none. */
export function statusOf(error: unknown): number | undefined {
  return isSdkError(error) ? error.$metadata?.httpStatusCode : undefined
}

/** A header of the answer that an error is, by its name in small letters. */
export function headerOf(error: unknown, name: string): string | undefined {
  return isSdkError(error) ? error.$response?.headers?.[name] : undefined
}

/** What a service calls an error. */
export function nameOf(error: unknown): string {
  return isSdkError(error) ? error.name : ''
}

/** Whether it is known that the service has not done what it was asked for. */
export function isRefused(error: unknown): boolean {
  const status = statusOf(error) ?? 0
  return status >= 400 && status < 500 && status !== 408
}

/** A failure as this package tells it. @param what could not be done, as in `cannot <what>` */
export function unusable(target: string, what: string, error: unknown): RetentionError {
  return unusableTarget(target, what, error, explain)
}

function explain(error: unknown): Explanation {
  const name = nameOf(error)
  const status = statusOf(error)
  const said = withoutKeys(`${messageOf(error)}${name === '' || messageOf(error).startsWith(name) ? '' : ` (${name})`}`)
  switch (name) {
    case 'NoSuchBucket':
      return { problem: 'there is no such bucket', hint: 'Check its name, and "region" and "endpoint" in the address.' }
    case 'ExpiredToken':
    case 'ExpiredTokenException':
    case 'TokenRefreshRequired':
      return {
        problem: `the credentials have expired (${name})`,
        hint: 'Renew them, with "aws sso login" for example.',
      }
    case 'CredentialsProviderError':
      return { problem: `no credentials: ${said}`, hint: credentialsHint }
    case 'InvalidAccessKeyId':
    case 'SignatureDoesNotMatch':
    case 'InvalidToken':
      return { problem: `it does not take the credentials (${name})`, hint: credentialsHint }
    case 'RequestTimeTooSkewed':
    case 'RequestExpired':
      return {
        problem: `this machine's clock is off${byHowMuch(error)} (${name})`,
        hint: 'Set it, by NTP for example.',
      }
    case 'PermanentRedirect':
    case 'AuthorizationHeaderMalformed':
    case 'IllegalLocationConstraintException':
      return { problem: said, hint: `Write the bucket's region into the address: ?region=${regionOf(error) ?? '…'}` }
    case 'InvalidObjectState':
      return { problem: said, hint: 'It has been moved to cold storage: have the service bring it back first.' }
    case 'NotImplemented':
      return { problem: `the service does not know the request: ${said}` }
  }
  if (said.startsWith('Region is missing'))
    return { problem: said, hint: 'Add ?region=… to the address, or set AWS_REGION.' }
  if (status === 403)
    return { problem: `access is denied: ${said}`, hint: 'README.md lists what the credentials must be allowed to do.' }
  if (status !== undefined && status >= 500) return { problem: `${said}, also when tried again` }
  const code = codeOf(error)
  return { problem: code === undefined || said.includes(code) ? said : `${said} (${code})` }
}

const credentialsHint =
  'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives some.'

/** Messages of services may quote the key's id. */
function withoutKeys(text: string): string {
  return text.replaceAll(/\b(?:AKIA|ASIA)[A-Z0-9]{8,}\b/g, '***')
}

function byHowMuch(error: unknown): string {
  const date = isSdkError(error) ? error.$response?.headers?.['date'] : undefined
  const seconds = Math.round((Date.now() - Date.parse(date ?? '')) / 1000)
  if (Number.isNaN(seconds)) return ''
  return ` by about ${Math.abs(seconds)} seconds, ${seconds < 0 ? 'behind' : 'ahead'}`
}

function regionOf(error: unknown): string | undefined {
  if (!isSdkError(error)) return undefined
  return error.Region ?? error.$response?.headers?.['x-amz-bucket-region']
}

function isSdkError(error: unknown): error is SdkError {
  return error instanceof Error
}
