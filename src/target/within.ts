/** A target for one step: what it is storing or reading is given up when a signal says so, however long the target takes. */
import type { Draft, Target } from './target.ts'

export class TargetWithin implements Target {
  readonly name: string
  readonly #target: Target
  readonly #signal: AbortSignal
  /** What is being cleared away behind whoever has given up. */
  readonly #clearing: Promise<unknown>[] = []

  constructor(target: Target, signal: AbortSignal) {
    this.name = target.name
    this.#target = target
    this.#signal = signal
  }

  /** Waits until what was given up has been cleared away, as far as the target lets it. */
  async cleared(): Promise<void> {
    await Promise.allSettled(this.#clearing)
  }

  async identity(): Promise<string> {
    return this.#target.identity()
  }

  locate(file: string): string {
    return this.#target.locate(file)
  }

  async check(): Promise<void> {
    return this.#target.check()
  }

  async prepare(): Promise<void> {
    return this.#target.prepare()
  }

  async create(file: string): Promise<Draft> {
    const created = this.#target.create(file)
    const draft = await this.#unlessOver(created).catch((error: unknown) => {
      this.#clearing.push(created.then((late) => late.discard()))
      throw error
    })
    return {
      write: (chunk) => this.#unlessOver(draft.write(chunk)),
      publish: () => this.#unlessOver(draft.publish()),
      discard: () => this.#clear(draft.discard()),
    }
  }

  async has(file: string): Promise<boolean> {
    return this.#unlessOver(this.#target.has(file))
  }

  async read(file: string, into?: Buffer): Promise<AsyncIterable<Buffer>> {
    // What is given up may go on for a while, and must not write to a buffer that is somebody else's by then.
    const own = into === undefined ? undefined : Buffer.allocUnsafeSlow(into.length)
    return this.#chunks(await this.#unlessOver(this.#target.read(file, own)))
  }

  async withdraw(file: string): Promise<void> {
    return this.#clear(this.#target.withdraw(file))
  }

  async remove(file: string): Promise<void> {
    return this.#target.remove(file)
  }

  async lockOn(file: string): Promise<string | undefined> {
    return this.#target.lockOn(file)
  }

  async setAside(file: string): Promise<void> {
    return this.#target.setAside(file)
  }

  async list(): Promise<string[]> {
    return this.#target.list()
  }

  async listAside(): Promise<string[]> {
    return this.#target.listAside()
  }

  async *#chunks(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const chunks = source[Symbol.asyncIterator]()
    try {
      for (;;) {
        const { done, value } = await this.#unlessOver(chunks.next())
        if (done === true) return
        yield value
      }
    } finally {
      await this.#clear(Promise.resolve(chunks.return?.()))
    }
  }

  /** Waits for something, or until it is over. @throws the signal's reason */
  async #unlessOver<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => reject(this.#signal.reason)
      this.#signal.addEventListener('abort', giveUp, { once: true })
      if (this.#signal.aborted) giveUp()
      work.then(resolve, reject).finally(() => this.#signal.removeEventListener('abort', giveUp))
    })
  }

  /** Clears something away, and waits for it unless it is over: the step's transaction must end. */
  async #clear(work: Promise<unknown>): Promise<void> {
    if (!this.#signal.aborted) return void (await work)
    this.#clearing.push(work)
  }
}
