/** Says why a folder of Google Drive cannot take archives, by what Drive says of it. */
import { isPassing, statusOf } from './gdrive-errors.ts'
import { isFolder, onAllDrives, type DriveFile } from './gdrive-files.ts'
import { askJson } from './gdrive-http.ts'

/** What is asked of a folder, beside what is asked of each file. */
export const folderFields = ',driveId,capabilities,permissionIds'

/** Why archives cannot be stored in a folder, with what to do; undefined where nothing is against it. */
export async function problemWith(
  folder: DriveFile,
): Promise<{ readonly text: string; readonly hint: string } | undefined> {
  const { mimeType, driveId, capabilities = {}, permissionIds = [] } = folder
  if (!isFolder(folder))
    return {
      text: `it is no folder, but a file of the type ${mimeType}`,
      hint: "The id is the last part of the folder's URL in a browser.",
    }
  const isOpen = permissionIds.some((id) => id === 'anyone' || id === 'anyoneWithLink')
  if (isOpen || (driveId !== undefined && (await anyoneMaySee(folder.id))))
    return {
      text: 'whoever has the link to it can read it',
      hint: 'Archives hold data of people: restrict the folder to those who are to see it.',
    }
  const role = driveId === undefined ? 'an editor of the folder' : 'a content manager of the shared drive'
  const hint = `Make the account ${role}.`
  if (capabilities.canAddChildren === false) return { text: 'these credentials may not store files in it', hint }
  const mayTakeBack = capabilities.canTrashChildren !== false || capabilities.canDeleteChildren !== false
  return mayTakeBack ? undefined : { text: 'these credentials may not take back what they store in it', hint }
}

/**
 * Whether a folder of a shared drive is open to anyone with its link, by itself or through a folder above; of such a folder
 * Drive need not say that with the rest. False also where these credentials may not ask.
 */
async function anyoneMaySee(id: string): Promise<boolean> {
  const query = { ...onAllDrives, pageSize: '100', fields: 'nextPageToken,permissions(type)' }
  try {
    for (let pageToken: string | undefined; ;) {
      const page = await askJson<{ permissions?: { type: string }[]; nextPageToken?: string }>({
        method: 'GET',
        to: `/drive/v3/files/${id}/permissions`,
        query: { ...query, ...(pageToken === undefined ? {} : { pageToken }) },
      })
      if (page.permissions?.some(({ type }) => type === 'anyone') === true) return true
      pageToken = page.nextPageToken
      if (pageToken === undefined) return false
    }
  } catch (error) {
    const status = statusOf(error)
    if ((status === 403 || status === 404) && !isPassing(error)) return false
    throw error
  }
}
