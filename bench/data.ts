/** The bench's data: half of it due, with everything that makes a CSV slow to write, the same every time. */
import Sqlite from 'better-sqlite3'
import { Client } from 'pg'

/** Half of the log's rows are before this, which is midnight in UTC. */
export const cutoff = '2026-01-01T00:00:00Z'

/** What every contender archives. */
export const due = `created_at < '${cutoff}'`

/** Makes the log in an empty Postgres database, vacuumed and on the disk. */
export async function fillPostgres(address: string, rows: number): Promise<void> {
  const client = new Client({ connectionString: address })
  await client.connect()
  await client.query(`
    create table conversation_log (
      id bigint primary key, user_id integer not null, role text not null, body text, meta jsonb, cost numeric(12, 6),
      created_at timestamptz not null
    );
    insert into conversation_log
    select n, n % 1000, (array['user', 'assistant'])[n % 2 + 1],
      case n % 4
        when 0 then '안녕하세요, 지난달 청구서를 다시 받을 수 있을까요? ' || n
        when 1 then 'She said "call me back", then hung up. ' || repeat('x', 120)
        when 2 then E'line one\\nline two, with a comma ' || repeat('y', 120)
        else repeat('plain words ', 15)
      end,
      jsonb_build_object('n', n, 'tags', array['a', 'b'], 'text', repeat('z', 50)), n * 0.000123,
      timestamptz '${cutoff}' + (n - ${rows} / 2 - 1) * interval '10 seconds'
    from generate_series(1, ${rows}) n;
    create index conversation_log_created_at on conversation_log (created_at)`)
  await client.query('vacuum analyze conversation_log')
  await client.query('checkpoint')
  await client.end()
}

/** Makes the log in a SQLite file that is not there yet, in WAL mode. */
export function fillSqlite(file: string, rows: number): void {
  const db = new Sqlite(file)
  // Without a journal while it is filled: there is nothing yet to go back to, and its WAL would be as large as the log.
  db.exec(`pragma journal_mode = off;
    pragma synchronous = off;
    create table conversation_log (
      id integer primary key autoincrement, user_id integer not null, role text not null, body text, meta text, cost real,
      created_at text not null
    );
    with recursive counter(n) as (select 1 where ${rows} > 0 union all select n + 1 from counter where n < ${rows})
    insert into conversation_log
    select n, n % 1000, case n % 2 when 0 then 'user' else 'assistant' end,
      case n % 4
        when 0 then '안녕하세요, 지난달 청구서를 다시 받을 수 있을까요? ' || n
        when 1 then 'She said "call me back", then hung up. ' || replace(hex(zeroblob(60)), '0', 'x')
        when 2 then 'line one' || char(10) || 'line two, with a comma ' || replace(hex(zeroblob(60)), '0', 'y')
        else replace(hex(zeroblob(8)), '00', 'plain words ')
      end,
      json_object('n', n, 'tags', json_array('a', 'b'), 'text', replace(hex(zeroblob(25)), '0', 'z')), n * 0.000123,
      strftime('%Y-%m-%dT%H:%M:%SZ', '${cutoff}', ((n - ${rows} / 2 - 1) * 10) || ' seconds')
    from counter;
    create index conversation_log_created_at on conversation_log (created_at);
    analyze;
    pragma journal_mode = wal`)
  db.close()
}
