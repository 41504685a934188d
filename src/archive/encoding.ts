/** The forms in which an archive's CSV can be stored, and the endings that its files have by them. */

/** How a CSV is stored: compressed, sealed, or first the one and then the other. A zip is both. */
export type Encoding = 'gzip' | 'zstd' | 'zip' | 'age' | 'gzip+age' | 'zstd+age'

const endings: Readonly<Record<Encoding, string>> = {
  gzip: '.gz',
  zstd: '.zst',
  zip: '.zip',
  age: '.age',
  'gzip+age': '.gz.age',
  'zstd+age': '.zst.age',
}

/** All of them. */
export const encodings = ['gzip', 'zstd', 'zip', 'age', 'gzip+age', 'zstd+age'] as const satisfies readonly Encoding[]

/** Whether it takes a key to read what is stored so. */
export function needsKey(encoding: Encoding | null): boolean {
  return encoding === 'zip' || encoding?.endsWith('age') === true
}

/** The name of the file that holds a CSV. @param encoding null: the CSV as it is */
export function storedName(name: string, encoding: Encoding | null): string {
  return encoding === null ? name : `${name}${endings[encoding]}`
}

/** How a file is stored, by its name; null where it is a CSV as it is, or no CSV. */
export function encodingOf(file: string): Encoding | null {
  return encodings.find((encoding) => file.endsWith(`.csv${endings[encoding]}`)) ?? null
}

/** The name of the CSV that a file holds; any other name as it is. */
export function plainName(file: string): string {
  const encoding = encodingOf(file)
  return encoding === null ? file : file.slice(0, -endings[encoding].length)
}
