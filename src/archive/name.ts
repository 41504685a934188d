/** The names of archives and manifests. */
import { plainName } from './encoding.ts'

/** `<policy>_backup_<cutoff as YYYYMMDD>`: what all archives of a policy and cutoff begin with. */
export function archiveBase(policy: string, day: string): string {
  return `${policy}_backup_${day.replaceAll('-', '')}`
}

/** The name of a base's n-th archive: `….csv`, `…_0002.csv`, `…_0003.csv`. */
export function archiveName(base: string, number: number): string {
  return number === 1 ? `${base}.csv` : `${base}_${String(number).padStart(4, '0')}.csv`
}

/** The name of the manifest beside an archive. */
export function manifestName(archive: string): string {
  return `${archive}.manifest.json`
}

/** The archive that a manifest's name belongs to, or undefined where it is no manifest's name. */
export function archiveOfManifest(name: string): string | undefined {
  return name.endsWith('.manifest.json') ? name.slice(0, -'.manifest.json'.length) : undefined
}

/**
 * The name of a further file of an archive: `….items.csv` beside `….csv`.
 * @param part what it holds: a table's name, or two names with a dot between them
 * @param taken the names of the archive's other files; letter case is no difference, as on some disks it is none
 */
export function partName(archive: string, part: string, taken: readonly string[]): string {
  // What is no letter of a name, what would look like the beginning of another archive, and what is too long.
  const safe = part.replaceAll(/[^\p{L}\p{N}_.-]/gu, '-').replaceAll(/_backup_(?=\d{8})/g, '-backup-')
  const short = shortened(safe.replaceAll(/^\.+|\.+$/g, '-'), longestPart)
  const others = new Set(taken.map((name) => name.normalize().toLowerCase()))
  for (let number = 1; ; number += 1) {
    const name = archive.replace(/\.csv$/, `.${short}${number === 1 ? '' : `~${number}`}.csv`)
    if (!others.has(name.normalize().toLowerCase())) return name
  }
}

/** What a file of an archive is called when the archive gets another name. @param file its CSV, or a further one */
export function renamedFile(file: string, archive: string, renamed: string): string {
  return renamed.replace(/\.csv$/, '') + file.slice(archive.length - '.csv'.length)
}

/** With the longest policy's name, the cutoff, a number and the ending of a temporary file, 255 bytes. */
const longestPart = 44

function shortened(text: string, bytes: number): string {
  let short = ''
  for (const letter of text) {
    if (Buffer.byteLength(short + letter) > bytes) break
    short += letter
  }
  return short
}

/** The archive that a further file of it belongs to, by its name; undefined where it is no such name. */
export function archiveOfPart(file: string): string | undefined {
  const [, start] = /^(.+_backup_\d{8}(?:_\d{4,})?)\.[^/]+\.csv$/.exec(plainName(file)) ?? []
  return start === undefined ? undefined : `${start}.csv`
}

/** The archive that a file belongs to: itself, its manifest, or a further file of it, stored as it is or sealed. */
export function archiveOf(file: string): string {
  return archiveOfManifest(file) ?? archiveOfPart(file) ?? plainName(file)
}

/** What an archive's name was made of; undefined where it is no archive's name. */
export function partsOfArchive(name: string): { base: string; number: number } | undefined {
  const [, base, number] = /^(.+_backup_\d{8})(?:_(\d{4,}))?\.csv$/.exec(name) ?? []
  return base === undefined ? undefined : { base, number: Number(number ?? 1) }
}

/** The file that an unfinished one was to become; undefined where it is finished. */
export function unfinishedName(file: string): string | undefined {
  return /^\.(.+)\.[0-9a-f]+\.tmp$/.exec(file)?.[1]
}

/** The policy whose archive, manifest or unfinished file has that name; undefined where the name is none of these. */
export function policyOfArchive(file: string): string | undefined {
  const name = archiveOf(unfinishedName(file) ?? file)
  return /^\.?(.+)_backup_\d{8}(?:_\d{4,})?(?:\.[^/]+?)?\.csv$/.exec(name)?.[1]
}
