/** The short form of the torture: the real command line, killed at named points and at random moments. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { kinds } from './support/database.ts'
import { torture } from './support/torture.ts'

const test = suite('torture')

/** Each day one of these, over one of the databases, so that in time all is tried; `npm run torture` makes hundreds. */
const days = kinds.flatMap((kind) => (['plain', 'children', 'redact'] as const).map((scene) => ({ kind, scene })))
const today = Math.floor(Date.now() / 86_400_000)
const kills = 8

for (const { kind, scene } of days.filter((_, index) => index === today % days.length)) {
  test(`each row is in one place after every kill, and everything comes back: ${scene} [${kind}]`, async () => {
    const [children, redact] = [scene === 'children', scene === 'redact']
    // A failure says which seed it was.
    const totals = await torture({ kind, kills, seed: today, children, redact })
    assert.is(totals.kills, kills)
    assert.ok(totals.rounds > 0)
  })
}

test.run()
