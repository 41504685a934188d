/**
 * A whole business: a shop with a support desk, more than twenty tables that hang on each other. All that is past its time
 * is archived by policies of every kind, and restored: each table's dump and the whole catalogue are then what they were.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'

import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, restore, status, verify, type PolicyInput, type PolicyReport } from '../src/index.ts'
import { describeAll } from './support/catalogue.ts'
import type { Kind, TestDatabase } from './support/database.ts'
import { dumpAll } from './support/dump.ts'
import type { TestProject } from './support/project.ts'
import { now, overDatabases } from './support/scene.ts'

const test = suite('trial')

/** Policies of every kind. SQLite has no schemas. */
function policiesOn(kind: Kind): Record<string, PolicyInput> {
  const shop = (table: string): string => (kind === 'sqlite' ? table : `shop.${table}`)
  const support = (table: string): string => (kind === 'sqlite' ? table : `support.${table}`)
  return {
    audit: { table: support('audit_log'), column: 'at', days: 90, batch: 40 },
    cards: { table: shop('Gift Cards'), column: 'Valid until', days: 10, where: 'not blocked' },
    events: { table: support('events'), column: 'at', days: 30 },
    moves: { table: shop('stock_moves'), column: 'day', days: 180, batch: 15, concurrency: 4 },
    notices: { table: support('notifications'), column: 'sent_at', days: 60, where: "channel <> 'push'", batch: 30 },
    orders: {
      table: shop('orders'),
      column: 'closed_at',
      days: 365,
      where: "status in ('done', 'cancelled')",
      children: 'archive',
      batch: 50,
    },
    // With whoever has left goes all that hangs on him: orders, and on those items, payments, shipments, and so on.
    people: {
      table: shop('customers'),
      column: 'closed_at',
      days: 730,
      where: "status = 'closed'",
      children: 'archive',
      batch: 100,
    },
    sessions: { table: shop('sessions'), column: 'expires_at', days: 7, where: 'not pinned', batchBytes: '8kB' },
    shifts: { table: support('shifts'), column: 'ended_at', days: 360 },
    tickets: {
      table: support('tickets'),
      column: 'closed_on',
      days: 180,
      children: [support('ticket_messages'), support('attachments')],
      batch: 30,
    },
  }
}

/** Those of which every row is past its time. */
const partitions = [
  'support.audit_2025_1',
  'support.audit_2025_2',
  'support.events_2026_01_eu',
  'support.events_2026_01_rest',
  'support.events_2026_02_0',
  'support.events_2026_02_1',
  'support.events_2026_03',
  'support.events_2026_04',
]

/** Restores archives in this order. @returns what was warned of */
async function restoreAll(made: TestProject, names: readonly string[]): Promise<string[]> {
  const warnings: string[] = []
  for (const file of names) {
    const report = await restore({ cwd: made.folder, file, now, hold: 'none' })
    assert.is(report.state, 'restored', file)
    warnings.push(...report.warnings.map(({ text }) => text))
  }
  return warnings
}

/** Applies all policies until nothing is due. @returns all that was reported of each */
async function applyAll(made: TestProject): Promise<PolicyReport[]> {
  const reports: PolicyReport[] = []
  for (let round = 0; round < 5; round += 1) {
    const { policies } = await apply({ cwd: made.folder, now })
    for (const { policy, status: ended, error } of policies)
      assert.ok(['applied', 'nothing-due'].includes(ended), `${policy} ${ended}: ${JSON.stringify(error)}`)
    reports.push(...policies)
    if (policies.every((one) => one.archived === 0)) return reports
  }
  throw new Error('something is always due')
}

/** The archives that the ledger has, in the order in which they were made. */
async function archived(made: TestProject): Promise<{ name: string; policy: string }[]> {
  const { archives } = await status({ cwd: made.folder, now })
  return archives.filter(({ state }) => state === 'archived')
}

/** Fails, naming the tables, where dumps differ. */
function compareDumps(is: ReadonlyMap<string, string>, was: ReadonlyMap<string, string>): void {
  assert.equal([...is.keys()].toSorted(), [...was.keys()].toSorted())
  for (const [table, dump] of was) assert.is(is.get(table), dump, `${table} is not what it was`)
}

async function counts(db: TestDatabase, dumps: ReadonlyMap<string, string>): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  for (const table of dumps.keys())
    found[table.replace(/^\w+\./, '').replaceAll('"', '')] = Number(
      await db.value(`select count(*) from ${table.includes('.') ? table : `"${table}"`}`),
    )
  return found
}

overDatabases(test, 'all that is past its time is archived, and comes back as it was', async ({ db, project }) => {
  await db.run(readFileSync(path.join(import.meta.dirname, `support/trial-${db.kind}.sql`), 'utf8'))
  const before = { dumps: await dumpAll(db), catalogue: await describeAll(db) }
  const rows = await counts(db, before.dumps)
  const made = project(policiesOn(db.kind))

  // A run that is cut off in its midst, and then the others.
  const cut = await made.cli(['apply', 'orders', 'moves'], {
    node: ['--import', path.join(import.meta.dirname, 'support/points.ts')],
    env: {
      RETENTION_WATCH: db.kind,
      RETENTION_CLOCK: String(now.getTime() - Date.now()),
      RETENTION_POINTS: JSON.stringify([{ point: 'commit step', phase: 'during', nth: 3 }]),
    },
  })
  assert.is(cut.signal, 'SIGKILL', cut.stderr)
  const reports = await applyAll(made)
  const left = await counts(db, await dumpAll(db))
  const lost = Object.keys(rows).filter((table) => (left[table] ?? 0) < (rows[table] ?? 0))
  // The others are what rows refer to, and invoices: those stay, without what they refer to.
  const stay = new Set(['agents', 'categories', 'events_2026_06', 'invoices', 'products'])
  assert.equal(
    lost.toSorted(),
    Object.keys(rows)
      .filter((table) => !stay.has(table))
      .toSorted(),
  )
  assert.is(
    await db.value(`select count(*) > 10 from ${db.kind === 'sqlite' ? '' : 'shop.'}invoices where order_id is null`),
    db.kind === 'sqlite' ? 1n : true,
  )
  const dropped = reports.flatMap(({ archives }) => archives.flatMap(({ partition }) => partition ?? []))
  assert.equal(dropped.toSorted(), db.kind === 'sqlite' ? [] : partitions)
  assert.equal(
    (await verify({ cwd: made.folder })).findings.filter(({ kind }) => kind !== 'orphan'),
    [],
  )

  assert.equal(await restoreAll(made, (await archived(made)).map(({ name }) => name).toReversed()), [])
  compareDumps(await dumpAll(db), before.dumps)
  assert.equal(await describeAll(db), before.catalogue)

  // Some of it again, and back in another order: of what does not hang together, any will do.
  await apply({ cwd: made.folder, now, policies: ['audit', 'moves', 'tickets'] })
  const again = await archived(made)
  const isTicket = ({ policy }: { policy: string }): boolean => policy === 'tickets'
  const order = [...again.filter(isTicket).toReversed(), ...again.filter((one) => !isTicket(one))]
  assert.ok(order.length > 6)
  assert.equal(
    await restoreAll(
      made,
      order.map(({ name }) => name),
    ),
    [],
  )
  compareDumps(await dumpAll(db), before.dumps)
  assert.equal(await describeAll(db), before.catalogue)
})

test.run()
