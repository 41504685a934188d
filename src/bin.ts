#!/usr/bin/env node
/** The executable. Knows nothing but which Node it needs: on an older one, loading anything native could crash. */
import module from 'node:module'

const needed = [22, 18] as const
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < needed[0] || (major === needed[0] && minor < needed[1])) {
  console.error(
    `retention needs Node.js ${needed.join('.')} or newer; this is ${process.versions.node}. See https://nodejs.org.`,
  )
  process.exitCode = 2
} else {
  // What has been compiled once is kept for the next start, in the system's temporary folder: a third less time.
  module.enableCompileCache()
  const { main } = await import('./cli.ts')
  await main(process.argv.slice(2))
}
