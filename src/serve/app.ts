/** The service's routes: what is asked, and what is answered. A pure Fetch handler; who may ask is `gate`'s matter. */
import { Hono, type Context } from 'hono'

import type { ProjectOptions } from '../config/project.ts'
import { asRetentionError, hasCode, RetentionError } from '../errors.ts'
import type { RunEvent } from '../events.ts'
import { reported, type QueueCounts, type ReportedError, type StatusReport } from '../report.ts'
import { status } from '../status.ts'
import { queueStatus } from '../worker/worker.ts'
import { json, refusal, securityHeaders } from './answers.ts'
import { gate, type Access } from './gate.ts'
import { metricsText, metricsType } from './metrics.ts'
import { pageRoutes } from './page/routes.ts'
import { Plans } from './plans.ts'
import { obstacle } from './readiness.ts'
import { Runs } from './runs.ts'
import { Shared } from './shared.ts'
import { Streams, type StreamOptions } from './sse.ts'

/** What a service is made of. */
export interface AppOptions extends ProjectOptions {
  /** Who may ask. */
  access: Access
  /** Is told what happens in every run. Default: nobody is. */
  onEvent?: (event: RunEvent) => void
  /** How events are streamed. */
  streams?: StreamOptions
  /** Is told of every request that has been answered. Default: nobody is. */
  onRequest?: (request: AnsweredRequest) => void
}

/** A request, as a log has it: the query, where a token may stand, is left out. */
export interface AnsweredRequest {
  readonly method: string
  readonly path: string
  readonly status: number
  readonly milliseconds: number
}

/** What the server knows of a request beyond the request itself. */
interface Caller {
  /** Who asks, for limits. Default: all are one, and wrong tokens are not counted. */
  readonly address?: string | undefined
  /** The path in front of all addresses that are given back. Default: none. */
  readonly basePath?: string | undefined
}

/** A service. */
export interface App {
  /** Answers a request; never throws. */
  readonly fetch: (request: Request, caller?: Caller) => Promise<Response>
  /** Whether something is found at a path, for whoever may ask. */
  readonly has: (path: string) => boolean
  /** The runs that it has started; what else starts runs in this process, a schedule say, starts them here. */
  readonly runs: Runs
}

interface Bindings {
  readonly Bindings: Caller
}

/** What an answer's routes share. */
interface Parts {
  readonly runs: Runs
  readonly plans: Plans
  readonly database: string | undefined
  readonly token: string | undefined
  readonly streams: Streams
  readonly status: Shared<StatusReport>
  readonly queue: Shared<QueueCounts>
  readonly readiness: Shared<string | undefined>
}

/** Makes a service; nothing is asked of config or database before the first request. */
export function createApp({ access, streams, onRequest, onEvent, ...project }: AppOptions): App {
  const known = new Shared(async () => status(project), { fresh: 2000, patience: 400, oldest: 60_000 })
  const parts: Parts = {
    runs: new Runs({ ...project, ...(onEvent === undefined ? {} : { onEvent }), onEnd: () => known.forget() }),
    plans: new Plans(project),
    database: project.database,
    token: access !== 'loopback' && 'token' in access ? access.token : undefined,
    streams: new Streams(streams),
    status: known,
    queue: new Shared(async () => queueStatus(project), { fresh: 5000, patience: 5000, oldest: 0 }),
    readiness: new Shared(async () => obstacle(project), { fresh: 2000, patience: 5000, oldest: 0 }),
  }
  const app = routes(parts)
  const guard = gate(access)
  const answer = async (request: Request, caller: Caller): Promise<Response> =>
    (await guard(request, caller)) ?? app.fetch(request, caller)
  return {
    fetch: async (request, caller = {}) => {
      const started = performance.now()
      const response = await answer(request, caller).catch(failure)
      const { pathname: path } = new URL(request.url)
      const milliseconds = Math.round(performance.now() - started)
      onRequest?.({ method: request.method, path, status: response.status, milliseconds })
      return response
    },
    has: (path) => app.router.match('GET', path)[0].length > 0,
    runs: parts.runs,
  }
}

