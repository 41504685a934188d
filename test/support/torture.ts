/** Kills the real command line at named points and at random moments, over and over, and has the judge look each time. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { createDatabase, untilAlone, type Kind, type TestDatabase } from './database.ts'
import {
  compareRows,
  fileRows,
  judge,
  judgeChild,
  judgeRedacted,
  ledgerEntries,
  tableRows,
  type RowText,
} from './judge.ts'
import type { Plan } from './points.ts'
import { TestProject, type Run } from './project.ts'
import type { TestS3 } from './s3.ts'

/** How hard to try. */
export interface TortureOptions {
  readonly kind: Kind
  readonly kills: number
  readonly seed: number
  /** Whether rows of another table go along. Default false. */
  readonly children?: boolean
  /** A service that archives go to, instead of a folder. Its credentials must be in the environment. */
  readonly s3?: TestS3
  /** Whether rows stay, and columns of them are overwritten. Default false. */
  readonly redact?: boolean
  /** Is told of every kill. */
  readonly onKill?: (kills: number, point: string) => void
}

/** What a torture came to. */
export interface Totals {
  readonly kills: number
  /** Commands that ended by themselves, as the point was not reached or the moment came too late. */
  readonly survived: number
  /** How often each point was the place of a kill. */
  readonly points: ReadonlyMap<string, number>
  /** Rows that were looked at, all in all. */
  readonly rows: number
  /** How often everything was restored and compared with the original. */
  readonly rounds: number
}

const watcher = path.join(import.meta.dirname, 'points.ts')
const due = "at < '2021-01-01'"
const unredacted = `${due} and (body is distinct from 'removed' or data is not null)`

/** What a redaction sets columns to, for the policy and for the judge. */
const set = { body: 'removed', data: null }
const setCells = (kind: Kind): Record<string, string> => ({
  body: kind === 'sqlite' ? 'tremoved' : 'vremoved',
  data: 'n',
})

/** A database is worn for so many kills; then another takes its place, and its ledger is made anew. */
const killsInOneDatabase = 100

/** @throws Error when a row is not in its one place; its message says how to play it again. */
export async function torture(options: TortureOptions): Promise<Totals> {
  const { kind, kills, seed, children = false, redact = false, s3, onKill } = options
  const random = randomNumbers(seed)
  const known = [false, true].map((): Knowledge => ({ points: new Map(), durations: new Map(), decks: new Map() }))
  const totals = { kills: 0, survived: 0, points: new Map<string, number>(), rows: 0, rounds: 0 }
  for (let victims = seed; totals.kills < kills; victims += 1) {
    // Of a partitioned table the commands pass other points.
    const isPartitioned = kind === 'postgres' && !children && victims % 2 === 1
    const victim = await Victim.create(
      kind,
      { isPartitioned, children, redact, s3 },
      random,
      known[Number(isPartitioned)],
    )
    const end = Math.min(kills, totals.kills + killsInOneDatabase)
    try {
      while (totals.kills < end) {
        const { killed, at } = await victim.strike()
        totals.rows += await victim.judge()
        if (killed) {
          totals.kills += 1
          totals.points.set(at, (totals.points.get(at) ?? 0) + 1)
          onKill?.(totals.kills, at)
        } else totals.survived += 1
      }
      totals.rows += await victim.finish()
      totals.rounds += victim.rounds
    } catch (error) {
      await victim.leave()
      throw new Error(
        `${kind}, seed ${seed}, after ${totals.kills} kills, ${victim.last}: ${error instanceof Error ? error.message : String(error)}\n` +
          `Play it again: npm run torture -- --database ${kind} --seed ${seed} --kills ${totals.kills + 1}${children ? ' --children' : ''}${redact ? ' --redact' : ''}${s3 === undefined ? '' : ' --target s3'}\nThe project is left in ${victim.folder}`,
        { cause: error },
      )
    }
    await victim.remove()
  }
  return totals
}

/** What is known of the commands from having run them whole once. */
interface Knowledge {
  /** The points that each passes, in their order, as often as it does. */
  readonly points: Map<string, string[]>
  /** How long each takes, in milliseconds. */
  readonly durations: Map<string, number>
  /** For each, its points and phases in random order; drawn one by one, so that none is left out. */
  readonly decks: Map<string, Plan[]>
}

