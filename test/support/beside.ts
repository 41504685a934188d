/** Others that write to the same database while apply runs. */
import { apply, type ApplyOptions } from '../../src/index.ts'
import type { TestDatabase } from './database.ts'
import { atPoints } from './points.ts'

/** Applies one policy; others write to `other` between planning and the first step. @returns how many rows each step took */
export async function sizesBeside(db: TestDatabase, options: ApplyOptions): Promise<number[]> {
  const meanwhile = async (): Promise<void> => {
    for (let n = 0; n < 20; n += 1) await db.run('insert into other values (1)')
  }
  const { result } = await atPoints([{ point: 'link probe', meanwhile }], () => apply(options))
  return result.policies[0]?.archives.map(({ rows }) => rows) ?? []
}
