/**
 * Loaded into a `retention` process before it starts (`node --import`): watches what the process does to files and
 * databases, and at a chosen point kills it, makes the call fail, or runs a command. The tool itself knows nothing of it.
 *
 * A call is a point with a name, such as `fsync csv.tmp`, `link manifest`, `PUT csv`, `commit step`. `RETENTION_TRACE` names a file that
 * every point is appended to, `RETENTION_POINTS` holds what is to be done, as JSON of `Plan[]`.
 */
import { execSync } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import http, { type ClientRequest } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import path from 'node:path'

/** What is to be done at a point. */
export interface Plan {
  readonly point: string
  /** Before the call, when it has been made and not yet answered, or when it has been answered. Default `before`. */
  readonly phase?: 'before' | 'during' | 'after'
  /** The how-manieth call of that name. Default 1. */
  readonly nth?: number
  /** Default `kill`. */
  readonly act?: 'kill' | 'fail' | 'run'
  /** For `fail`: the error's code. For `run`: the command. */
  readonly with?: string
  /** Is awaited instead, before a call whose answer is waited for. */
  readonly meanwhile?: () => Promise<void>
}

const { RETENTION_POINTS: plansText = '[]', RETENTION_TRACE: trace, RETENTION_CLOCK: clock } = process.env
// The tests' own, and nobody else's.
let plans = JSON.parse(plansText) as readonly Plan[]
const seen = new Map<string, number>()
let passed: string[] = []

/** For tests that call the library instead of the command line: does this at the points that the work passes. */
export async function atPoints<T>(
  todo: readonly Plan[],
  work: () => Promise<T>,
): Promise<{ result: T; points: string[] }> {
  plans = todo
  seen.clear()
  passed = []
  try {
    const result = await work()
    return { result, points: passed }
  } finally {
    plans = []
  }
}

/** Whether a file is one of the target's, and which. */
function fileName(file: unknown): string | undefined {
  const name = path.basename(String(file))
  const kind = /\.csv\.manifest\.json(\.|$)/.test(name) ? 'manifest' : /\.csv(\.|$)/.test(name) ? 'csv' : undefined
  return kind === undefined ? undefined : name.endsWith('.tmp') ? `${kind}.tmp` : kind
}

function act(point: string, phase: Plan['phase'], nth: number): void {
  for (const plan of plans) {
    if (plan.point !== point || (plan.phase ?? 'before') !== phase || (plan.nth ?? 1) !== nth) continue
    if (plan.meanwhile !== undefined) continue
    if (plan.act === 'fail')
      throw Object.assign(new Error(`${plan.with}: made to fail at ${point}`), { code: plan.with })
    if (plan.act === 'run') execSync(plan.with ?? '', { stdio: 'ignore' })
    else process.kill(process.pid, 'SIGKILL')
  }
}

function reach(point: string): number {
  const nth = (seen.get(point) ?? 0) + 1
  seen.set(point, nth)
  passed.push(point)
  if (trace !== undefined) appendFileSync(trace, `${point}\n`)
  return nth
}

/** A call that answers at once. */
function pass<T>(point: string | undefined, call: () => T): T {
  if (point === undefined) return call()
  const nth = reach(point)
  act(point, 'before', nth)
  const result = call()
  act(point, 'during', nth)
  act(point, 'after', nth)
  return result
}

/** A call whose answer is waited for. */
async function passing<T>(point: string | undefined, call: () => Promise<T>): Promise<T> {
  if (point === undefined) return call()
  const nth = reach(point)
  await plans.find((plan) => plan.point === point && (plan.nth ?? 1) === nth)?.meanwhile?.()
  act(point, 'before', nth)
  const answer = call()
  setImmediate(() => act(point, 'during', nth))
  const result = await answer
  act(point, 'after', nth)
  return result
}

const handles = new WeakMap<object, string>()

