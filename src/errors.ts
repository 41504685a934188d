/** The one error type that leaves this package, and the codes that scripts can rely on. */

/** What went wrong, in a word that stays the same between releases. */
export type ErrorCode =
  /** The command line, or the options of a library call, cannot be understood. */
  | 'USAGE'
  /** No configuration file was found. */
  | 'CONFIG_NOT_FOUND'
  /** The configuration or a policy file has mistakes; all of them are in the message. */
  | 'CONFIG_INVALID'
  /** A policy was named that does not exist. */
  | 'POLICY_UNKNOWN'
  /** A hold was named that does not exist, or has been released. */
  | 'HOLD_UNKNOWN'
  /** The database cannot be opened or reached. */
  | 'DATABASE_UNREACHABLE'
  /** The database answered with an error. */
  | 'DATABASE_FAILED'
  /** The database stayed locked by somebody else for longer than we wait. */
  | 'DATABASE_BUSY'
  /** A policy cannot work on the live schema, or would do harm. */
  | 'REFUSED'
  /** More rows are due than `maxRows` or `maxPercent` allow. */
  | 'PLAN_TOO_LARGE'
  /** Another run holds the policy. */
  | 'POLICY_LOCKED'
  /** A step's rows kept changing under it. */
  | 'ROWS_CHANGED'
  /** The connection broke at COMMIT, and the outcome could not be learned. */
  | 'COMMIT_UNKNOWN'
  /** Archives cannot be stored at the target. */
  | 'TARGET_UNUSABLE'
  /** A file of that name is in the way; it is left alone. */
  | 'ARCHIVE_EXISTS'
  /** No such archive, in the ledger or on the target. */
  | 'ARCHIVE_NOT_FOUND'
  /** An archive's bytes are not what was stored. */
  | 'ARCHIVE_CHANGED'
  /** An archive is sealed, or is to be, and its key is not at hand. */
  | 'KEY_MISSING'
  /** An archive is sealed, and not with the key that was given. */
  | 'KEY_WRONG'
  /** An optional package is needed, and not installed. */
  | 'PACKAGE_MISSING'
  /** A manifest cannot be read, or does not belong to its archive. */
  | 'MANIFEST_INVALID'
  /** The ledger was written by a newer version of this tool. */
  | 'LEDGER_TOO_NEW'
  /** The ledger does not hold what it must. */
  | 'LEDGER_INVALID'
  /** The archive has been restored before. */
  | 'ALREADY_RESTORED'
  /** Rows of the archive are in the table already. */
  | 'RESTORE_CONFLICT'
  /** Rows of the archive do not fit their table as it is now: a value its column, or a row a constraint. */
  | 'ROWS_UNFIT'
  /** The restored rows are not, byte for byte, those of the archive. */
  | 'RESTORE_MISMATCH'
  /** A query on archives failed, in DuckDB's words. */
  | 'QUERY_FAILED'
  /** The run was interrupted by a signal. */
  | 'INTERRUPTED'
  /** Nobody foresaw this: a mistake in this package. */
  | 'UNEXPECTED'

/** Every error this package throws on purpose: what failed, and in `hint` what to do about it. */
export class RetentionError extends Error {
  override readonly name = 'RetentionError'
  readonly code: ErrorCode
  /** What the reader can do about it. */
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause })
    this.code = code
    this.hint = options.hint
  }
}

/** Whether an error is ours, and of that code. */
export function hasCode(error: unknown, code: ErrorCode): error is RetentionError {
  return error instanceof RetentionError && error.code === code
}

/** Anything that can be thrown as one of ours: what nobody foresaw is `UNEXPECTED`. */
export function asRetentionError(error: unknown): RetentionError {
  return error instanceof RetentionError ? error : new RetentionError('UNEXPECTED', messageOf(error), { cause: error })
}

/** The message of anything that can be thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(messageOf).join('; ')
  }
  return error instanceof Error ? error.message : String(error)
}

/** The `code` that Node, Postgres and SQLite put on their errors, if there is one. */
export function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
}

/**
 * The text with the user name and password of every address in it replaced by `***`, and so the value of every
 * parameter such as `password=` or `secretKey=`: for whatever is quoted from a configuration.
 */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s"'`]*@/gi, '$1***@')
    .replaceAll(/(%3A%2F%2F)[^\s"'`&]*%40/gi, '$1***%40')
    .replaceAll(/([?&\s][\w-]*(?:password|passwd|pwd|token|secret|key|credential)[\w-]*=)[^&\s"'`]*/gi, '$1***')
}
