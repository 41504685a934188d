/** Opens the database that a config names. */
import type { Config } from '../config/config.ts'
import { RetentionError } from '../errors.ts'
import type { Database } from './database.ts'

/**
 * Opens a config's database; each driver is loaded only when it is used.
 * @param access `read` for commands that must not change anything
 * @throws RetentionError `DATABASE_UNREACHABLE`
 */
export async function openDatabase(config: Config, access: 'read' | 'write'): Promise<Database> {
  if (/^postgres(ql)?:/i.test(config.database)) {
    const { openPostgres } = await import('./postgres/database.ts')
    return openPostgres(config.database, { lock: config.lockTimeout, step: config.stepTimeout }, access)
  }
  if (config.ledger.schema !== undefined) {
    throw new RetentionError(
      'CONFIG_INVALID',
      `field "ledger" is "${config.ledger.schema}.${config.ledger.name}"; SQLite has no schemas`,
      {
        hint: "Write the ledger's name alone.",
      },
    )
  }
  const { openSqlite } = await import('./sqlite/database.ts')
  const { sqliteFile } = await import('./sqlite/connection.ts')
  return openSqlite(sqliteFile(config.database, config.folder), access === 'read')
}
