/** Exit codes, all in one place. */
import { RetentionError } from './errors.ts'
import type { EraseReport, MoveReport, PolicyReport, PruneReport, StatusReport, VerifyReport } from './report.ts'

/** What the process's exit code says. */
export const exitCode = {
  done: 0,
  failed: 1,
  /** The command line, the config or a policy file is wrong. */
  usage: 2,
  /** `status --exit-code`: something is due; `verify`: something does not match. */
  attention: 3,
  /** Stopped early, by a limit, the time or locked rows, with due rows left; `erase`, `prune`: something is held. */
  partial: 4,
  /** Nothing could run: another run holds the policies. */
  locked: 11,
  interrupted: 130,
} as const

/** The exit code of an error that ended a command. */
export function codeOfError(error: unknown): number {
  return error instanceof RetentionError ? codeOfErrorCode(error.code) : exitCode.failed
}

/** As `codeOfError`, of an error's code. */
export function codeOfErrorCode(code: string): number {
  switch (code) {
    case 'USAGE':
    case 'CONFIG_NOT_FOUND':
    case 'CONFIG_INVALID':
    case 'POLICY_UNKNOWN':
    case 'HOLD_UNKNOWN':
      return exitCode.usage
    case 'POLICY_LOCKED':
      return exitCode.locked
    case 'INTERRUPTED':
      return exitCode.interrupted
    default:
      return exitCode.failed
  }
}

/** The exit code of a command over several databases: the gravest. */
export function codeOfAll(codes: readonly number[]): number {
  const { interrupted, failed, usage, attention, partial, locked, done } = exitCode
  // Where some were locked, others have run.
  if (codes.includes(locked) && codes.some((code) => code !== locked))
    return codeOfAll([...codes.filter((code) => code !== locked), partial])
  return [interrupted, failed, usage, attention, partial, locked].find((code) => codes.includes(code)) ?? done
}

/** The exit code of apply and plan. 0 says that what was due is archived, or that a plan could do so. */
export function codeOfApply({ policies }: { readonly policies: readonly Pick<PolicyReport, 'status'>[] }): number {
  const some = (...statuses: readonly string[]): boolean => policies.some(({ status }) => statuses.includes(status))
  if (some('interrupted')) return exitCode.interrupted
  if (some('failed', 'refused')) return exitCode.failed
  if (policies.length > 0 && policies.every(({ status }) => status === 'locked')) return exitCode.locked
  return some('partial', 'locked') ? exitCode.partial : exitCode.done
}

/** The exit code of `status --exit-code`. */
export function codeOfStatus({ policies }: StatusReport): number {
  const attention = policies.some(({ due, overdue, error }) => due > 0 || overdue || error !== undefined)
  return attention ? exitCode.attention : exitCode.done
}

/** The exit code of erase. 0 says that what matches is erased, or in a dry run that it could be. */
export function codeOfErase({ archives, held, left }: EraseReport): number {
  if (left.length > 0 || archives.some(({ error }) => error !== undefined)) return exitCode.failed
  return held > 0 ? exitCode.partial : exitCode.done
}

/** The exit code of move. 0 says that all archives are there, or in a dry run that nothing that can be seen stands against it. */
export function codeOfMove({ archives, left }: MoveReport): number {
  const isWhole = left.length === 0 && archives.every(({ error }) => error === undefined)
  return isWhole ? exitCode.done : exitCode.failed
}

/** The exit code of prune. 0 says that what had expired is pruned, or in a dry run that it could be. */
export function codeOfPrune({ policies }: PruneReport): number {
  const archives = policies.flatMap((policy) => policy.archives)
  if (policies.some(({ left }) => left.length > 0) || archives.some(({ error }) => error !== undefined))
    return exitCode.failed
  const isLocked = policies.map(({ error }) => error !== undefined)
  if (isLocked.length > 0 && isLocked.every(Boolean)) return exitCode.locked
  return isLocked.some(Boolean) || archives.some(({ holds }) => holds.length > 0) ? exitCode.partial : exitCode.done
}

/** The exit code of verify. */
export function codeOfVerify({ findings }: VerifyReport): number {
  return findings.length > 0 ? exitCode.attention : exitCode.done
}
