/** Time, wherever the host and whatever the session: cutoffs are exact, and days are those of the config's time zone. */
import { Temporal } from 'temporal-polyfill'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { apply, plan, restore, type ApplyReport } from '../src/index.ts'
import { onCluster, type TestDatabase } from './support/database.ts'
import { compareRows, tableRows } from './support/judge.ts'
import { readArchive } from './support/archive.ts'
import { logPolicy, now, overDatabases, seedLog } from './support/scene.ts'

const test = suite('time')

const zones = ['UTC', 'Asia/Seoul', 'America/St_Johns', 'Pacific/Apia']

/** The first instant of a day somewhere, and the microseconds around it, as texts with an offset. */
function around(day: string, zone: string): { before: string; at: string } {
  const first = Temporal.PlainDate.from(day).toZonedDateTime(zone)
  const text = (time: Temporal.ZonedDateTime): string => time.toInstant().toString({ fractionalSecondDigits: 6 })
  return { before: text(first.subtract({ microseconds: 1 })), at: text(first) }
}

overDatabases(test, 'the host and its time zone make no difference', async ({ db, project }) => {
  await seedLog(db, ['2026-01-01T00:00:00.000000Z'])
  for (const timezone of zones) {
    const made = project(undefined, { timezone })
    const reports = await Promise.all(
      zones.map(async (TZ) => (await made.cli(['plan', '--json'], { env: { TZ, PGTZ: TZ } })).json<ApplyReport>()),
    )
    const cutoffs = new Set(reports.map(({ policies }) => policies[0]?.cutoff))
    assert.is(cutoffs.size, 1, `${timezone}: ${[...cutoffs].join()}`)
  }
})

/** Days on which clocks change, a leap day, a day that follows one that never was, and an ordinary one. */
const days: readonly [zone: string, day: string][] = [
  ['UTC', '2024-02-29'],
  ['Asia/Seoul', '2026-05-16'],
  ['America/St_Johns', '2026-03-08'],
  ['America/St_Johns', '2026-11-01'],
  // Clocks went from 00:01 back to 23:01 of the day before.
  ['America/St_Johns', '2010-11-07'],
  // Midnight did not exist: the day began at 01:00.
  ['America/Sao_Paulo', '2018-11-04'],
  // 30 December 2011 was left out.
  ['Pacific/Apia', '2011-12-31'],
  ['Pacific/Apia', '2026-01-01'],
]

for (const [timezone, day] of days) {
  overDatabases(
    test,
    `${day} in ${timezone}: a microsecond before it is due, its first instant is not`,
    async ({ db, project }) => {
      const { before, at } = around(day, timezone)
      await seedLog(db, [before, at])
      // Noon of the day that is 30 days later, there.
      const today = Temporal.PlainDate.from(day).add({ days: 30 })
      const noon = new Date(today.toZonedDateTime({ timeZone: timezone, plainTime: '12:00' }).epochMilliseconds)
      const made = project(undefined, { timezone })
      const [policy] = (await apply({ cwd: made.folder, now: noon })).policies
      assert.is(policy?.archived, 1, policy?.error?.message)
      assert.is(Date.parse(policy?.cutoff ?? ''), Date.parse(at))
      assert.equal(
        readArchive(made.folder, policy?.archives[0]?.name ?? '').rows.map(([id]) => id),
        ['1'],
      )
    },
  )
}

overDatabases(
  test,
  'a timestamp without a zone means the time zone that the policy says, whatever the session is set to',
  async ({ db, project }) => {
    const setting = db.kind === 'postgres' ? `alter database ${databaseName(db)} set timezone = 'America/St_Johns'` : ''
    if (setting !== '') await db.run(setting)
    const type = db.kind === 'sqlite' ? 'text' : 'timestamp'
    for (const columnTimezone of zones) {
      // The cutoff is 2026-05-16T00:00:00Z; this is what a clock there shows then, and a microsecond before.
      const clock = Temporal.Instant.from('2026-05-16T00:00:00Z').toZonedDateTimeISO(columnTimezone).toPlainDateTime()
      const texts = [clock.subtract({ microseconds: 1 }), clock].map((time) =>
        time.toString({ fractionalSecondDigits: 6 }).replace('T', ' '),
      )
      await db.run(`create table log (id integer primary key, at ${type}, body text);
        insert into log values (1, '${texts[0]}', null), (2, '${texts[1]}', null), (3, '2099-01-01 00:00:00.000000', null)`)
      const made = project({ log: { ...logPolicy, columnTimezone } })
      const [policy] = (await plan({ cwd: made.folder, now })).policies
      assert.is(policy?.due, 1, `${columnTimezone}: ${policy?.error?.message}`)
      await db.run('drop table log')
    }
  },
)

