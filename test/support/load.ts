/** Many clients at once, at a service that runs apply meanwhile: what they were answered, and how long it took. */

/** How many ask. */
export interface LoadOptions {
  token: string
  /** In all; half of them for `/status`, half to start a run. */
  requests: number
  /** At the same time. */
  clients: number
  /** As many more for `/status` by one more client, from one address, which is told to wait. Default none. */
  hasty?: number
}

/** Requests that were answered alike. */
interface Answered {
  readonly path: string
  readonly status: number
  readonly count: number
  /** Milliseconds. */
  readonly median: number
  readonly p99: number
  readonly worst: number
}

/** What it came to. */
export interface Load {
  readonly answers: readonly Answered[]
  /** Runs that were started. */
  readonly started: number
  /** Whether two of them went on at the same time. */
  readonly isOverlapping: boolean
  readonly milliseconds: number
  /** Requests that went on when the first run had not ended. */
  readonly during: number
}

interface Sample {
  readonly path: string
  readonly status: number
  readonly milliseconds: number
  readonly at: number
}

interface ListedRun {
  readonly startedAt: string
  readonly finishedAt: string | null
}

/** Asks. The service must take `X-Forwarded-For` for the address: one address alone would soon be told to wait. */
export async function underLoad(address: string, { token, requests, clients, hasty = 0 }: LoadOptions): Promise<Load> {
  const samples: Sample[] = []
  const began = Date.now()
  let next = 0
  const ask = async (path: string, method: string, from: Record<string, string>): Promise<void> => {
    const started = performance.now()
    const headers = { authorization: `Bearer ${token}`, ...from }
    const response = await fetch(`${address}${path}`, { method, headers })
    await response.arrayBuffer()
    const milliseconds = performance.now() - started
    samples.push({
      path: 'x-forwarded-for' in from ? path : `${path} in haste`,
      status: response.status,
      milliseconds,
      at: Date.now(),
    })
  }
  const client = async (): Promise<void> => {
    for (let index = next++; index < requests; index = next++) {
      const from = { 'x-forwarded-for': `10.0.${index % 200}.1` }
      await (index % 2 === 0 ? ask('/run-cleanup', 'POST', from) : ask('/status', 'GET', from))
    }
  }
  const hastyClient = async (): Promise<void> => {
    for (let count = 0; count < hasty; count += 1) await ask('/status', 'GET', {})
  }
  await Promise.all([...Array.from({ length: clients }, client), hastyClient()])
  const milliseconds = Date.now() - began
  const runs = await ended(address, token)
  const firstEnd = Math.min(...runs.map(({ finishedAt }) => Date.parse(finishedAt ?? '')))
  return {
    answers: grouped(samples),
    started: samples.filter(({ status }) => status === 202).length,
    isOverlapping: runs.some(({ startedAt }, index) =>
      runs.slice(index + 1).some((earlier) => Date.parse(earlier.finishedAt ?? '') > Date.parse(startedAt)),
    ),
    milliseconds,
    during: samples.filter(({ at }) => at <= firstEnd).length,
  }
}

/** All runs when none goes on any more, the latest first. */
async function ended(address: string, token: string): Promise<ListedRun[]> {
  const headers = { authorization: `Bearer ${token}`, 'x-forwarded-for': '10.1.0.1' }
  const list = async (): Promise<{ running: string | null; runs: ListedRun[] }> =>
    (await fetch(`${address}/runs`, { headers })).json() as Promise<{ running: string | null; runs: ListedRun[] }>
  const { running } = await list()
  if (running !== null) await (await fetch(`${address}/runs/${running}/events`, { headers })).text()
  return (await list()).runs
}

function grouped(samples: readonly Sample[]): Answered[] {
  const groups = Map.groupBy(samples, ({ path, status }) => `${path} ${status}`)
  return [...groups.values()].map((group) => {
    const times = group.map(({ milliseconds }) => milliseconds).toSorted((a, b) => a - b)
    const at = (part: number): number => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0
    const [{ path, status } = { path: '', status: 0 }] = group
    return { path, status, count: times.length, median: at(0.5), p99: at(0.99), worst: at(1) }
  })
}

/** A table for people. */
export function printLoad({ answers }: Load): string {
  const line = (cells: readonly (string | number)[]): string =>
    cells.map((cell, index) => (index === 0 ? String(cell).padEnd(20) : String(cell).padStart(9))).join('')
  return [
    line(['path', 'answer', 'count', 'p50 ms', 'p99 ms', 'worst ms']),
    ...answers.map(({ path, status, count, median, p99, worst }) =>
      line([path, status, count, median.toFixed(1), p99.toFixed(1), worst.toFixed(1)]),
    ),
  ].join('\n')
}
