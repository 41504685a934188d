/** How much is tried where the space is large: `TEST_DEPTH=5 npm test` tries five times as much, and takes its time. */

/** How often a property is tried. */
export const timesOf = (usual: number): number => Math.ceil(usual * Number(process.env['TEST_DEPTH'] ?? 1))

/** One in how many is tried, of what is too much to try whole on a usual day; which ones, changes every day. */
export function* someOf(end: number, step: number): Generator<number> {
  const stride = Math.max(1, Math.floor(step / Number(process.env['TEST_DEPTH'] ?? 1)))
  for (let at = Math.floor(Date.now() / 86_400_000) % stride; at < end; at += stride) yield at
}
