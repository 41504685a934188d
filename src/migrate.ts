/** umzug runs the steps: one is a migration, archiving is its up and restoring its down, and the ledger is its storage. */
import type { RunnableMigration } from 'umzug'

/** What the ledger says of a migration. */
export interface MigrationLedger {
  /** The migration's name, if it counts as executed. */
  executed(): Promise<string[]>
  /**
   * Asserts that the ledger says what has been done. umzug writes nothing: the entry was written with the rows, in
   * their transaction.
   */
  assert(): Promise<void>
}

/** Runs one migration in one direction, and throws its own errors: umzug's carry all that it was run with. */
export async function migrate(
  direction: 'up' | 'down',
  migration: RunnableMigration<object>,
  ledger: MigrationLedger,
): Promise<void> {
  // It takes as long to load as a small database to plan: only who makes or undoes a step should wait for it.
  const { MigrationError, Umzug } = await import('umzug')
  const umzug = new Umzug({
    migrations: [migration],
    storage: {
      executed: () => ledger.executed(),
      logMigration: () => ledger.assert(),
      unlogMigration: () => ledger.assert(),
    },
    logger: undefined,
  })
  try {
    await umzug[direction]({ migrations: [migration.name] })
  } catch (error) {
    throw error instanceof MigrationError ? error.cause : error
  }
}
