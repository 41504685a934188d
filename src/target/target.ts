/** What a place for archives must offer. Every promise about stored files is made here. */
/** A file that is being written and that nobody can see yet. */
export interface Draft {
  /**
   * Takes the next of the file's bytes; once it returns, the chunk is the caller's again.
   * @throws RetentionError `TARGET_UNUSABLE`, on a full disk for example.
   */
  write(chunk: Buffer): Promise<void>
  /**
   * Makes the file durable, then visible under its name, in one step that overwrites nothing; returns when both
   * would survive a power cut.
   * @throws RetentionError `ARCHIVE_EXISTS` when the name is taken: that file is left as it is.
   */
  publish(): Promise<void>
  /** Gives the draft up and removes it, also where `publish` failed half-way. Does nothing once that is done. */
  discard(): Promise<void>
}

/** A place where archives live. */
export interface Target {
  /** What the ledger keeps: the target as the config writes it, without secrets. */
  readonly name: string
  /** The same for two targets that are one place, however they are written. */
  identity(): Promise<string>
  /** The full address of a file, for people. */
  locate(file: string): string
  /**
   * Checks, without touching anything, that archives could be stored here.
   * @throws RetentionError `TARGET_UNUSABLE`
   */
  check(): Promise<void>
  /**
   * Makes the place ready and proves, by storing and removing a file, that archives can be stored here.
   * @throws RetentionError `TARGET_UNUSABLE`
   */
  prepare(): Promise<void>
  /** Begins a file of that name. */
  create(file: string): Promise<Draft>
  /** Whether a file of that name is there. */
  has(file: string): Promise<boolean>
  /**
   * A file's bytes.
   * @param into chunks may be read into it, where it is given: each is then valid until the next is asked for
   * @throws RetentionError `ARCHIVE_NOT_FOUND`, `ARCHIVE_CHANGED` where it is no file or cannot be read
   */
  read(file: string, into?: Buffer): Promise<AsyncIterable<Buffer>>
  /** Removes a file that this process published in a step that was rolled back. */
  withdraw(file: string): Promise<void>
  /**
   * Removes a file for good, be it an unfinished one; one that is gone already is no mistake.
   * @throws RetentionError `TARGET_UNUSABLE`, also where its bytes would stay: the file is there as before then
   */
  remove(file: string): Promise<void>
  /** Why a file cannot be removed for good now, with the date until which it is locked; undefined where nothing keeps it. */
  lockOn(file: string): Promise<string | undefined>
  /** Moves a file out of the way, into a place of this target's own for such files; overwrites nothing there. */
  setAside(file: string): Promise<void>
  /** The names of all files here, without those that were set aside. */
  list(): Promise<string[]>
  /** The full addresses of the files that were set aside. */
  listAside(): Promise<string[]>
}