function watchFiles(): void {
  const { open, link, unlink, mkdir } = fs
  let isWatched = false
  fs.open = async (...args: Parameters<typeof open>) => {
    const [file, flags] = args
    const name = fileName(file)
    const writes = flags === 'wx'
    const handle = await passing(name === undefined ? undefined : `${writes ? 'create' : 'open'} ${name}`, () =>
      open(...args),
    )
    handles.set(handle, name ?? (String(file).endsWith('-wal') ? 'log' : 'folder'))
    // An own property of each handle, where its other methods are the prototype's.
    const { close } = handle
    handle.close = () => passing(writes && name !== undefined ? `close ${name}` : undefined, () => close.call(handle))
    if (!isWatched) watchHandles(Object.getPrototypeOf(handle) as FileHandle)
    isWatched = true
    return handle
  }
  fs.link = (from, to) => passing(`link ${fileName(to) ?? 'probe'}`, () => link(from, to))
  fs.unlink = (file) => passing(`unlink ${fileName(file) ?? 'probe'}`, () => unlink(file))
  // Of its overloads the tool uses one.
  fs.mkdir = ((folder: string, options: object) => passing('mkdir', () => mkdir(folder, options))) as typeof mkdir
  syncBuiltinESMExports()
}

function watchHandles(prototype: FileHandle): void {
  const { appendFile, sync, read } = prototype
  const nameOf = (handle: FileHandle): string => handles.get(handle) ?? 'unknown'
  prototype.appendFile = function (this: FileHandle, ...args) {
    return passing(`write ${nameOf(this)}`, () => appendFile.apply(this, args))
  }
  prototype.sync = function (this: FileHandle) {
    return passing(`fsync ${nameOf(this)}`, () => sync.call(this))
  }
  // A file is read in many pieces: the first stands for all.
  const begun = new WeakSet<FileHandle>()
  prototype.read = function (this: FileHandle, ...args: unknown[]) {
    const point = begun.has(this) ? undefined : `read ${nameOf(this)}`
    begun.add(this)
    return passing(point, () => Reflect.apply(read, this, args))
  }
}

/** Requests to a service that archives are stored with. */
function watchRequests(): void {
  const { request } = http
  const watched = (...args: unknown[]): ClientRequest => {
    const [{ method, path: url = '' } = {}] = args as [{ method?: string; path?: string }?]
    const [file = '', query = ''] = url.split('?')
    const what = /uploads|uploadId|partNumber/.exec(query)?.[0] ?? ''
    const point = `${method ?? 'GET'} ${what === '' ? '' : `${what} `}${fileName(file) ?? (file.includes('probe-') ? 'probe' : 'folder')}`
    const nth = reach(point)
    act(point, 'before', nth)
    const sent = Reflect.apply(request, http, args) as ClientRequest
    sent.once('finish', () => act(point, 'during', nth))
    sent.once('response', () => act(point, 'after', nth))
    return sent
  }
  http.request = watched
  syncBuiltinESMExports()
}

