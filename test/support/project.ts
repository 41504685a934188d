/** Projects for tests: a folder with a config and policies, as a user has one, and the real command line run in it. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import type { ConfigInput, PolicyInput } from '../../src/index.ts'
import { runInside } from './inside.ts'

const bin = path.join(import.meta.dirname, '../../src/bin.ts')

/** What a command line came to. */
export interface Run {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** The signal that ended it, if one did. */
  readonly signal: NodeJS.Signals | null
  /** stdout as JSON. */
  json<T>(): T
}

/** How a command line is run. */
export interface CliOptions {
  env?: Record<string, string | undefined>
  cwd?: string
  /** Arguments of Node's own. */
  node?: readonly string[]
  /** No file may grow beyond so many kilobytes, as if the disk were full. */
  fileLimit?: number
  /** Kills it, without notice, when it has run for so many milliseconds. */
  killAfter?: number
  /** Asks it to end, when this says so. */
  interruptOn?: AbortSignal
  /** Kills it, without notice, when this says so. */
  killOn?: AbortSignal
}

/** A folder with a config and policies. */
export class TestProject {
  readonly folder: string

  constructor(config: ConfigInput, policies: Record<string, PolicyInput> = {}) {
    this.folder = mkdtempSync(path.join(tmpdir(), 'retention-project-'))
    writeFileSync(path.join(this.folder, 'package.json'), '{ "type": "module" }')
    mkdirSync(path.join(this.folder, 'policies'))
    this.configure(config)
    for (const [name, policy] of Object.entries(policies)) this.policy(name, policy)
  }

  configure(config: ConfigInput): void {
    // Tests run on CI, where an undeclared folder is refused; that has tests of its own.
    const durable: ConfigInput = { archive: { to: './backups', durable: true }, ...config }
    this.write('retention.config.ts', `export default ${JSON.stringify(durable)}`)
  }

  policy(name: string, policy: PolicyInput): void {
    this.write(`policies/${name}.ts`, `export default ${JSON.stringify(policy)}`)
  }

  write(file: string, text: string): void {
    mkdirSync(path.dirname(this.path(file)), { recursive: true })
    writeFileSync(this.path(file), text)
  }

  path(file: string): string {
    return path.join(this.folder, file)
  }

  read(file: string): string {
    return readFileSync(this.path(file), 'utf8')
  }

  /** The names in a folder of the project, sorted; none where it is not there. */
  list(folder = 'backups'): string[] {
    return existsSync(this.path(folder)) ? readdirSync(this.path(folder)).toSorted() : []
  }

  /** Runs `retention` with these arguments, in this folder, within this process: for all but what a process is needed for. */
  async run(
    args: readonly string[],
    { env = {}, cwd = this.folder }: Pick<CliOptions, 'env' | 'cwd'> = {},
  ): Promise<Run> {
    const run = await runInside(args, cwd, env)
    return { ...run, signal: null, json: <T>() => JSON.parse(run.stdout) as T }
  }

  /** Runs `retention` with these arguments, in this folder, as a process of its own. */
  async cli(args: readonly string[], options: CliOptions = {}): Promise<Run> {
    return new Promise((resolve, reject) => {
      const words = [process.execPath, ...(options.node ?? []), bin, ...args]
      // The signal that comes with the error is ignored: a full disk sends none.
      const limit = `trap '' XFSZ; ulimit -f ${(options.fileLimit ?? 0) * 2}; exec "$@"`
      const [command = '', ...rest] = options.fileLimit === undefined ? words : ['sh', '-c', limit, 'sh', ...words]
      const child = spawn(command, rest, {
        cwd: options.cwd ?? this.folder,
        env: { ...process.env, FORCE_COLOR: '0', ...options.env },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let stdout = ''
      let stderr = ''
      child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
      child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
      child.on('error', reject)
      options.interruptOn?.addEventListener('abort', () => child.kill('SIGTERM'))
      options.killOn?.addEventListener('abort', () => child.kill('SIGKILL'))
      const timer = setTimeout(() => child.kill('SIGKILL'), options.killAfter ?? 2 ** 30)
      child.on('close', (code, signal) => {
        clearTimeout(timer)
        resolve({ code, signal, stdout, stderr, json: <T>() => JSON.parse(stdout) as T })
      })
    })
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
