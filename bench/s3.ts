/** An S3 service in a process of its own, for one run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'

export interface S3Service {
  /** The address of a folder there, as a config writes it. */
  readonly address: string
  readonly process: number
  stop(): void
}

/** What the service, which takes any, is told. */
export const credentials = { AWS_ACCESS_KEY_ID: 'bench', AWS_SECRET_ACCESS_KEY: 'bench' }

/** Starts one, and waits until it listens. @throws Error when it does not */
export async function startS3(): Promise<S3Service> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 's3-service.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdout.setEncoding('utf8')
  const [port] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  if (child.pid === undefined || typeof port !== 'string') throw new Error('the S3 service did not start')
  return {
    address: `s3://archives/bench?endpoint=http://127.0.0.1:${port.trim()}`,
    process: child.pid,
    stop: () => void child.kill(),
  }
}
