/** Whether a run could begin: the configuration is right, and the database answers. */
import { setTimeout as sleep } from 'node:timers/promises'

import { sql } from 'kysely'

import { loadProject, type ProjectOptions } from '../config/project.ts'
import { openDatabase } from '../database/open.ts'
import { RetentionError } from '../errors.ts'

/** Milliseconds. Who asks whether we are ready does not wait for long. */
const patience = 5000

/** The code of what stands against a run; undefined where nothing does. */
export async function obstacle(project: ProjectOptions): Promise<string | undefined> {
  const waiting = new AbortController()
  const late = sleep(patience, 'DATABASE_UNREACHABLE', { signal: waiting.signal }).catch(() => undefined)
  const asked = askDatabase(project).then(
    () => undefined,
    (error: unknown) => (error instanceof RetentionError ? error.code : 'UNEXPECTED'),
  )
  return Promise.race([asked, late]).finally(() => waiting.abort())
}

async function askDatabase(project: ProjectOptions): Promise<void> {
  const { config } = await loadProject(project)
  const database = await openDatabase(config, 'read')
  try {
    await database.read(async (db) => sql`select 1`.execute(db))
  } finally {
    await database.close()
  }
}
