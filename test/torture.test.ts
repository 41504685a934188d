/** The short form of the torture: the real command line, killed at named points and at random moments. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { kinds } from './support/database.ts'
import { torture } from './support/torture.ts'

const test = suite('torture')

/** As many over each database; `npm run torture` makes hundreds. */
const scenes = [
  { kills: 8, children: false },
  { kills: 4, children: true },
] as const

for (const kind of kinds)
  for (const { kills, children } of scenes) {
    test(`each row is in one place after every kill, and everything comes back${children ? ', with children' : ''} [${kind}]`, async () => {
      // Another every day, so that in time all is tried; a failure says which it was.
      const seed = Math.floor(Date.now() / 86_400_000)
      const totals = await torture({ kind, kills, seed, children })
      assert.is(totals.kills, kills)
      assert.ok(totals.rounds > 0)
    })
  }

test.run()
