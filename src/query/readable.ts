/** Files that DuckDB can read: archives where they are, or unsealed into a folder that nobody else can read. */
import { rmSync } from 'node:fs'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { Meter, readCsv } from '../archive/store.ts'
import { RetentionError } from '../errors.ts'
import type { FoundArchive } from '../stored/find-archive.ts'
import { changedArchive } from '../stored/read-archive.ts'
import { LocalTarget } from '../target/local.ts'

/** Lends a folder of one's own, mode 0700, for as long as some work takes. */
export async function withPrivateFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'retention-query-'))
  // What was unsealed must not outlive a process that ends before the work does.
  const remove = (): void => rmSync(folder, { recursive: true, force: true })
  process.once('exit', remove)
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
    process.off('exit', remove)
  }
}

/**
 * The path of a file that has an archive's CSV, as it is or compressed.
 * @param folder where it is unsealed to, if it must be
 * @throws RetentionError `ARCHIVE_NOT_FOUND`; and where it is unsealed, as `readCsv`, and `ARCHIVE_CHANGED`
 */
export async function readablePath(archive: FoundArchive, folder: string, signal?: AbortSignal): Promise<string> {
  const { target, path: stored, encoding, name } = archive
  if (!(await target.has(stored)))
    throw new RetentionError('ARCHIVE_NOT_FOUND', `${target.locate(stored)} is missing`, {
      hint: 'Take the file from a backup, or leave the archive out by --from or --to.',
    })
  const place = target.locate(stored)
  // What DuckDB takes for a pattern is no name to it.
  const isReadable = target instanceof LocalTarget && !/[*?[\]]/.test(place)
  if (isReadable && (encoding === null || encoding === 'gzip' || encoding === 'zstd')) {
    await checkSize(archive, place)
    return place
  }
  const file = path.join(folder, name)
  await unseal(archive, file, signal)
  return file
}

/** Reading it for its checksum would take longer than most queries; a file that was cut off would give fewer rows. */
async function checkSize({ entry, path: stored }: FoundArchive, place: string): Promise<void> {
  const { size } = await stat(place)
  // Of one that somebody has unsealed, the ledger does not know it.
  if (entry === undefined || entry.path !== stored || entry.bytes === size) return
  throw new RetentionError(
    'ARCHIVE_CHANGED',
    `${place} is not what was stored: it has ${size} bytes, not ${entry.bytes}`,
    {
      hint: 'Take the file from a backup; "retention verify" checks the others.',
    },
  )
}

async function unseal(archive: FoundArchive, file: string, signal: AbortSignal | undefined): Promise<void> {
  const meter = new Meter()
  const handle = await open(file, 'wx', 0o600)
  try {
    for await (const chunk of await readCsv(archive)) {
      signal?.throwIfAborted()
      meter.update(chunk)
      await handle.writeFile(chunk)
    }
  } finally {
    await handle.close()
  }
  const { sha256 } = meter.digest()
  if (sha256 === archive.sha256) return
  throw changedArchive(archive, sha256, 'Take the file from a backup; "retention verify" checks the others.')
}