function databaseName(db: TestDatabase): string {
  return new URL(db.address).pathname.slice(1)
}

overDatabases(
  test,
  'a role that is set to everything that could change what is read, written or compared',
  async ({ db, project }) => {
    const role = databaseName(db)
    await onCluster(`create role ${role} login password 'x'`)
    try {
      const table = `(id int primary key, at timestamptz, plain timestamp, day date, span interval, amount float8, small float4,
        bytes bytea, price money, body text, list text[])`
      await db.run(`create table log ${table}; grant all on log to ${role}; grant create on schema public to ${role};
        insert into log values (1, '2026-05-15 23:59:59.999999+00', '2026-05-15 23:59:59.999999', '2020-02-29', '1 mon 2 days 03:04:05.678901', 0.1 + 0.2,
          1.1, '\\x00ff5c27', '1234.56', E'a\\\\b''c', array['NULL', null, 'a"b']), (2, '2026-05-16 00:00:00+00', null, null, null, null, null, null, null, null, null)`)
      const original = await tableRows(db, 'log')
      const plainMade = project()
      const [expected] = (await apply({ cwd: plainMade.folder, now })).policies
      const name = expected?.archives[0]?.name ?? ''
      await restore({ cwd: plainMade.folder, file: name, now, hold: 'none' })
      const settings = {
        TimeZone: 'America/St_Johns',
        DateStyle: 'German, DMY',
        IntervalStyle: 'sql_standard',
        extra_float_digits: '-15',
        bytea_output: 'escape',
        lc_monetary: 'C',
        row_security: 'on',
        array_nulls: 'off',
        standard_conforming_strings: 'off',
        escape_string_warning: 'on',
        backslash_quote: 'off',
        transform_null_equals: 'on',
        xmloption: 'document',
        client_encoding: 'LATIN1',
        default_transaction_isolation: 'serializable',
        default_transaction_read_only: 'on',
        default_transaction_deferrable: 'on',
        idle_in_transaction_session_timeout: '1',
        statement_timeout: '500',
        lock_timeout: '1',
        synchronous_commit: 'off',
        search_path: 'pg_catalog, public',
        enable_indexscan: 'off',
      }
      for (const [setting, value] of Object.entries(settings)) {
        // A list in quotes would be one word.
        await db.run(`alter role ${role} set ${setting} = ${value.includes(',') ? value : `'${value}'`}`)
      }
      const url = new URL(db.address)
      url.username = role
      url.password = 'x'
      await db.run(
        `grant all on retention_ledger, retention_ledger_version, retention_ledger_names, retention_ledger_holds, retention_ledger_held_runs, retention_ledger_held_rows to ${role}`,
      )
      const made = project(
        { log: { ...logPolicy, table: 'public.log' } },
        { database: url.href, ledger: 'public.retention_ledger' },
      )
      const [policy] = (await apply({ cwd: made.folder, now })).policies
      assert.is(policy?.archived, 1, policy?.error?.message)
      // The same bytes, and so the same rows.
      assert.is(policy?.archives[0]?.sha256, expected?.archives[0]?.sha256)
      await restore({ cwd: made.folder, file: policy?.archives[0]?.name ?? '', now })
      compareRows(await tableRows(db, 'log'), original)
    } finally {
      await db.run(`reassign owned by ${role} to postgres; drop owned by ${role}; drop role ${role}`)
    }
  },
  ['postgres'],
)

test.run()
