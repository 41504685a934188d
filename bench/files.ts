/** The files that a run leaves: results.json, and what is made of it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

import { chart } from './chart.ts'
import { report } from './report.ts'
import type { Results } from './results.ts'

/** Writes results.json, RESULTS.md and the chart, over those of an earlier run. */
export function save(folder: string, results: Results): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'results.json'), `${JSON.stringify(results, undefined, 2)}\n`)
  writeFileSync(path.join(folder, 'results.svg'), chart(results.races))
  writeFileSync(path.join(folder, 'RESULTS.md'), report(results))
}

/** Reads what `save` has written. */
export function load(folder: string): Results {
  // Nothing else writes this file.
  const results = JSON.parse(readFileSync(path.join(folder, 'results.json'), 'utf8')) as Results
  // Written by a bench that did not yet measure everything.
  return { ...results, asked: results.asked ?? [] }
}
