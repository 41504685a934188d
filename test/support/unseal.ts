/** Opens sealed archives from outside: with Node's zlib, 7-Zip itself, and age by its author; with none of the project's code. */
import { gunzipSync, zstdDecompressSync } from 'node:zlib'

import sevenZip, { type SevenZipModuleFactory } from '7z-wasm'
import { Decrypter } from 'age-encryption'

/** What opens them. */
export interface TestKeys {
  readonly password: string
  readonly identity: string
}

/** The bytes in a sealed file. @param name says how it is sealed */
export async function unseal(name: string, bytes: Buffer, keys: TestKeys): Promise<Buffer> {
  const [ending = ''] = /\.[a-z]+$/.exec(name) ?? []
  const inner = name.slice(0, -ending.length)
  switch (ending) {
    case '.gz':
      return gunzipSync(bytes)
    case '.zst':
      return zstdDecompressSync(bytes)
    case '.zip':
      return unzip(inner, bytes, keys.password)
    case '.age': {
      const decrypter = new Decrypter()
      decrypter.addIdentity(keys.identity)
      const opened = Buffer.from(await decrypter.decrypt(bytes))
      return inner.endsWith('.csv') ? opened : unseal(inner, opened, keys)
    }
    default:
      throw new Error(`${name} is not sealed`)
  }
}

/** By `7z x`, which must find one file, of that name, and nothing wrong with it. */
async function unzip(name: string, bytes: Buffer, password: string): Promise<Buffer> {
  const said: string[] = []
  const say = (line: string): void => void said.push(line)
  // Its types say that it is a module with a default; to Node it is the function itself.
  const start = sevenZip as unknown as SevenZipModuleFactory
  const program = await start({ print: say, printErr: say })
  program.FS.writeFile('archive.zip', bytes)
  program.callMain(['x', `-p${password}`, '-oout', 'archive.zip'])
  if (!said.join('\n').includes('Everything is Ok')) throw new Error(`7-Zip: ${said.join('\n')}`)
  const files = program.FS.readdir('out').filter((file) => !file.startsWith('.'))
  if (files.join() !== name) throw new Error(`the zip holds ${files.join()}, not ${name}`)
  return Buffer.from(program.FS.readFile(`out/${name}`))
}
