/** `get`: an archive's plain CSVs and its manifest, put into a folder. */
import path from 'node:path'

import { manifestName } from '../archive/name.ts'
import { readCsv, readText, store, storeText } from '../archive/store.ts'
import type { ProjectOptions } from '../config/project.ts'
import { RetentionError } from '../errors.ts'
import { checkKey, type FoundArchive } from './find-archive.ts'
import { changedArchive, openArchive } from './read-archive.ts'
import type { GetReport } from '../report.ts'
import { openTarget } from '../target/open.ts'
import type { Target } from '../target/target.ts'

/** What `getArchive` can be told. */
export interface GetArchiveOptions extends ProjectOptions {
  /** The archive: its name, its path, or its location as the ledger has it. */
  file: string
  /** The folder to put its files into; it is made where it is not there. Default: the process's folder. */
  folder?: string
  /** Puts its files there as they are stored, compressed and sealed; this needs no key. Default false: the plain CSVs. */
  sealed?: boolean
}

/**
 * Puts the CSVs of an archive, and its manifest, into a folder: readable by their owner alone, over nothing, and
 * checked. The archive stays where it is.
 * @throws RetentionError when it cannot; then no file is left
 */
export async function getArchive(options: GetArchiveOptions): Promise<GetReport> {
  const { sealed = false } = options
  const archive = await openArchive(options)
  if (!sealed) await checkKey(archive)
  const to = path.resolve(options.cwd ?? '.', options.folder ?? '.')
  const folder = openTarget({ to, durable: true, bom: true }, to)
  const manifest = archive.manifest === undefined ? undefined : manifestName(archive.name)
  const files = [archive, ...archive.parts].map((file) =>
    sealed ? asStored(file) : { ...file, expected: file.sha256 },
  )
  for (const name of [...files.map((file) => file.name), manifest ?? archive.name]) {
    if (await folder.has(name).catch(() => false))
      throw new RetentionError('ARCHIVE_EXISTS', `${folder.locate(name)} is in the way; it is left as it is`)
  }
  await folder.prepare()
  const done: string[] = []
  try {
    for (const file of files) {
      const { sha256 } = await store(folder, file.name, await readCsv(file), () => file.rows)
      done.push(file.name)
      if (file.expected !== undefined && sha256 !== file.expected)
        throw changedArchive(
          { ...file, sha256: file.expected },
          sha256,
          'Take the file from a backup; "retention verify" checks the others.',
        )
    }
    if (manifest !== undefined) await copyManifest(archive, manifest, folder)
  } catch (error) {
    for (const name of done) await folder.withdraw(name).catch(() => {})
    throw error
  }
  return {
    archive: archive.name,
    files: files.map(({ name, rows }) => ({ name, location: folder.locate(name), rows })),
    manifest: manifest === undefined ? null : folder.locate(manifest),
  }
}

/** A file as its target has it: its bytes are read as if they were the CSV. */
function asStored(file: FoundArchive): FoundArchive & { expected: string | undefined } {
  return { ...file, name: file.path, encoding: null, expected: file.storedSha256 }
}

async function copyManifest({ target }: FoundArchive, name: string, folder: Target): Promise<void> {
  await storeText(folder, name, await readText(target, name))
}
