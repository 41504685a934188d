/** Archives as an erasure sees them: their rows laid out with their types, and asked. */
import { erase } from '../../src/index.ts'

/** How many rows of a run's archives an erasure of all rows would take. */
export async function erasableRows(
  folder: string,
  policy: string,
  archives: readonly { readonly name: string }[] = [],
): Promise<number> {
  const report = await erase({ cwd: folder, policy, where: 'true', reason: 'only asked' })
  return report.archives
    .filter(({ name }) => archives.some((archive) => archive.name === name))
    .reduce((sum, { erased }) => sum + erased, 0)
}
