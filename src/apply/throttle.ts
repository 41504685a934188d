/** Puts a policy's steps off while production feels something, and says so. */
import { formatTableName } from '../config/fields.ts'
import type { Policy } from '../config/policy.ts'
import type { Felt, Finding, Pressure } from '../database/database.ts'
import { messageOf } from '../errors.ts'
import type { WaitReport } from '../report.ts'
import { isOver, rest, type RunContext } from '../plan/step.ts'

/** How often production is asked, at most; milliseconds. */
const askEvery = 1000
/** For how long others are taken to write after they have written; milliseconds. */
const busyFor = 10_000

/** What steps only make worse: after `maxWait` the policy ends. Of all else, apply goes on. */
const harmful: ReadonlySet<Pressure['signal']> = new Set(['replicaLag', 'walBacklog'])

/** The throttle of one policy's run; its lanes share it. */
export class Throttle {
  readonly waits: WaitReport[] = []
  readonly warnings: Finding[] = []
  /** Whether production felt too much for too long, so that the policy ends early. */
  stopped = false
  readonly #policy: Policy
  readonly #context: RunContext
  #asking: Promise<void> | undefined
  #askedAt = -Infinity
  /** Whether a step may have been begun. */
  #hasBegun = false
  #busyUntil = -Infinity

  constructor(policy: Policy, context: RunContext) {
    this.#policy = policy
    this.#context = context
  }

  /** Whether others write, so that steps should be small. */
  get isBusy(): boolean {
    return performance.now() < this.#busyUntil
  }

  /** Waits until production can take a step, or the policy is to end. */
  async ready(): Promise<void> {
    // Lanes wait together, and are told once.
    this.#asking ??= this.#wait().finally(() => {
      this.#asking = undefined
    })
    await this.#asking
    this.#hasBegun = true
  }

  async #wait(): Promise<void> {
    if (this.stopped || performance.now() - this.#askedAt < askEvery) return
    let begun = 0
    let reason: string | undefined
    for (;;) {
      const pressures = await this.#ask()
      const [first] = pressures
      if (first === undefined || isOver(this.#context)) break
      const waited = reason === undefined ? 0 : performance.now() - begun
      const harm = pressures.find(({ signal }) => harmful.has(signal))
      const inVain = harm !== undefined && this.#context.inVain.has(this.#key(harm))
      if (inVain || waited >= this.#policy.throttle.maxWait) {
        this.#giveUp(pressures, harm)
        break
      }
      if (reason === undefined) {
        reason = first.text
        begun = performance.now()
        this.#context.tell({ type: 'wait-started', policy: this.#policy.name, reason })
      }
      await rest(Math.min(askEvery, this.#policy.throttle.maxWait - waited), this.#context)
    }
    if (reason === undefined) return
    const milliseconds = Math.round(performance.now() - begun)
    this.waits.push({ reason, milliseconds })
    this.#context.tell({ type: 'wait-finished', policy: this.#policy.name, reason, milliseconds })
  }

  /** What is to be waited for now. */
  async #ask(): Promise<readonly Pressure[]> {
    const { table, throttle } = this.#policy
    const felt = await this.#context.database.pressure(table, throttle).catch((error: unknown): Felt => {
      // What cannot be known is not waited for. Where the connection is what failed, the step will tell.
      const text = `What production feels could not be asked: ${messageOf(error)}`
      return { pressures: [], hidden: { level: 'warning', text } }
    })
    this.#askedAt = performance.now()
    if (felt.hidden !== undefined && this.warnings.every(({ text }) => text !== felt.hidden?.text)) {
      this.warnings.push(felt.hidden)
    }
    if (felt.pressures.some(({ signal }) => signal === 'busyWriters')) this.#busyUntil = this.#askedAt + busyFor
    // What our own steps have called up would come again after each wait.
    const isOwnDoing = ({ signal, isTheServers }: Pressure): boolean =>
      signal === 'autovacuum' && isTheServers === true && this.#hasBegun
    const pressures = felt.pressures.filter((pressure) => pressure.signal !== 'busyWriters' && !isOwnDoing(pressure))
    const { inVain } = this.#context
    // What has passed and comes back is waited for again.
    const now = new Set(pressures.map((pressure) => this.#key(pressure)))
    for (const key of inVain) if (!now.has(key)) inVain.delete(key)
    return pressures.filter((pressure) => harmful.has(pressure.signal) || !inVain.has(this.#key(pressure)))
  }

  #giveUp(pressures: readonly Pressure[], harm: Pressure | undefined): void {
    for (const pressure of pressures) this.#context.inVain.add(this.#key(pressure))
    this.stopped = harm !== undefined
    this.warnings.push(
      harm === undefined
        ? {
            level: 'warning',
            text: `Went on although ${pressures.map(({ text }) => text).join(', and ')}`,
            hint: `What was deleted cannot be vacuumed until it ends. ${limitsHint}`,
          }
        : {
            level: 'warning',
            text: `Stopped early: ${harm.text}`,
            hint: `Run again when that has passed: more would make it worse. ${limitsHint}`,
          },
    )
  }

  /** What is waited for in vain once in a run; a vacuum is one table's own. */
  #key({ signal }: Pressure): string {
    return signal === 'autovacuum' ? `${signal} ${formatTableName(this.#policy.table)}` : signal
  }
}

const limitsHint = '"throttle", in the config or the policy, sets limits and how long to wait.'
