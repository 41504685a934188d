/** Logs and traces: what happens in runs, as lines that machines read and as OpenTelemetry has it. */
import { context, trace } from '@opentelemetry/api'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply } from '../src/index.ts'
import { logPolicy, minutesBefore, overDatabases, seedLog } from './support/scene.ts'

const test = suite('log')

const old = minutesBefore('2025-01-01T00:00:00Z', 8)

interface Line {
  readonly level: string
  readonly time: string
  readonly type: string
  readonly run?: string
  readonly msg: string
  readonly policy?: string
  readonly status?: string
  readonly rows?: number
  readonly error?: { readonly code: string; readonly message: string }
}

function linesOf(text: string): Line[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
}

overDatabases(
  test,
  'lines of JSON and nothing else on stderr, each with its run and without secrets',
  async ({ db, project }) => {
    await seedLog(db, old)
    const scene = project({ log: { ...logPolicy, batch: 4 }, none: { table: 'no_such_table', column: 'at', days: 1 } })
    const { code, stderr, stdout } = await scene.run(['apply', '--log-format', 'json', '--json'])
    assert.is(code, 1)
    const { run } = JSON.parse(stdout) as { run: string }
    const lines = linesOf(stderr)
    assert.equal(
      lines.map(({ level, type, policy, status, rows }) =>
        [level, type, policy, status, rows].filter((one) => one !== undefined),
      ),
      [
        ['info', 'run-started'],
        ['info', 'policy-started', 'log'],
        ['info', 'step-finished', 'log', 4],
        ['info', 'step-finished', 'log', 8],
        ['info', 'policy-finished', 'log', 'applied'],
        ['info', 'policy-started', 'none'],
        ['error', 'policy-finished', 'none', 'refused'],
        ['info', 'run-finished'],
      ],
    )
    assert.ok(lines.every((line) => line.run === run && line.msg !== '' && !Number.isNaN(Date.parse(line.time))))
    assert.is(lines.at(-2)?.error?.code, 'REFUSED')

    const quiet = await scene.run(['apply', '--log-format=json', '--quiet'])
    assert.equal(
      linesOf(quiet.stderr).map(({ type, policy }) => [type, policy]),
      [['policy-finished', 'none']],
    )
    const [wrong] = linesOf((await scene.run(['apply', 'lgo', '--log-format', 'json'])).stderr).slice(-1)
    assert.equal([wrong?.level, wrong?.type, wrong?.error?.code], ['error', 'command-failed', 'POLICY_UNKNOWN'])
    const usage = linesOf((await scene.run(['apply', '--log-format', 'json', '--nonsense'])).stderr)
    assert.is(usage[0]?.error?.code, 'USAGE')

    scene.configure({ database: 'postgres://someone:hunter2@127.0.0.1:1/none' })
    const { stderr: failed } = await scene.run(['apply', '--log-format', 'json'])
    assert.equal(
      linesOf(failed).map(({ type }) => type),
      ['run-failed', 'command-failed'],
    )
    assert.not.match(failed, 'hunter2')
  },
)

overDatabases(
  test,
  'a run, its policies and its steps are spans, where an SDK is registered',
  async ({ db, project }) => {
    await seedLog(db, old)
    const { folder } = project({
      log: { ...logPolicy, batch: 4 },
      none: { table: 'no_such_table', column: 'at', days: 1 },
    })
    const exporter = new InMemorySpanExporter()
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
    trace.setGlobalTracerProvider(provider)
    let run = ''
    try {
      ;({ run } = await apply({ cwd: folder }))
      await apply({ cwd: folder, policies: ['unknown'] }).catch(() => {})
    } finally {
      trace.disable()
      context.disable()
    }
    const [first, ...spans] = exporter.getFinishedSpans().toReversed()
    assert.equal(
      [first?.name, first?.status.code, first?.attributes['error.type']],
      ['retention run', 2, 'POLICY_UNKNOWN'],
    )
    const nameOf = (id: string | undefined): string | undefined =>
      spans.find((span) => span.spanContext().spanId === id)?.name
    assert.equal(
      spans
        .toReversed()
        .map((span) => [
          span.name,
          nameOf(span.parentSpanContext?.spanId),
          span.attributes['retention.rows'],
          span.status.code,
        ]),
      [
        ['retention step', 'retention policy log', 4, 0],
        ['retention step', 'retention policy log', 4, 0],
        ['retention policy log', 'retention run', 8, 0],
        ['retention policy none', 'retention run', 0, 2],
        ['retention run', undefined, undefined, 2],
      ],
    )
    assert.ok(spans.every((span) => span.attributes['retention.run'] === run))
    assert.is(new Set(spans.map((span) => span.spanContext().traceId)).size, 1)
    await apply({ cwd: folder, policies: ['log'] })
    assert.is(exporter.getFinishedSpans().length, 6)
  },
)

test.run()
