/** The archives that a query needs: which of those that the ledger knows, and what is recorded of them. */
import type { Config } from '../config/config.ts'
import { RetentionError } from '../errors.ts'
import { findRecorded, type FoundArchive } from '../stored/find-archive.ts'
import type { LedgerEntry } from '../ledger/ledger.ts'
import { Turns } from '../turns.ts'
import { mayHave, type ParsedQuery, type TimeBounds } from './time-bounds.ts'
import type { ViewPart } from './view-parts.ts'
import type { ViewFile } from './views.ts'

/** What a query needs. */
export interface NeededFiles {
  readonly toRead: readonly ViewFile[]
  /** Further ones, with other columns: only these are of interest. */
  readonly toDescribe: readonly ViewFile[]
}

/** Looks archives up; each once. */
export class ArchiveFiles {
  readonly #config: Config
  readonly #found = new Map<string, Promise<FoundArchive>>()
  readonly #columns = new Map<string, Promise<string | undefined>>()

  constructor(config: Config) {
    this.#config = config
  }

  async #find({ view, entry, csv }: ViewPart): Promise<ViewFile> {
    const archive = await this.#archive(entry)
    const file = [archive, ...archive.parts].find(({ name }) => name === csv)
    if (file === undefined) throw new RetentionError('MANIFEST_INVALID', `The manifest of ${entry.name} has no ${csv}`)
    return { view, archive: file, of: entry }
  }

  /** What a query needs of some views' parts: of views that it names, those with times that it may ask for. */
  async needed(parts: readonly ViewPart[], sql: string, parsed: ParsedQuery): Promise<NeededFiles> {
    const named = parts.filter(({ view }) => isNamed(view, sql))
    const needed: ViewPart[] = []
    const bounds = new Map<string, Promise<TimeBounds>>()
    for (const part of named) {
      const column = part.isOwn ? await this.#timeColumn(part.entry) : undefined
      const key = JSON.stringify([part.view, column])
      const known = bounds.get(key) ?? parsed.bounds(part.view, column)
      bounds.set(key, known)
      if (mayHave(part.entry, await known)) needed.push(part)
    }
    // A view has the same columns whichever of its archives are read.
    const form = ({ view, columns }: ViewPart): string => JSON.stringify([view, columns])
    const forms = new Map(named.map((part) => [form(part), part]))
    for (const part of needed) forms.delete(form(part))
    return { toRead: await this.findAll(needed), toDescribe: await this.findAll([...forms.values()]) }
  }

  /** What is recorded of some parts. @throws RetentionError `MANIFEST_INVALID` */
  async findAll(parts: readonly ViewPart[]): Promise<ViewFile[]> {
    // Each is a request where archives are far away.
    const turns = new Turns(8)
    return Promise.all(
      parts.map(async (part) => {
        const end = await turns.take()
        return this.#find(part).finally(end)
      }),
    )
  }

  /** Archives of the same policy as it then was have the same one: a single manifest tells. */
  async #timeColumn(entry: LedgerEntry): Promise<string | undefined> {
    const key = `${entry.policy} ${entry.fingerprint || entry.name}`
    const known = this.#columns.get(key) ?? this.#archive(entry).then(({ column }) => column)
    this.#columns.set(key, known)
    return known
  }

  async #archive(entry: LedgerEntry): Promise<FoundArchive> {
    const known = this.#found.get(entry.name) ?? findRecorded(entry, this.#config)
    this.#found.set(entry.name, known)
    return known
  }
}

/** Whether a text has a view's name in it, wherever: which of them are views, DuckDB says. */
function isNamed(view: string, sql: string): boolean {
  const name = view.replaceAll('"', '""').replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
  return new RegExp(String.raw`(?<![\p{L}\p{N}_])${name}(?![\p{L}\p{N}_])`, 'iu').test(sql)
}
