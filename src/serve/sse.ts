/** A run's events as server-sent events: each with its id, so that a browser that was cut off goes on where it was. */
import { refusal, securityHeaders } from './answers.ts'
import type { Runs } from './runs.ts'

/** How many streams, and how they are kept open. */
export interface StreamOptions {
  /** Those that may be open at the same time. Default 100. */
  most?: number
  /** Milliseconds without an event after which a comment is sent: proxies cut off what is silent. Default 15 000. */
  heartbeat?: number
}

/** The streams of one service. */
export class Streams {
  readonly #most: number
  readonly #heartbeat: number
  #open = 0

  constructor({ most = 100, heartbeat = 15_000 }: StreamOptions = {}) {
    this.#most = most
    this.#heartbeat = heartbeat
  }

  /**
   * Streams a run's events to its end; a refusal where too many are streamed already.
   * @param after the id of the last event that is known
   */
  of(runs: Runs, run: string, after: number): Response {
    if (this.#open >= this.#most) {
      const message = `${this.#most} streams are open`
      return refusal(503, { code: 'TOO_MANY_STREAMS', message }, { 'Retry-After': '10' })
    }
    const events = runs.events(run, after, this.#heartbeat)
    let isOpen = true
    const end = (): void => {
      if (isOpen) this.#open -= 1
      isOpen = false
    }
    this.#open += 1
    const encoder = new TextEncoder()
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => controller.enqueue(encoder.encode('retry: 2000\n\n')),
        pull: async (controller) => {
          const next = await events.next()
          if (!isOpen) return
          if (next.done === true) {
            end()
            controller.close()
          } else {
            const event = next.value
            const text =
              event === undefined
                ? ':\n\n'
                : `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
            controller.enqueue(encoder.encode(text))
          }
        },
        cancel: end,
      },
      { highWaterMark: 1 },
    )
    return new Response(body, {
      headers: { ...securityHeaders, 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' },
    })
  }
}
