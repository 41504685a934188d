/** How often an address may ask: a bucket for each that fills up again, in memory that stays small. */
import { isIPv6 } from 'node:net'

/** Addresses that are remembered; past that, the one that has not asked for the longest time is forgotten. */
const mostAddresses = 10_000

interface Bucket {
  left: number
  /** When `left` was right, in milliseconds. */
  at: number
}

/** Buckets of one kind. */
export class Buckets {
  readonly #size: number
  readonly #perMillisecond: number
  readonly #buckets = new Map<string, Bucket>()

  /**
   * @param size requests at once
   * @param perMinute requests in the long run
   */
  constructor(size: number, perMinute: number) {
    this.#size = size
    this.#perMillisecond = perMinute / 60_000
  }

  /** Takes one out. @returns the seconds until there is one, where there is none; else undefined */
  take(address: string, now = performance.now()): number | undefined {
    const bucket = this.#filled(address, now)
    this.#buckets.delete(address)
    this.#buckets.set(address, bucket)
    if (this.#buckets.size > mostAddresses) this.#forgetOldest()
    if (bucket.left < 1) return this.#secondsUntilOne(bucket)
    bucket.left -= 1
    return undefined
  }

  /** Addresses that are remembered. */
  get addresses(): number {
    return this.#buckets.size
  }

  #forgetOldest(): void {
    const { value: oldest } = this.#buckets.keys().next()
    if (oldest !== undefined) this.#buckets.delete(oldest)
  }

  #filled(address: string, now: number): Bucket {
    const { left, at } = this.#buckets.get(address) ?? { left: this.#size, at: now }
    return { left: Math.min(this.#size, left + (now - at) * this.#perMillisecond), at: now }
  }

  #secondsUntilOne({ left }: Bucket): number {
    return Math.max(1, Math.ceil((1 - left) / this.#perMillisecond / 1000))
  }
}

/** Who asks, as far as limits go: of IPv6, which gives a household more addresses than there are seconds, the network. */
export function limitKey(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
  if (!isIPv6(plain)) return plain
  const [head = '', tail] = plain.split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? 0 : tail.split(':').length
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - after)
  return [...groups, ...Array.from({ length: zeros }, () => '0'), ...(tail ?? '').split(':')].slice(0, 4).join(':')
}
