/** Logs: what happens in runs, and what is asked of the service, as lines of JSON or of text on stderr. */
import { withoutSecrets } from './errors.ts'
import type { RunEvent } from './events.ts'

/** The forms of a log. */
export const logFormats = ['text', 'json'] as const
export type LogFormat = (typeof logFormats)[number]

/** One line. */
export interface LogLine {
  readonly level: 'info' | 'warn' | 'error'
  /** ISO 8601. Default: now. */
  readonly time?: string
  /** What happened, in words. */
  readonly msg: string
  /** What is told besides, in JSON alone. */
  readonly [field: string]: unknown
}

/** Writes a line. */
export type Log = (line: LogLine) => void

/**
 * Begins a log on stderr. No address's password and no other secret is in what it writes.
 * @param quiet warnings and errors alone
 */
export async function openLog(format: LogFormat, quiet = false): Promise<Log> {
  const write = format === 'json' ? await writeJson() : writeText
  return ({ time = new Date().toISOString(), ...line }) => {
    if (!quiet || line.level !== 'info') write(withoutSecretsIn({ ...line, time }))
  }
}

type TimedLine = LogLine & { readonly time: string }

async function writeJson(): Promise<(line: TimedLine) => void> {
  const { pino } = await import('pino')
  // Each line has the time of what it tells; what is written is written at once, so that nothing is lost at the end.
  const logger = pino({ base: null, timestamp: false, formatters: { level: (level) => ({ level }) } }, process.stderr)
  return ({ level, ...line }) => logger[level](line)
}

function writeText({ time, level, msg }: TimedLine): void {
  process.stderr.write(`${time} ${level === 'info' ? '' : `${level}: `}${msg.replaceAll(/\s*\n\s*/g, ' ')}\n`)
}

function withoutSecretsIn<T>(value: T): T {
  const without = (part: unknown): unknown => {
    if (typeof part === 'string') return withoutSecrets(part)
    if (Array.isArray(part)) return part.map(without)
    if (typeof part !== 'object' || part === null) return part
    return Object.fromEntries(Object.entries(part).map(([name, inner]) => [name, without(inner)]))
  }
  // It has the same form: only texts have changed.
  return without(value) as T
}

/** What happened in a run, as a line: `run` in each, `type` as the event has it. */
export function eventLine(event: RunEvent): LogLine {
  const line = lineOf(event)
  return event.database === undefined ? line : { ...line, msg: `${event.database}: ${line.msg}` }
}

function lineOf({ at: time, ...event }: RunEvent): LogLine {
  const { type, run, database } = event
  const head = { time, type, run, ...(database === undefined ? {} : { database }) }
  switch (event.type) {
    case 'run-started':
      return { level: 'info', ...head, policies: event.policies, msg: `Run ${run} begins` }
    case 'policy-started':
      return { level: 'info', ...head, policy: event.policy, msg: `${event.policy}: begins` }
    case 'step-finished': {
      const { policy, rows, due, step, steps, milliseconds, archive } = event
      const made = archive === undefined ? {} : { archive: archive.name, bytes: archive.bytes }
      const msg = `${policy}: step ${step} of ${steps}, ${rows} of ${due} rows archived`
      return { level: 'info', ...head, policy, rows, due, step, steps, milliseconds, ...made, msg }
    }
    case 'wait-started':
      return {
        level: 'info',
        ...head,
        policy: event.policy,
        reason: event.reason,
        msg: `${event.policy}: waits: ${event.reason}`,
      }
    case 'wait-finished': {
      const { policy, reason, milliseconds } = event
      return { level: 'info', ...head, policy, reason, milliseconds, msg: `${policy}: has waited: ${reason}` }
    }
    case 'policy-finished': {
      const { policy, table, status, due, archived, remaining, error, warnings } = event.report
      const said = `${policy}: ${status}, ${archived} of ${due} rows archived`
      const told = {
        ...(error === undefined ? {} : { error }),
        ...(warnings.length === 0 ? {} : { warnings }),
        msg: error === undefined ? said : `${said}: ${error.message}`,
      }
      return { level: levelOf(status), ...head, policy, table, status, due, archived, remaining, ...told }
    }
    case 'run-finished': {
      const { startedAt, finishedAt, policies, notices } = event.report
      const archived = policies.reduce((sum, policy) => sum + policy.archived, 0)
      const milliseconds = Date.parse(finishedAt) - Date.parse(startedAt)
      const unsent = notices?.filter(({ sent }) => !sent) ?? []
      return {
        level: unsent.length === 0 ? 'info' : 'warn',
        ...head,
        archived,
        milliseconds,
        ...(notices === undefined ? {} : { notices }),
        msg: `Run ${run} has ended, ${archived} rows archived${unsent.length === 0 ? '' : '; a notice was not sent'}`,
      }
    }
    case 'run-failed':
      return { level: 'error', ...head, error: event.error, msg: `Run ${run} failed: ${event.error.message}` }
  }
}

function levelOf(status: string): LogLine['level'] {
  if (status === 'failed' || status === 'refused') return 'error'
  return status === 'applied' || status === 'nothing-due' ? 'info' : 'warn'
}
