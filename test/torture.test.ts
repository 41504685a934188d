/** The short form of the torture: the real command line, killed at named points and at random moments. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { kinds } from './support/database.ts'
import { torture } from './support/torture.ts'

const test = suite('torture')

/** Of these, each database gets another one every day, so that in time all is tried; `npm run torture` makes hundreds. */
const scenes = ['plain', 'children', 'redact'] as const

const today = Math.floor(Date.now() / 86_400_000)
const kills = 7

for (const [index, kind] of kinds.entries()) {
  const scene = scenes[(today + index) % scenes.length]
  test(`each row is in one place after every kill, and everything comes back: ${scene} [${kind}]`, async () => {
    // A failure says which seed it was.
    const totals = await torture({
      kind,
      kills,
      seed: today,
      children: scene === 'children',
      redact: scene === 'redact',
    })
    assert.is(totals.kills, kills)
    assert.ok(totals.rounds > 0)
  })
}

test.run()
