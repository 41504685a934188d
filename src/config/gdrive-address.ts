/** `gdrive://folder-id`: what such an address says. */

/** A folder of Google Drive. */
export interface GdriveAddress {
  /** The folder's id: the last part of its URL in a browser. */
  readonly folder: string
}

/** What an address may be, in words. */
export const gdriveAddressAllowed =
  '"gdrive://folder-id", with no more than the id, the last part of the folder\'s URL: credentials come from the environment'

/** Whether a target is meant to be one on Google Drive. */
export function isGdrive(to: string): boolean {
  return /^gdrive:/i.test(to)
}

/**
 * What an address says; undefined where it is none. Drive's word for whoever's own folder, `root`, is none: it is another
 * folder for other credentials.
 */
export function parseGdriveAddress(text: string): GdriveAddress | undefined {
  const [, folder] = /^gdrive:\/\/([\w-]{10,128})\/?$/i.exec(text) ?? []
  return folder === undefined ? undefined : { folder }
}
