/** Choosing among the rows of an archive's files by a predicate, with what refers to them; without the live tables. */
import type { ArchiveForm } from './restore-transaction.ts'

/** One file of an archive: its form, its bytes, and what its rows refer to. */
export interface ChoiceFile extends ArchiveForm {
  /** The CSV, from its beginning. */
  open(): Promise<AsyncIterable<Buffer>>
  /** Foreign keys of its rows to those of another file, or of the same, by their places. */
  readonly references: readonly FileReference[]
}

/** A foreign key between two files of an archive. */
export interface FileReference {
  readonly columns: readonly string[]
  /** The file that is referred to, by its place. */
  readonly file: number
  readonly to: readonly string[]
}

/** A predicate, and the files that it is asked of, by their places. */
export interface FilePredicate {
  readonly where: string
  readonly files: readonly number[]
}

/** Which rows are asked for. */
export interface Choice extends FilePredicate {
  /** Rows for which one of these is true or unknown are not chosen, nor what they refer to. */
  readonly except: readonly FilePredicate[]
}

/** The rows that were chosen. */
export interface Chosen {
  /** For each file, in their order. */
  readonly files: readonly ChosenRows[]
  /** For each exception, how many rows would have been chosen without it. */
  readonly excepted: readonly number[]
}

/** The rows that were chosen in one file. */
interface ChosenRows {
  /** Rows in the file. */
  readonly rows: number
  /** The numbers of the chosen ones, counted from 1, in their order. */
  readonly numbers: Uint32Array
  /** Rows that would have been chosen, had there been no exceptions. */
  readonly left: number
}
