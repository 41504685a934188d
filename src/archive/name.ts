/** The names of archives and manifests. */

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

/** What an archive's name was made of; undefined where it is no archive's name. */
export function partsOfArchive(name: string): { base: string; number: number } | undefined {
  const [, base, number] = /^(.+_backup_\d{8})(?:_(\d{4,}))?\.csv$/.exec(name) ?? []
  return base === undefined ? undefined : { base, number: Number(number ?? 1) }
}

/** The policy whose archive, manifest or unfinished file has that name; undefined where the name is none of these. */
export function policyOfArchive(name: string): string | undefined {
  return /^\.?(.+)_backup_\d{8}(?:_\d{4,})?\.csv(?:\.manifest\.json)?(?:\.[0-9a-f]+\.tmp)?$/.exec(name)?.[1]
}