function routes(parts: Parts): Hono<Bindings> {
  const { runs, streams } = parts
  const app = new Hono<Bindings>()
  app.get('/healthz', () => json({ alive: true }))
  app.get('/readyz', async () => {
    const code = runs.isStopping ? 'STOPPING' : (await parts.readiness.get()).value
    return code === undefined ? json({ ready: true }) : json({ ready: false, code }, 503)
  })
  app.get('/status', async () => {
    const { value, ageSeconds } = await parts.status.get()
    return json(value, 200, { Age: String(ageSeconds) })
  })
  app.get('/queue', async () => {
    try {
      const { value, ageSeconds } = await parts.queue.get()
      return json(value, 200, { Age: String(ageSeconds) })
    } catch (error) {
      const hasNone = hasCode(error, 'CONFIG_INVALID') || hasCode(error, 'PACKAGE_MISSING')
      if (!hasNone) throw error
      return refusal(404, reported(error))
    }
  })
  app.get('/metrics', async () => {
    const known = await parts.status.get().catch(() => undefined)
    const text = metricsText(known?.value, runs.running !== undefined, Date.now())
    return new Response(text, { headers: { ...securityHeaders, 'Content-Type': metricsType } })
  })
  app.get('/plan', async (context) => planFor(context, parts.plans))
  app.on(['GET', 'POST'], '/run-cleanup', async (context) => startRun(context, runs))
  app.get('/runs', () => json({ running: runs.running ?? null, runs: runs.list() }))
  app.get('/runs/:id', (context) => {
    if (context.req.header('accept')?.includes('text/event-stream') === true) return streamOf(context, runs, streams)
    const run = runs.view(context.req.param('id'))
    return run === undefined ? runUnknown(context) : json(run)
  })
  app.get('/runs/:id/events', (context) => streamOf(context, runs, streams))
  pageRoutes(app, parts)
  for (const path of [
    '/',
    '/healthz',
    '/readyz',
    '/status',
    '/queue',
    '/metrics',
    '/plan',
    '/runs',
    '/runs/:id',
    '/runs/:id/events',
  ])
    app.all(path, (context) => wrongMethod(context, 'GET, HEAD'))
  for (const path of ['/apply', '/sign-in', '/sign-out']) app.all(path, (context) => wrongMethod(context, 'POST'))
  app.all('/run-cleanup', (context) => wrongMethod(context, 'GET, POST'))
  app.notFound(({ req }) => refusal(404, { code: 'NOT_FOUND', message: `There is nothing at ${req.path}` }))
  app.onError(failure)
  return app
}

async function startRun(context: Context<Bindings>, runs: Runs): Promise<Response> {
  const { req, env } = context
  // Hono takes HEAD for GET.
  if (req.raw.method === 'HEAD') return wrongMethod(context, 'GET, POST')
  if (/prefetch|prerender|preview/i.test(`${req.header('sec-purpose')} ${req.header('purpose')}`))
    return refusal(403, { code: 'PREFETCH', message: 'A browser that looks ahead starts no run' })
  const started = await runs.start(namedPolicies(req.url))
  if ('stopping' in started)
    return refusal(503, { code: 'STOPPING', message: 'The service is about to stop, and starts no run' })
  const id = 'run' in started ? started.run : started.running
  const address = `${env.basePath ?? ''}/runs/${id}`
  if ('run' in started) return json({ run: id, status: address }, 202, { Location: address })
  const error: ReportedError = { code: 'RUN_GOES_ON', message: `Run ${id} goes on`, hint: `Follow it at ${address}.` }
  return json({ run: id, status: address, error }, 409, { Location: address })
}

async function planFor(context: Context<Bindings>, plans: Plans): Promise<Response> {
  if (context.req.raw.method === 'HEAD') return wrongMethod(context, 'GET')
  const plan = await plans.get(namedPolicies(context.req.url))
  if (plan !== undefined) return json(plan)
  return refusal(503, { code: 'PLAN_GOES_ON', message: 'Another plan is being made' }, { 'Retry-After': '5' })
}

/** @throws RetentionError `USAGE` where something else is named as well */
function namedPolicies(address: string): string[] {
  const query = new URL(address).searchParams
  const unknown = [...query.keys()].find((name) => name !== 'policy' && name !== 'token')
  if (unknown === undefined) return query.getAll('policy')
  throw new RetentionError('USAGE', `There is no parameter "${unknown}"`, {
    hint: 'Allowed: policy, as often as there are policies to name.',
  })
}

function streamOf(context: Context<Bindings>, runs: Runs, streams: Streams): Response {
  const run = runs.view(context.req.param('id') ?? '')
  if (run === undefined) return runUnknown(context)
  const sent = context.req.header('last-event-id') ?? ''
  const after = /^\d{1,9}$/.test(sent) ? Number(sent) : 0
  // Of what is over, and known to its end, a browser would ask again and again; 204 tells it to stop.
  if (run.state !== 'running' && after >= (run.events.at(-1)?.id ?? 0))
    return new Response(null, { status: 204, headers: securityHeaders })
  if (context.req.raw.method === 'HEAD') return wrongMethod(context, 'GET')
  return streams.of(runs, run.run, after)
}

function runUnknown(context: Context<Bindings>): Response {
  return refusal(404, {
    code: 'RUN_UNKNOWN',
    message: `No run is called ${JSON.stringify(context.req.param('id'))} here`,
    hint: 'The latest 50 that this process has started are known.',
  })
}

function wrongMethod({ req }: Context<Bindings>, allowed: string): Response {
  const message = `${req.raw.method} is not possible at ${req.path}; allowed: ${allowed}`
  return refusal(405, { code: 'METHOD_NOT_ALLOWED', message }, { Allow: allowed })
}

function failure(error: unknown): Response {
  const known = asRetentionError(error)
  switch (known.code) {
    case 'USAGE':
      return refusal(400, reported(known))
    case 'POLICY_UNKNOWN':
      return refusal(404, reported(known))
    case 'DATABASE_UNREACHABLE':
    case 'DATABASE_BUSY':
    case 'DATABASE_FAILED':
      return refusal(503, reported(known), { 'Retry-After': '5' })
    default:
      return refusal(500, reported(known))
  }
}