/** One database and project on their way through many kills. */
class Victim {
  readonly #db: TestDatabase
  readonly #project: TestProject
  /** Without those that have been erased. */
  #original: readonly RowText[]
  /** Rows that hang on those; undefined where there is no such table. */
  readonly #children: readonly RowText[] | undefined
  readonly #redacts: boolean
  readonly #random: () => number
  readonly #known: Knowledge
  /** Where the archives are, if not in a folder. */
  readonly #bucket: { readonly s3: TestS3; readonly folder: string } | undefined
  /** What was done last, for a failure's message. */
  last = 'nothing'
  rounds = 0

  private constructor(
    db: TestDatabase,
    project: TestProject,
    original: readonly RowText[],
    children: readonly RowText[] | undefined,
    redacts: boolean,
    random: () => number,
    known: Knowledge,
    bucket: { readonly s3: TestS3; readonly folder: string } | undefined,
  ) {
    this.#bucket = bucket
    this.#children = children
    this.#redacts = redacts
    this.#known = known
    this.#db = db
    this.#project = project
    this.#original = original
    this.#random = random
  }

  static async create(
    kind: Kind,
    {
      isPartitioned,
      children,
      redact,
      s3,
    }: Record<'isPartitioned' | 'children' | 'redact', boolean> & { s3: TestS3 | undefined },
    random: () => number,
    known: Knowledge | undefined,
  ): Promise<Victim> {
    if (known === undefined) throw new Error('nothing to keep what is learnt')
    const db = await createDatabase(kind)
    await fill(db, isPartitioned, random, s3 !== undefined)
    if (children) await fillChildren(db)
    const policy = {
      table: 'log',
      column: 'at',
      days: 30,
      batch: 25,
      ...(children ? { children: 'archive' as const } : {}),
      ...(redact ? { action: 'redact' as const, set } : {}),
    }
    const compress = ([false, 'gzip', 'zstd'] as const)[Math.floor(random() * 3)] ?? false
    const config = { database: db.address, lockTimeout: '500ms' }
    const kept = { compress, expireAfter: '10 years' }
    const archive = { to: './backups', durable: true, ...kept }
    // Archives go to one folder, and are moved to the other and back.
    const folders = { log: { ...policy, archive: { ...archive, to: './vault' } } }
    const project = new TestProject({ ...config, archive }, s3 === undefined ? folders : { log: policy })
    const folder = path.basename(project.folder)
    const bucket = s3 === undefined ? undefined : { s3, folder }
    if (s3 !== undefined) project.configure({ ...config, archive: { to: s3.address(folder), ...kept } })
    const hanging = children ? await tableRows(db, 'note') : undefined
    return new Victim(db, project, await tableRows(db, 'log'), hanging, redact, random, known, bucket)
  }

  get folder(): string {
    return this.#project.folder
  }

