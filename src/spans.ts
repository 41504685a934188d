/** OpenTelemetry: a run of apply as spans, where the application or process has set up an SDK. */
import type { Attributes, Span } from '@opentelemetry/api'

import type { RunEvent } from './events.ts'
import { toolVersion } from './version.ts'

/**
 * Follows a run: a span for the run, below whatever span is active now, one for each policy and one for each step. Does nothing
 * where `@opentelemetry/api` is not installed, or no SDK has been registered with it.
 */
export async function runSpans(): Promise<(event: RunEvent) => void> {
  // An SDK registers itself under this name; where none has, the API would only do nothing.
  if (!(Symbol.for('opentelemetry.js.api.1') in globalThis)) return () => {}
  const api = await import('@opentelemetry/api').catch(() => undefined)
  if (api === undefined) return () => {}
  const { context, SpanStatusCode, trace } = api
  const tracer = trace.getTracer('retention', toolVersion)
  const around = context.active()
  let run: Span | undefined
  let policy: Span | undefined

  const begin = (name: string, startTime: Date, parent: Span | undefined, attributes: Attributes): Span =>
    tracer.startSpan(name, { startTime, attributes }, parent === undefined ? around : trace.setSpan(around, parent))
  const fail = (
    span: Span | undefined,
    { code, message }: { readonly code: string; readonly message: string },
  ): void => {
    span?.setAttribute('error.type', code).setStatus({ code: SpanStatusCode.ERROR, message })
  }

  return (event) => {
    const at = new Date(event.at)
    const known: Attributes = {
      'retention.run': event.run,
      ...(event.database === undefined ? {} : { 'retention.database': event.database }),
      ...('policy' in event ? { 'retention.policy': event.policy } : {}),
    }
    switch (event.type) {
      case 'run-started':
        run = begin('retention run', at, undefined, known)
        break
      case 'policy-started':
        policy = begin(`retention policy ${event.policy}`, at, run, known)
        break
      case 'step-finished': {
        const { step, archive, milliseconds } = event
        const made: Attributes = archive === undefined ? {} : madeBy(archive)
        const startTime = new Date(at.getTime() - milliseconds)
        begin('retention step', startTime, policy, { ...known, 'retention.step': step, ...made }).end(at)
        break
      }
      case 'wait-started':
      case 'wait-finished':
        policy?.addEvent(event.type, { 'retention.reason': event.reason }, at)
        break
      case 'policy-finished': {
        const { status, due, archived, error } = event.report
        policy?.setAttributes({ 'retention.status': status, 'retention.due': due, 'retention.rows': archived })
        if (error !== undefined) fail(policy, error)
        policy?.end(at)
        policy = undefined
        break
      }
      case 'run-finished': {
        const failed = event.report.policies.find(({ error }) => error !== undefined)
        if (failed?.error !== undefined) fail(run, failed.error)
        run?.end(at)
        break
      }
      case 'run-failed':
        policy?.end(at)
        run ??= begin('retention run', at, undefined, known)
        fail(run, event.error)
        run.end(at)
        break
    }
  }
}

function madeBy({
  name,
  rows,
  bytes,
}: {
  readonly name: string
  readonly rows: number
  readonly bytes: number
}): Attributes {
  return { 'retention.archive': name, 'retention.rows': rows, 'retention.bytes': bytes }
}
