/** Moves one archive to another target: the order of events, as apply/runner.ts has that of a step. */
import { randomUUID } from 'node:crypto'

import { metered, Meter, readCsv, readWhole, store } from '../archive/store.ts'
import { commit, patiently } from '../commit.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../database/database.ts'
import { finishRemovals, removeTaken, removeUnfinished } from '../stored/removal.ts'
import { RetentionError } from '../errors.ts'
import { targetOfEntry } from '../stored/find-archive.ts'
import type { Ledger, LedgerEntry } from '../ledger/ledger.ts'
import type { FileOfMove, Move, MovedFile } from '../ledger/moves.ts'
import { archiveFiles, type ArchiveFile } from '../stored/pruned-files.ts'
import type { Target } from '../target/target.ts'
import { toolVersion } from '../version.ts'

/** What moves archives, and where to. */
export interface MoveOrder {
  readonly config: Config
  readonly database: Database
  readonly ledger: Ledger
  readonly policy: string
  readonly target: Target
  readonly by: string
  readonly now: Date
}

/** The files of an archive in the order in which they are stored: its manifest last. */
export function filesOf(entry: LedgerEntry): ArchiveFile[] {
  return archiveFiles(entry).toReversed()
}

/** The files of moves to a place that have not come to their end: copies that the ledger does not go by. */
export function underWay(files: readonly MovedFile[], place: string): MovedFile[] {
  return files.filter((file) => file.movedAt === null && file.place === place)
}

/**
 * One archive, in its order. At every point the ledger knows of every copy of it: the one that it goes by is whole, and any
 * other is noted as one that is to go, before the first byte of it is stored.
 * @returns why its old files are there still, though the ledger has gone over from them
 */
export async function moveArchive(entry: LedgerEntry, order: MoveOrder): Promise<RetentionError | undefined> {
  const { config, database, ledger, policy, target, by, now } = order
  const source = await targetOfEntry(entry, config)
  const [from, to] = [await source.identity(), await target.identity()]
  const names = { policy, archive: entry.name, from: entry.target, to: target.name, by }
  const move: Move = { id: randomUUID(), ...names, begunAt: now.toISOString(), toolVersion }
  const files = filesOf(entry)
  const at = (where: Target, place: string, file: ArchiveFile): FileOfMove => ({
    ...file,
    location: where.locate(file.file),
    place,
  })
  try {
    // 1. Note what will come to be at the new place. What is there already is somebody's own, unless it was noted before.
    const coming: ArchiveFile[] = []
    for (const file of files) if (!(await target.has(file.file))) coming.push(file)
    const before = underWay(await database.read((db) => ledger.moves.files(db, [policy])), to)
    const noted = before.filter(({ archive }) => archive === entry.name)
    await removeUnfinished(noted, config)
    const fresh = coming.filter(({ file }) => !noted.some((one) => one.file === file))
    await patiently(() =>
      database.write((db) =>
        ledger.moves.begin(
          db,
          move,
          fresh.map((file) => at(target, to, file)),
        ),
      ),
    )
    // 2. Copy, and read back whole; what is no more what the ledger says is not stored at all.
    for (const file of files) await copyFile(file, source, order)
  } catch (error) {
    await giveUp(entry, to, order)
    throw error
  }
  // 3. In one transaction the ledger goes over to the new place, and has the old files as ones that are to go: the manifest
  // first, the archive's own last.
  const after: LedgerEntry = { ...entry, target: target.name, location: target.locate(entry.path) }
  const old = files.toReversed().map((file) => at(source, from, file))
  let isWritten = false
  const record = async (): Promise<void> =>
    patiently(() =>
      database.write(async (db) => {
        await ledger.move(db, entry, after)
        await ledger.moves.complete(db, move, old, to, now)
        isWritten = true
      }),
    )
  // What failed before its commit is not done, whoever may not ask the ledger so.
  const isDone = async (): Promise<boolean> => isWritten && ledger.isMoved(entry, after)
  await commit({ commit: record, rollback: async () => {} }, `the move of ${entry.name}`, isDone, () =>
    giveUp(entry, to, order),
  )
  // 4. Only now the old files go.
  return removeFrom(entry, move, old, order)
}

/** Copies a file, unless the very same is there: a move that was cut off has left it, or somebody who wanted to help. */
async function copyFile({ file, storedSha256 }: ArchiveFile, source: Target, order: MoveOrder): Promise<void> {
  const { target, config } = order
  const plain = { path: file, encoding: null, keys: config.keys }
  if (await target.has(file)) {
    const { stored } = await readWhole({ ...plain, target })
    if (stored.sha256 === storedSha256) return
    throw new RetentionError('ARCHIVE_EXISTS', `${target.locate(file)} is in the way, and is another file`, {
      hint: 'It is left as it is, and so is the archive. Look at what it holds.',
    })
  }
  const bytes = asRecorded(await readCsv({ ...plain, target: source }), storedSha256, source.locate(file))
  await store(target, file, bytes, () => 0)
}

/** A file's bytes; at their end, they are what was recorded. @throws RetentionError `ARCHIVE_CHANGED` */
async function* asRecorded(
  source: AsyncIterable<Buffer>,
  storedSha256: string,
  location: string,
): AsyncGenerator<Buffer> {
  const meter = new Meter()
  yield* metered(meter, source)
  const { sha256 } = meter.digest()
  if (sha256 === storedSha256) return
  throw new RetentionError(
    'ARCHIVE_CHANGED',
    `${location} is not what was stored: its SHA-256 is ${sha256}, and the ledger has ${storedSha256}`,
    { hint: 'It was not moved. Take the file from a backup; "retention verify" checks the others.' },
  )
}

/** Takes back what has been stored at the new place. What cannot be is noted, and goes another time. */
async function giveUp({ name }: LedgerEntry, place: string, order: MoveOrder): Promise<void> {
  const { database, ledger, policy } = order
  try {
    const files = underWay(await database.read((db) => ledger.moves.files(db, [policy])), place)
    await finishRemovals(
      files.filter(({ archive }) => archive === name),
      order,
    )
  } catch {
    // The failure itself is told.
  }
}

async function removeFrom(
  { name, target }: LedgerEntry,
  move: Move,
  files: readonly FileOfMove[],
  order: MoveOrder,
): Promise<RetentionError | undefined> {
  const { id, ...same } = move
  const at = { target, movedAt: order.now.toISOString(), removedAt: null }
  return removeTaken(
    files.map((file): MovedFile => ({ ...same, ...file, ...at, move: id })),
    order,
    { what: `${name} has moved`, command: 'retention move' },
  )
}