  /** Runs one command, and kills it. */
  async strike(): Promise<{ killed: boolean; at: string }> {
    const args = await this.#nextCommand()
    if (args[0] === 'prune') return this.#strikePrune(args)
    if (args[0] !== 'erase') return this.#strikeWith(args)
    // What runs that were cut off have left is not looked into, and may have the row.
    await untilAlone(this.#db)
    await this.#run(['verify', '--repair', '--yes'], [])
    const struck = await this.#strikeWith(args)
    await this.#finishErasure(args)
    return struck
  }

  /** Lets an archive be as old as they may become; from then on nobody may find its rows, and nobody else may go. */
  async #strikePrune(args: string[]): Promise<{ killed: boolean; at: string }> {
    const name = this.#pick(await this.#archived())
    const entry = (await ledgerEntries(this.#db)).find((one) => one.name === name)
    if (entry === undefined) throw new Error(`${name} is not in the ledger`)
    const gone = new Set(fileRows(this.#db.kind, await this.#collect(), name, entry.sha256, entry.rows))
    await this.#db.run(`update retention_ledger set archived_at = '2001-01-01T00:00:00Z' where name = '${name}'`)
    const struck = await this.#strikeWith(args)
    await untilAlone(this.#db)
    if (this.#random() < 0.5) await this.#run(['verify', '--repair', '--yes'], [])
    await this.#run(args, [])
    this.#original = this.#original.filter((row) => !gone.has(row))
    return struck
  }

  async #strikeWith(args: string[]): Promise<{ killed: boolean; at: string }> {
    const command = nameOf(args)
    if (this.last === 'nothing') {
      // The first command of all makes the ledger.
      const point = this.#pick(['migrate ledger', 'commit migration', 'lock policy'])
      return this.#strikeAt(args, { point, phase: this.#pick(phases) })
    }
    const points = this.#known.points.get(command)
    if (points === undefined) return this.#learn(args)
    if (command.startsWith('restore') && this.#random() < 0.4) return this.#learn(args)
    if (this.#random() < 0.25) {
      const duration = this.#known.durations.get(command) ?? 1000
      const moment = Math.round(duration * (0.3 + 0.7 * this.#random()))
      this.last = `${command} killed after ${moment} ms`
      const run = await this.#run(args, [], moment)
      return { killed: run.signal === 'SIGKILL', at: `${command}: at random` }
    }
    const plan = this.#draw(command, points)
    const times = points.filter((name) => name === plan.point).length
    return this.#strikeAt(args, { ...plan, nth: 1 + Math.floor(this.#random() * Math.min(times, 4)) })
  }

  /** Has the judge look; returns how many rows it saw. */
  async judge(): Promise<number> {
    await untilAlone(this.#db)
    const folder = await this.#collect()
    if (this.#children !== undefined) await judgeChild(this.#db, 'note', folder, this.#children)
    const verdict = this.#redacts
      ? await judgeRedacted(this.#db, 'log', folder, this.#original, setCells(this.#db.kind))
      : await judge(this.#db, 'log', folder, this.#original)
    return verdict.rows
  }

  /** Puts all archives into one folder, which is returned. */
  async #collect(): Promise<string> {
    const folder = this.#project.path('judged')
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    if (this.#bucket === undefined) await this.#gather(folder)
    else this.#fetch(folder)
    return folder
  }

  /** Puts what is in the bucket where the judge looks. */
  #fetch(to: string): void {
    if (this.#bucket === undefined) return
    const { s3, folder } = this.#bucket
    for (const key of s3.keys()) {
      const [first, name = '', ...below] = key.split('/')
      if (first === folder && below.length === 0) writeFileSync(path.join(to, name), s3.read(key))
    }
  }

  /** Puts each archive where the judge looks, from where the ledger says that it is; nothing that lies elsewhere. */
  async #gather(to: string): Promise<void> {
    for (const { location } of await ledgerEntries(this.#db)) {
      const [, start = ''] = /^(.*)\.csv[^/]*$/.exec(path.basename(location)) ?? []
      const from = path.dirname(location)
      const names = existsSync(from) ? readdirSync(from) : []
      for (const name of names.filter((one) => one.startsWith(`${start}.`)))
        cpSync(path.join(from, name), path.join(to, name))
    }
  }

  /** Lets everything come to its end: nothing due is left, and with everything restored the table is as it was. */
  async finish(): Promise<number> {
    // The longest hold that was placed.
    await sleep(1000)
    const applied = await this.#project.cli(['apply', '--json'])
    if (applied.code !== 0)
      throw new Error(`the last apply ended with ${applied.code}: ${applied.stdout}${applied.stderr}`)
    const left = await this.#due()
    if (left > 0) throw new Error(`${left} due rows are left`)
    const rows = await this.judge()
    const repaired = await this.#project.cli(['verify', '--repair', '--yes', '--deep'])
    if (repaired.code !== 0) throw new Error(`the repair ended with ${repaired.code}: ${repaired.stdout}`)
    for (const name of await this.#archived()) {
      const { code, stderr } = await this.#project.cli(['restore', name, '--hold', 'none'])
      if (code !== 0) throw new Error(`restore ${name} ended with ${code}: ${stderr}`)
    }
    compareRows(await tableRows(this.#db, 'log'), this.#original)
    if (this.#children !== undefined) compareRows(await tableRows(this.#db, 'note'), this.#children)
    this.rounds += 1
    return rows + this.#original.length
  }

  /** Leaves the project to be looked at. */
  async leave(): Promise<void> {
    await this.#db.drop()
  }

  async remove(): Promise<void> {
    this.#project.remove()
    await this.#db.drop()
  }

  /** Mostly archives, as long as something is due; else puts something back; now and then it verifies. */
  async #nextCommand(): Promise<string[]> {
    if (this.last === 'nothing') return ['apply']
    const dice = this.#random()
    if (dice < 0.05) return ['verify']
    if (dice < 0.1) return ['verify', '--repair', '--yes']
    const gone = await this.#gone()
    // What goes along with an erased row, nobody here has counted.
    if (dice < 0.2 && this.#children === undefined && gone.length > 0)
      return ['erase', 'log', '--where', `id = ${this.#pick(gone)}`, '--reason', 'torture', '--yes']
    const archived = await this.#archived()
    if (dice < 0.23 && this.#children === undefined && !this.#redacts && archived.length > 0)
      return ['prune', 'log', '--yes']
    if (dice < 0.3 && this.#bucket === undefined && archived.length > 0)
      return ['move', 'log', '--to', this.#pick(['./backups', './vault']), '--yes']
    const isDue = (await this.#due()) > 0
    if (archived.length === 0 || (isDue && dice < 0.75)) return ['apply']
    const restore = ['restore', this.#pick(archived), '--hold', this.#random() < 0.2 ? '1s' : 'none']
    // Nothing is in the way, and all rows are chosen: what these change is that the rows are staged, or reshaped.
    // Rows of several tables, and those that have stayed, cannot be chosen among.
    const reshaped = this.#children === undefined && !this.#redacts ? ['--where', 'true'] : []
    return [...restore, ...this.#pick([[], [], ['--on-conflict', 'skip'], reshaped])]
  }

  /** The numbers of the rows that are in archives alone. */
  async #gone(): Promise<number[]> {
    const there = new Set((await this.#db.rows('select id from log')).map(([id]) => Number(id)))
    return this.#original.map(idOf).filter((id) => !there.has(id))
  }

  /** Brings an erasure to its end, with or without a repair before; from then on nobody may find its row. */
  async #finishErasure(args: readonly string[]): Promise<void> {
    await untilAlone(this.#db)
    if (this.#random() < 0.5) await this.#run(['verify', '--repair', '--yes'], [])
    await this.#run(args, [])
    const id = Number(/id = (\d+)/.exec(args.join(' '))?.[1])
    this.#original = this.#original.filter((row) => idOf(row) !== id)
  }

  async #due(): Promise<number> {
    return Number(await this.#db.value(`select count(*) from log where ${this.#redacts ? unredacted : due}`))
  }

  async #archived(): Promise<string[]> {
    const entries = await ledgerEntries(this.#db)
    return entries.flatMap(({ name, state }) => (state === 'archived' ? [name] : [])).toSorted()
  }

  /** Lets a command do its work. */
  async #learn(args: readonly string[]): Promise<{ killed: false; at: string }> {
    const command = nameOf(args)
    const trace = this.#project.path('trace')
    this.last = `${command}, not killed`
    const started = Date.now()
    const run = await this.#run(args, [], undefined, trace)
    this.#known.durations.set(command, Date.now() - started)
    if (run.code !== 0 && command !== 'verify')
      throw new Error(`${args.join(' ')} ended with ${run.code}: ${run.stdout}${run.stderr}`)
    // As long as there is no archive, verify passes no point at all.
    if (!existsSync(trace)) return { killed: false, at: '' }
    this.#known.points.set(command, readFileSync(trace, 'utf8').trim().split('\n'))
    rmSync(trace)
    return { killed: false, at: '' }
  }

  async #strikeAt(args: readonly string[], plan: Plan): Promise<{ killed: boolean; at: string }> {
    const command = nameOf(args)
    this.last = `${command} killed ${plan.phase} ${plan.point}, time ${plan.nth ?? 1}`
    const run = await this.#run(args, [plan])
    return { killed: run.signal === 'SIGKILL', at: `${command}: ${plan.phase} ${plan.point}` }
  }

  #draw(command: string, points: readonly string[]): Plan {
    const deck = this.#known.decks.get(command) ?? []
    const plan = deck.pop()
    if (plan !== undefined) return plan
    const all = [...new Set(points)].flatMap((point) => phases.map((phase) => ({ point, phase })))
    const shuffled = all.map((one) => ({ one, at: this.#random() })).toSorted((a, b) => a.at - b.at)
    this.#known.decks.set(
      command,
      shuffled.map(({ one }) => one),
    )
    return this.#draw(command, points)
  }

  async #run(args: readonly string[], plans: readonly Plan[], killAfter?: number, trace?: string): Promise<Run> {
    const run = await this.#project.cli(args, {
      node: ['--import', watcher],
      env: { RETENTION_WATCH: this.#db.kind, RETENTION_POINTS: JSON.stringify(plans), RETENTION_TRACE: trace },
      ...(killAfter === undefined ? {} : { killAfter }),
    })
    // Of what a kill has left, verify tells; nothing else may be wrong.
    const isExpected = args[0] === 'verify' && run.code === 3 && !/missing|changed/.test(run.stdout)
    if (run.signal === null && run.code !== 0 && !isExpected) {
      throw new Error(`${args.join(' ')} ended with ${run.code}: ${run.stdout}${run.stderr}`)
    }
    return run
  }

  #pick<T>(from: readonly T[]): T {
    const chosen = from[Math.floor(this.#random() * from.length)]
    if (chosen === undefined) throw new Error('nothing to choose from')
    return chosen
  }
}

const phases = ['before', 'during', 'after'] as const

/** Rows of many kinds: due and not, without a time, sharing one time, with everything that is hard in a CSV. */
async function fill(db: TestDatabase, isPartitioned: boolean, random: () => number, hasLong: boolean): Promise<void> {
  const [id, at, bytes] =
    db.kind === 'sqlite'
      ? ['integer primary key autoincrement', 'text', 'blob']
      : ['bigint generated by default as identity primary key', 'timestamptz', 'bytea']
  await db.run(
    isPartitioned
      ? `create table log (id bigint generated by default as identity, at ${at}, body text, amount numeric, data ${bytes}, primary key (id, at))
           partition by range (at);
         create table log_a partition of log for values from ('2020-02-01Z') to ('2020-03-01Z');
         create table log_b partition of log for values from ('2020-03-01Z') to ('2020-04-01Z');
         create table log_rest partition of log default; create index log_at on log (at)`
      : `create table log (id ${id}, at ${at}, body text, amount numeric, data ${bytes}); create index log_at on log (at)`,
  )
  const bodies = [
    null,
    '',
    'plain',
    'a,"b",\n\r\nc',
    '\\N',
    '안녕 🙂',
    ' space ',
    '\ufeffmark',
    "it's; -- not SQL",
    'x'.repeat(3000),
  ]
  const text = (value: string | null): string => (value === null ? 'null' : `'${value.replaceAll("'", "''")}'`)
  const values: string[] = []
  for (let n = 1; n <= 360; n += 1) {
    const time =
      n <= 20
        ? isPartitioned
          ? 'infinity'
          : null
        : n <= 40
          ? '2099-01-01T00:00:00Z'
          : n <= 110
            ? '2020-02-29T12:00:00Z'
            : `2020-03-01T00:${String(n % 60).padStart(2, '0')}:00.123456Z`
    // Long ones lie together: a step of them is more than a service takes at once.
    const isLong = hasLong && n > 110 && n % 60 < 10
    const body = isLong ? 'x'.repeat(220_000) : (bodies[Math.floor(random() * bodies.length)] ?? null)
    const blob = db.kind === 'sqlite' ? `x'00ff${n % 10}0'` : `'\\x00ff${n % 10}0'`
    values.push(`(${text(time)}, ${text(body)}, ${n % 7 === 0 ? 'null' : n * 1.5}, ${n % 5 === 0 ? 'null' : blob})`)
  }
  await db.run(`insert into log (at, body, amount, data) values ${values.join(', ')}`)
}

/** Notes on some of the log's rows, and notes on notes. */
async function fillChildren(db: TestDatabase): Promise<void> {
  const id = db.kind === 'sqlite' ? 'integer primary key autoincrement' : 'bigint primary key'
  await db.run(`create table note (id ${id}, log_id bigint references log (id) on delete cascade, on_note bigint references note (id), body text);
    create index note_log on note (log_id); create index note_note on note (on_note)`)
  const values: string[] = []
  for (let n = 1; n <= 200; n += 1) {
    values.push(n % 5 === 0 ? `(${n}, null, ${n - 1}, 'on a note')` : `(${n}, ${1 + ((n * 7) % 360)}, null, 'a,"b"\n')`)
  }
  await db.run(`insert into note values ${values.join(', ')}`)
}

/** The same numbers, between 0 and 1, for the same seed: mulberry32. */
function randomNumbers(from: number): () => number {
  let state = from >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function idOf(row: RowText): number {
  return Number(/\["id","v(\d+)"\]/.exec(row)?.[1])
}

/** What a command is called: without the archive's name, and whatever else differs from one time to the next. */
function nameOf(args: readonly string[]): string {
  const [command = ''] = args
  const kind = ['--repair', '--on-conflict'].find((option) => args.includes(option))
  return kind === undefined ? command : `${command} ${kind}`
}
