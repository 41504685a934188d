/** A whole redaction and back: for tables of every type. */
import * as assert from 'uvu/assert'

import { apply, restore } from '../../src/index.ts'
import { now as then, type Scene } from './scene.ts'

/** When no row of a restore before is held any more. */
const now = new Date(then.getTime() + 8 * 24 * 60 * 60 * 1000)

/** Sets columns of all rows to NULL, all past their time by `at`, and restores them: the table is as it was. */
export async function redactTrip({ db, project }: Scene, table: string, columns: readonly string[]): Promise<void> {
  const before = await db.dump(table)
  const set = Object.fromEntries(columns.map((name) => [name, null]))
  const { folder } = project({ redact: { table: `"${table}"`, column: 'at', days: 30, action: 'redact', set } })
  const [report] = (await apply({ cwd: folder, now })).policies
  assert.is(report?.status, 'applied', report?.error?.message)
  const filled = columns.map((name) => `"${name}" is not null`).join(' or ')
  assert.is(Number(await db.value(`select count(*) from "${table}" where ${filled}`)), 0)
  assert.is((await apply({ cwd: folder, now })).policies[0]?.due, 0)
  for (const { name } of report?.archives ?? []) {
    const { state, restored, rows } = await restore({ cwd: folder, file: name, now })
    assert.equal([state, restored], ['restored', rows])
  }
  assert.equal(await db.dump(table), before)
}
