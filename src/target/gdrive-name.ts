/**
 * Sees to it that a name is one file's alone. Drive lets any number of files have the same name, and knows no condition
 * under which a file is made; but a new file never takes the place of another, so that what is at stake is a name that
 * stands for two files, and never anybody's bytes.
 *
 * Each who stores a file looks for its name before, and again once the file is there. Of two files with one name, the one
 * that was there later sees the other: two never both believe to be alone. Where two see each other, the one whose id comes
 * first waits for the other to go, and the other goes. Where one was done before, it does not look again and stays, and who
 * waits for it gives up in the end. Machines that share a ledger do not meet here: there each number is claimed first.
 *
 * All that holds as far as Drive's index of names is up to date, which Drive does not promise. Where it lacks the file that was
 * just stored, the folder's list is asked. Where it has that one and lacks another, two files may keep one name; then neither
 * is read before somebody has looked.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import type { DriveFile, DriveFolder } from './gdrive-files.ts'
import { Retries } from './gdrive-http.ts'

/** How often is looked whether the others have gone, and how long is waited first, in milliseconds. */
const looks = 6
const firstWait = 200

/** Whether a file that was just stored has its name alone. If not, it is to be taken back. */
export async function hasNameAlone(folder: DriveFolder, file: DriveFile, signal: AbortSignal): Promise<boolean> {
  const retries = new Retries(signal)
  for (let look = 1; ;) {
    const named = await folder.named(file.name)
    // Where the index of names has not this file yet, it may not have another one.
    const found = named.some(({ id }) => id === file.id) ? named : await folder.listed(file.name)
    const others = found.filter(({ id }) => id !== file.id)
    if (others.length === 0) {
      if (found.length > 0) return true
      await retries.wait(new Error('Drive does not list the file yet'))
      continue
    }
    if (look === looks || others.some(({ id }) => id < file.id)) return false
    await sleep(firstWait * 2 ** (look - 1), undefined, { signal })
    look += 1
  }
}
