/** The further files of an archive with children, as the ledger keeps them. */
import { storedName } from '../archive/encoding.ts'
import type { Manifest } from '../archive/manifest.ts'
import { formatTableName } from '../config/fields.ts'
import type { LedgerFile } from '../ledger/ledger.ts'

/** What a manifest says of an archive's files beside the first. */
export function furtherFiles({ files: [, ...others] }: Manifest): LedgerFile[] {
  return others.map(({ table, file, columns, rows, csv, stored, link }) => ({
    path: storedName(file, stored.encoding ?? null),
    table: formatTableName({ schema: table.schema, name: table.name }),
    columns: columns.map(({ name }) => name),
    rows,
    bytes: stored.bytes,
    sha256: csv.sha256,
    storedSha256: stored.sha256,
    encoding: stored.encoding ?? null,
    ...(link === undefined ? {} : { link }),
  }))
}
