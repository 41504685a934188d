/** What a failure of Google Drive means, and what to do about it. */
import { codeOf, messageOf, RetentionError } from '../errors.ts'
import { unusableTarget, type Explanation } from './unusable.ts'

/** An answer of Drive that is an error. */
export class DriveError extends Error {
  readonly status: number
  /** Drive's word for it, such as `userRateLimitExceeded`; empty where it gives none. */
  readonly reason: string
  /** After how many milliseconds Drive wants to be asked again; undefined where it does not say. */
  readonly retryAfter: number | undefined

  constructor(status: number, reason: string, message: string, retryAfter?: number) {
    super(message)
    this.name = 'DriveError'
    this.status = status
    this.reason = reason
    this.retryAfter = retryAfter
  }
}

/** An error of Drive's, from what it answered. */
export function driveErrorOf(status: number, body: string, retryAfter: string | undefined): DriveError {
  const { error } = parsed(body)
  const reason = error?.errors?.[0]?.reason ?? error?.status ?? ''
  const seconds = Number(retryAfter ?? Number.NaN)
  const wait = Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined
  return new DriveError(status, reason, error?.message ?? `HTTP status ${status}`, wait)
}

/** What Drive puts into the body of an error; each of it may be missing. */
interface ErrorBody {
  readonly error?: {
    readonly message?: string
    readonly status?: string
    readonly errors?: readonly { readonly reason?: string }[]
  }
}

function parsed(body: string): ErrorBody {
  try {
    // Its form is Drive's; whatever else comes has none of these fields.
    const value = JSON.parse(body) as ErrorBody | null
    return typeof value?.error === 'object' ? value : {}
  } catch {
    return {}
  }
}

/** The HTTP status of Drive's answer; undefined where there was none. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof DriveError ? error.status : undefined
}

/** Drive's word for an error. */
function reasonOf(error: unknown): string {
  return error instanceof DriveError ? error.reason : ''
}

/** Whether Drive takes a file for malware or spam. */
export function isFlagged(error: unknown): boolean {
  return reasonOf(error) === 'cannotDownloadAbusiveFile'
}

/** Whether the same request may well succeed in a moment. What is no answer of Drive's is a fault of the way to it. */
export function isPassing(error: unknown): boolean {
  if (error instanceof RetentionError) return false
  const status = statusOf(error)
  if (status === undefined) return true
  return status === 408 || status === 429 || status >= 500 || (status === 403 && rateLimits.has(reasonOf(error)))
}

const rateLimits: ReadonlySet<string> = new Set(['rateLimitExceeded', 'userRateLimitExceeded', 'backendError'])

/** A failure as this package tells it. @param what could not be done, as in `cannot <what>` */
export function unusable(target: string, what: string, error: unknown): RetentionError {
  return unusableTarget(target, what, error, explain)
}

/** With a smaller one, what others made is not there: the folder. */
const scopeHint = 'A token must have the scope https://www.googleapis.com/auth/drive.'

function explain(error: unknown): Explanation {
  const reason = reasonOf(error)
  const status = statusOf(error)
  const message = withoutTokens(messageOf(error))
  const said = reason === '' || message.includes(reason) ? message : `${message} (${reason})`
  if (status === 401)
    return {
      problem: `it does not take the credentials, also when they were renewed: ${said}`,
      hint: 'A token of RETENTION_GDRIVE_TOKEN lasts an hour; a key file has new ones made.',
    }
  if (status === 404)
    return {
      problem: 'there is no such folder or file, it is in the bin, or these credentials may not see it',
      hint: `Check the folder's id, and share the folder with the account whose credentials these are. ${scopeHint}`,
    }
  if (isFlagged(error))
    return {
      problem: `Drive takes the file for malware or spam: ${said}`,
      hint: 'It gives it to its owner alone; on a shared drive, to managers of the drive. Use the credentials of one.',
    }
  switch (reason) {
    case 'storageQuotaExceeded':
    case 'quotaExceeded':
      return {
        problem: `there is no room: ${said}`,
        hint: 'A service account has no storage of its own: use a folder of a shared drive, with the account as its content manager.',
      }
    case 'accessNotConfigured':
    case 'SERVICE_DISABLED':
      return { problem: said, hint: "Enable the Google Drive API in the credentials' project." }
    case 'insufficientPermissions':
    case 'insufficientScopes':
    case 'appNotAuthorizedToFile':
      return { problem: said, hint: scopeHint }
    case 'dailyLimitExceeded':
    case 'downloadQuotaExceeded':
      return { problem: `a quota is used up: ${said}`, hint: 'It is there again within a day.' }
    case 'insufficientFilePermissions':
    case 'insufficientParentPermissions':
    case 'forbidden':
      return {
        problem: `access is denied: ${said}`,
        hint: 'The account must be an editor of the folder; on a shared drive, its content manager.',
      }
    case 'numChildrenInNonRootLimitExceeded':
    case 'teamDriveFileLimitExceeded':
    case 'sharedDriveFileLimitExceeded':
      return { problem: `it holds no more files: ${said}`, hint: 'Begin another folder, on another shared drive.' }
  }
  if (status === 403 && !isPassing(error)) return { problem: `access is denied: ${said}` }
  if (status !== undefined && isPassing(error)) return { problem: `${said}, also when tried again` }
  const code = codeOf(error)
  return { problem: code === undefined || said.includes(code) ? said : `${said} (${code})` }
}

/** Without what looks like a token, or lets one send to an upload, should a message quote it. */
function withoutTokens(text: string): string {
  const own = process.env['RETENTION_GDRIVE_TOKEN']
  const known = own === undefined || own === '' ? text : text.replaceAll(own, '***')
  const unnamed = known.replaceAll(/\bupload_id=[^\s&"']+/g, 'upload_id=***')
  return unnamed.replaceAll(/\b(?:ya29\.|1\/\/|eyJ)[\w.-]{8,}/g, '***')
}