/** The points among statements, the first that matches; what a transaction is for is known by the last that says so. */
const statements: readonly [RegExp, string, string?][] = [
  [/^\s*create table "retention_/i, 'migrate ledger', 'migration'],
  [/^\s*insert into "retention_ledger_names"/i, 'claim number', 'claim'],
  [/^\s*lock table .* in row exclusive mode|^\s*explain update/i, 'lock table'],
  [/pg_try_advisory_xact_lock|^\s*begin exclusive/i, 'lock policy'],
  [/pg_advisory_xact_lock/i, 'lock restores'],
  [/^\s*copy \(\s*(delete|update|with)/i, 'copy rows'],
  [/^\s*copy \(select .* from only /i, 'copy partition'],
  [/^\s*lock table only .* in share mode/i, 'lock partition'],
  [/^\s*lock table only .* in access exclusive/i, 'lock whole'],
  [/^\s*alter table .* detach partition/i, 'detach', 'step'],
  [/^\s*drop table "/i, 'drop partition', 'step'],
  [/^\s*begin deferred/i, 'begin snapshot'],
  [/^\s*begin immediate/i, 'begin write'],
  [/^\s*delete from "(?!retention_|temp")|^\s*with "retention_\d+" as \(\s*delete/i, 'delete rows'],
  [/^\s*update (or abort )?"(main|public)"/i, 'overwrite rows'],
  [/^\s*insert into "retention_ledger" /i, 'insert ledger', 'step'],
  [/^\s*copy "pg_temp"|^\s*insert into "temp"/i, 'stage row'],
  [/insert (or (abort|fail) )?into "(public|main)"\."log" \(|^\s*copy "public"\."log" \(/i, 'insert rows', 'restore'],
  [/^\s*copy \(\s*select|from \(\s*select s\.n|where "rowid" between \? and \? order by "rowid"$/i, 'read rows back'],
  [/^\s*insert into "retention_ledger_erasures"/i, 'insert erasure', 'erasure'],
  [
    /^\s*update "retention_ledger" set "(name"|state" = \S+ where "name" = \S+ and "state" = \S+ and "manifest)/i,
    'move ledger',
    'erasure',
  ],
  [/^\s*update "retention_ledger" set "state" = \S+ "pruned_at"/i, 'mark pruned', 'prune'],
  [/^\s*update "retention_ledger" set "removed_at"/i, 'mark removed', 'removal'],
  [/^\s*insert into "retention_ledger_moved_files"/i, 'insert move', 'move'],
  [/^\s*update "retention_ledger_(erased|moved)_files"/i, 'mark removed', 'removal'],
  [/^\s*update "retention_ledger" /i, 'mark restored', 'restore'],
  [/^\s*insert into "retention_ledger_runs"/i, 'insert run', 'run'],
  [/^\s*insert into "retention_ledger_holds"/i, 'insert hold'],
  [/^\s*commit/i, 'commit'],
  [/^\s*rollback$/i, 'rollback'],
  [/data_version/i, 'compare version'],
  [/^synchronous = normal/, 'commits wait no more'],
  [/^wal_checkpoint/, 'checkpoint'],
  [/^\/\* retention|^incremental_vacuum/, 'reclaim'],
]
const purposes = new WeakMap<object, string>()

function statementPoint(connection: object, text: unknown): string | undefined {
  const found = statements.find(([pattern]) => pattern.test(String(text)))
  if (found === undefined) return undefined
  const [, point, purpose] = found
  if (purpose !== undefined) purposes.set(connection, purpose)
  if (point !== 'commit') return point
  const done = purposes.get(connection)
  purposes.delete(connection)
  return done === undefined ? undefined : `commit ${done}`
}

async function watchPostgres(): Promise<void> {
  const { Client } = (await import('pg')).default
  const { prototype } = Client
  const query = prototype.query as (this: object, ...args: unknown[]) => unknown
  const watched = function (this: object, ...args: unknown[]): unknown {
    const [first] = args
    const text = typeof first === 'string' ? first : (first as { text?: string; cursor?: unknown } | null)?.text
    const point = statementPoint(this, text)
    const isStream = typeof first === 'object' && first !== null && 'submit' in first
    if (point === undefined || isStream || args.some((arg) => typeof arg === 'function')) {
      return pass(point, () => query.apply(this, args))
    }
    return passing(point, async () => query.apply(this, args))
  }
  prototype.query = watched as typeof prototype.query
}

async function watchSqlite(): Promise<void> {
  const { default: Sqlite } = await import('better-sqlite3')
  const { prototype } = Sqlite
  const { exec, prepare, pragma } = prototype
  let isWatched = false
  const connections = new WeakMap<object, object>()
  prototype.exec = function (text) {
    return pass(statementPoint(this, text), () => exec.call(this, text))
  }
  prototype.pragma = function (text, options) {
    return pass(statementPoint(this, text), (): unknown => pragma.call(this, text, options))
  }
  prototype.prepare = function (this: typeof prototype, text: string) {
    const statement = prepare.call(this, text)
    connections.set(statement, this)
    if (!isWatched) {
      isWatched = true
      const of = Object.getPrototypeOf(statement) as Record<string, (...args: unknown[]) => unknown>
      for (const name of ['run', 'all', 'get', 'iterate']) {
        const original = of[name]
        of[name] = function (this: { source: string }, ...args) {
          return pass(statementPoint(connections.get(this) ?? this, this.source), () => original?.apply(this, args))
        }
      }
    }
    return statement
  } as typeof prepare
}

/** Moves the process's clock by so many milliseconds. */
function moveClock(by: number): void {
  const Real = Date
  globalThis.Date = class extends Real {
    constructor(...args: [] | [number | string | Date]) {
      if (args.length === 0) super(Real.now() + by)
      else super(...args)
    }
    static override now(): number {
      return Real.now() + by
    }
  } as DateConstructor
}

watchFiles()
watchRequests()
const { RETENTION_WATCH: wanted } = process.env
if (wanted !== 'sqlite') await watchPostgres()
if (wanted !== 'postgres') await watchSqlite()
if (clock !== undefined) moveClock(Number(clock))
