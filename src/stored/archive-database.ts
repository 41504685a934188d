/** Whether a database's ledger knows the archive that somebody names: which of several databases it is from. */
import path from 'node:path'

import { archiveOf } from '../archive/name.ts'
import { loadConfig, type ProjectOptions } from '../config/project.ts'
import { openDatabase } from '../database/open.ts'
import { Ledger } from '../ledger/ledger.ts'
import { fileNameOf, isAddress } from '../target/open.ts'

/** By its name alone, or where the name has a folder or an address before it, by where it was stored. */
export async function hasArchive({ file, ...options }: ProjectOptions & { file: string }): Promise<boolean> {
  const config = await loadConfig(options)
  const database = await openDatabase(config, 'read')
  try {
    const ledger = await Ledger.forReading(database, config.ledger)
    const entry = await database.read((db) => ledger.find(db, archiveOf(fileNameOf(file))))
    if (entry === undefined || file === fileNameOf(file)) return entry !== undefined
    const place = isAddress(file) ? file : path.resolve(options.cwd ?? '.', file)
    return folderOf(place) === folderOf(entry.location)
  } finally {
    await database.close()
  }
}

function folderOf(location: string): string {
  return location.replace(/[^/\\]*$/, '')
}
