/** A project that uses retention, beside a copy of the log, and its commands. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'

import { cutoff } from './data.ts'
import type { Copy } from './databases.ts'
import type { Command } from './measure.ts'

const bin = path.join(import.meta.dirname, '../dist/bin.js')

/** Writes config and policy as `init` does. @param policy further fields of the policy; the rest has its defaults @param archive the same for the target */
export function writeProject(
  { address, folder }: Copy,
  policy: Record<string, unknown> = {},
  archive: Record<string, unknown> = {},
): void {
  const database = address.startsWith('postgres') ? address : `sqlite:${address}`
  writeFileSync(
    path.join(folder, 'retention.config.json'),
    JSON.stringify({ database, archive: { to: './backups', durable: true, ...archive } }),
  )
  const days = Math.floor((Date.now() - Date.parse(cutoff)) / (24 * 60 * 60 * 1000))
  writeFileSync(
    path.join(folder, 'policies/conversation_log.json'),
    JSON.stringify({ table: 'conversation_log', column: 'created_at', days, ...policy }),
  )
}

/** The built command line, in a copy's project. */
export function retention(args: readonly string[], copy: Copy): Command {
  return { words: [process.execPath, bin, ...args], cwd: copy.folder }
}
