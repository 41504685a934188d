/** Whole databases as text: every table's rows as the database itself writes them. */
import { Client } from 'pg'
import { to as copyTo } from 'pg-copy-streams'

import type { TestDatabase } from './database.ts'

/**
 * Each table's rows, in one order, but for those of the ledger. On Postgres the bytes of `COPY … TO STDOUT`, of a table with
 * partitions and of each of them; on SQLite the storage class and the bytes of every value.
 */
export async function dumpAll(db: TestDatabase): Promise<Map<string, string>> {
  return db.kind === 'sqlite' ? dumpSqlite(db) : dumpPostgres(db)
}

async function dumpSqlite(db: TestDatabase): Promise<Map<string, string>> {
  const tables = await db.rows(
    `select name from sqlite_schema where type = 'table' and name not like 'sqlite%' and name not like 'retention_ledger%'`,
  )
  const dumps = new Map<string, string>()
  for (const [table] of tables) dumps.set(String(table), (await db.dump(String(table))).join('\n'))
  return dumps
}

async function dumpPostgres(db: TestDatabase): Promise<Map<string, string>> {
  const tables = await db.rows(`
    select format('%I.%I', nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace
    where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema' and relname not like 'retention_ledger%'`)
  const dumps = new Map<string, string>()
  const client = new Client({ connectionString: db.address })
  await client.connect()
  try {
    for (const [table] of tables) {
      const query = `copy (select * from ${String(table)} t order by t::text collate "C") to stdout`
      const chunks: Buffer[] = []
      // Typed as any readable: it gives buffers.
      for await (const chunk of client.query(copyTo(query))) chunks.push(chunk as Buffer)
      dumps.set(String(table), Buffer.concat(chunks).toString('latin1'))
    }
  } finally {
    await client.end()
  }
  return dumps
}
