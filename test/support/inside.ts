/**
 * The command line inside the test's process: what `bin.ts` runs, with its output, exit code, folder and environment, and a proof
 * that nothing is left which would keep a process of its own from ending. Node and all modules are there already, so it
 * takes a tenth of the time.
 */
import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

let isRunning = false

/** Runs one. @param env set for as long as it runs; undefined is left out of the environment */
export async function runInside(
  args: readonly string[],
  folder: string,
  env: Record<string, string | undefined>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  // Folder, environment and output are the process's.
  if (isRunning) throw new Error('the second of two at the same time needs a process of its own')
  isRunning = true
  const { main } = await import('../../src/cli.ts')
  const alive = whatKeepsAlive()
  const warning = process.listeners('warning')
  const [stdout, stderr] = [capture('stdout'), capture('stderr')]
  const { exitCode } = process
  const { console } = globalThis
  const cwd = process.cwd()
  const environment = setEnvironment({ FORCE_COLOR: '0', ...env })
  process.exitCode = undefined
  process.chdir(folder)
  // The one that is there keeps the streams that it has begun with.
  globalThis.console = new Console(process.stdout, process.stderr)
  const hanging = new AbortController()
  try {
    await Promise.race([
      main(args),
      sleep(120_000, undefined, { signal: hanging.signal }).then(() => fail(args, 'hangs')),
    ])
    hanging.abort()
    const code = exitCodeOf()
    await untilItWouldEnd(alive, args)
    return { code, stdout: stdout.text(), stderr: stderr.text() }
  } finally {
    hanging.abort()
    globalThis.console = console
    process.chdir(cwd)
    process.exitCode = exitCode
    setEnvironment(environment)
    stdout.end()
    stderr.end()
    process.removeAllListeners('warning')
    for (const listener of warning) process.on('warning', listener)
    isRunning = false
  }
}

/** What Node would end with. */
function exitCodeOf(): number {
  return Number(process.exitCode ?? 0)
}

/** @returns what was set before */
function setEnvironment(env: Record<string, string | undefined>): Record<string, string | undefined> {
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]))
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  return before
}

/** Takes what is written, as a pipe does. */
function capture(name: 'stdout' | 'stderr'): { text: () => string; end: () => void } {
  const chunks: Buffer[] = []
  const pipe = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk)
      done()
    },
  })
  const before = Object.getOwnPropertyDescriptor(process, name)
  Object.defineProperty(process, name, { configurable: true, value: pipe })
  return {
    text: () => Buffer.concat(chunks).toString(),
    end: () => void (before !== undefined && Object.defineProperty(process, name, before)),
  }
}

/** Sockets, timers, threads and the like, by kind. */
function whatKeepsAlive(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return counts
}

async function untilItWouldEnd(before: Map<string, number>, args: readonly string[]): Promise<void> {
  for (let wait = 0; ; wait += 1) {
    const left = [...whatKeepsAlive()].filter(([kind, count]) => count > (before.get(kind) ?? 0))
    if (left.length === 0) return
    if (wait > 3000) fail(args, `would not end: ${left.join(', ')}`)
    await sleep(5)
  }
}

function fail(args: readonly string[], how: string): never {
  throw new Error(`retention ${args.join(' ')} ${how}`)
}
