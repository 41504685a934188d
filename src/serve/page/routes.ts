/** The dashboard's addresses: the page, its form's actions, and the files that it loads. */
import type { Context, Hono } from 'hono'

import { asRetentionError } from '../../errors.ts'
import { reported, type ReportedError, type StatusReport } from '../../report.ts'
import { securityHeaders } from '../answers.ts'
import type { Plans } from '../plans.ts'
import type { Runs } from '../runs.ts'
import { beginSession, endSession, hasSession } from '../session.ts'
import type { Answer, Shared } from '../shared.ts'
import { dashboard, page, type Content } from './page.ts'
import { progress } from './run.ts'
import { script } from './script.ts'
import { icon, style } from './style.ts'
import { viewOf, type View } from './view.ts'

/** What the dashboard is made from. */
interface PageParts {
  readonly runs: Runs
  readonly plans: Plans
  readonly status: Shared<StatusReport>
  /** Which of several databases it is about. */
  readonly database: string | undefined
  /** What sessions are begun with; undefined where nobody needs one. */
  readonly token: string | undefined
}

interface Bindings {
  readonly Bindings: { readonly basePath?: string | undefined }
}

/** The files that a page loads: they are the same for everybody, and hold nothing of anybody's. */
export const files: Readonly<Record<string, { readonly type: string; readonly text: string }>> = {
  '/page.css': { type: 'text/css; charset=utf-8', text: style },
  '/page.js': { type: 'text/javascript; charset=utf-8', text: script },
  '/page.svg': { type: 'image/svg+xml', text: icon },
}

export function pageRoutes<Env extends Bindings>(app: Hono<Env>, parts: PageParts): void {
  const { runs, token } = parts
  for (const [path, { type, text }] of Object.entries(files))
    app.get(path, () => new Response(text, { headers: { ...securityHeaders, 'Content-Type': type } }))
  app.get('/', async (context) => {
    const query = new URL(context.req.url).searchParams
    if (query.has('token') && token !== undefined) return signedIn(context, token, query)
    return show(context, parts, {}, 200)
  })
  app.get('/runs/:id/progress', async (context) => {
    const run = runs.view(context.req.param('id') ?? '')
    const view = viewFor(context, parts)
    return run === undefined ? new Response(null, { status: 404, headers: securityHeaders }) : page(progress(view, run))
  })
  // The gate has seen the token.
  app.post('/sign-in', (context) =>
    token === undefined ? home(context) : signedIn(context, token, new URLSearchParams()),
  )
  app.post('/sign-out', (context) => home(context, endSession(context.req.raw, baseOf(context))))
  app.post('/apply', async (context) => {
    const policies = new URL(context.req.url).searchParams.getAll('policy')
    try {
      const started = await runs.start(policies)
      if ('stopping' in started) {
        const { stopping: message } = viewFor(context, parts).texts
        return await show(context, parts, { refused: { code: 'STOPPING', message } }, 503)
      }
      const id = 'run' in started ? started.run : started.running
      return redirect(`${baseOf(context)}/?run=${encodeURIComponent(id)}#run`)
    } catch (error) {
      return show(context, parts, { refused: known(error) }, 400)
    }
  })
}

async function show<Env extends Bindings>(
  context: Context<Env>,
  parts: PageParts,
  { refused: already }: { refused?: ReportedError },
  code: number,
): Promise<Response> {
  const { raw } = context.req
  const query = new URL(raw.url).searchParams
  const view = viewFor(context, parts)
  const { plan, refused: notPlanned } = await planned(
    view,
    parts.plans,
    raw.method === 'GET' ? query.get('plan') : null,
  )
  const asked = query.get('run') ?? parts.runs.running
  const run = asked === undefined ? undefined : parts.runs.view(asked)
  const gone =
    query.has('run') && run === undefined ? { code: 'RUN_UNKNOWN', message: view.texts.runUnknown } : undefined
  const { value: status, ageSeconds }: Answer<Content['status']> = await parts.status
    .get()
    .catch((error: unknown) => ({ value: known(error), ageSeconds: 0 }))
  const { token } = parts
  const content = {
    status,
    ageSeconds,
    run,
    plan,
    refused: already ?? notPlanned ?? gone,
    hasSession: token !== undefined && hasSession(raw, token, Date.now()),
  }
  const language: [string, string][] = query.has('lang')
    ? [['Set-Cookie', `retention_lang=${view.language}; Path=${view.base || '/'}; Max-Age=31536000; SameSite=Lax`]]
    : []
  // Also where the database is down: it is the page that answers, and tells so. Machines ask /readyz.
  return page(dashboard(view, content), code, language)
}

/** The plan that is asked for: of one policy, or of all by the empty text. */
async function planned(
  { texts }: View,
  plans: Plans,
  policy: string | null,
): Promise<Partial<Pick<Content, 'plan' | 'refused'>>> {
  if (policy === null) return {}
  try {
    const plan = await plans.get(policy === '' ? [] : [policy])
    return plan === undefined ? { refused: { code: 'PLAN_GOES_ON', message: texts.planGoesOn } } : { plan }
  } catch (error) {
    return { refused: known(error) }
  }
}

/** The token is in a cookie's proof from here on, and no longer in the address. */
function signedIn<Env extends Bindings>(context: Context<Env>, token: string, query: URLSearchParams): Response {
  query.delete('token')
  const rest = query.size === 0 ? '' : `?${query.toString()}`
  const base = baseOf(context)
  return redirect(`${base}/${rest}`, beginSession(context.req.raw, token, base, Date.now()))
}

function home<Env extends Bindings>(context: Context<Env>, cookie?: string): Response {
  return redirect(`${baseOf(context)}/`, cookie)
}

function redirect(address: string, cookie?: string): Response {
  return new Response(null, {
    status: 303,
    headers: { ...securityHeaders, Location: address, ...(cookie === undefined ? {} : { 'Set-Cookie': cookie }) },
  })
}

function baseOf<Env extends Bindings>({ env }: Context<Env>): string {
  return env.basePath ?? ''
}

function viewFor<Env extends Bindings>(context: Context<Env>, { database }: PageParts): View {
  return viewOf(context.req.raw, baseOf(context), database)
}

function known(error: unknown): ReportedError {
  return reported(asRetentionError(error))
}
