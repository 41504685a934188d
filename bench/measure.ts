/** Measures a command as a whole process, from outside: its time, and the most memory it held. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** A command as it would be typed. */
export interface Command {
  readonly words: readonly string[]
  readonly cwd?: string
  readonly env?: Record<string, string>
  /** The exit codes that are no failure. Default: 0 alone. */
  readonly mayEndWith?: readonly number[]
  /** What it must say, else it has failed. Default: nothing. */
  readonly mustSay?: string
  /** Written to its stdin. */
  readonly input?: string
  /** Another process that works for it. */
  readonly server?: number
}

/** What a run took. */
export interface Measured {
  readonly seconds: number
  /** The most memory that the process itself held at a time, in MB; undefined where the system does not tell. */
  readonly megabytes: number | undefined
  /** Of the processors, what its server took meanwhile, in seconds; undefined where it has none. */
  readonly serverSeconds?: number
}

/** How often the system is asked for the memory: what it tells is the greatest so far, so that the last answer counts. */
const pollMilliseconds = 20

/** Runs a command. @throws Error when it fails, with what it said. */
export async function measure({
  words,
  cwd,
  env,
  mayEndWith = [0],
  mustSay = '',
  input,
  server,
}: Command): Promise<Measured> {
  const [command = '', ...args] = words
  const before = processorSecondsOf(server)
  const started = process.hrtime.bigint()
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
  let said = ''
  const keep = (chunk: Buffer): void => void (said = `${said}${chunk.toString()}`.slice(-2000))
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.stdin.end(input)
  let megabytes: number | undefined
  const poll = setInterval(() => {
    megabytes = peakOf(child.pid) ?? megabytes
  }, pollMilliseconds)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  clearInterval(poll)
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  if (code === null || !mayEndWith.includes(code) || !said.includes(mustSay))
    throw new Error(`${words.slice(0, 3).join(' ')} … ended with ${code}:\n${said}`)
  const after = processorSecondsOf(server)
  const serverSeconds = before === undefined || after === undefined ? {} : { serverSeconds: after - before }
  return { seconds, megabytes, ...serverSeconds }
}

/** What a process has had of the processors, in its own code and in the system's. Linux counts hundredths. */
function processorSecondsOf(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined
  try {
    // Behind the name, which may have spaces, they are the 12th and 13th fields.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return undefined
  }
}

/** The high-water mark of a process's memory. https://www.kernel.org/doc/html/latest/filesystems/proc.html */
function peakOf(pid: number | undefined): number | undefined {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kilobytes === undefined ? undefined : Number(kilobytes) / 1024
  } catch {
    return undefined
  }
}

/** Tells whoever waits what is being done; results go to stdout. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** The value that a share of some numbers is not above, such as 0.99 of them. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN
}

/** The middle one of some numbers, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = 0, high = 0] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[middle]]
  return (low + high) / 2
}
