/** Says why a folder of Google Drive cannot take archives, by what Drive says of it. */
import { isFolder, type DriveFile } from './gdrive-files.ts'

/** What is asked of a folder, beside what is asked of each file. */
export const folderFields = ',driveId,capabilities,permissionIds'

/** Why archives cannot be stored in a folder, with what to do; undefined where nothing is against it. */
export function problemWith(folder: DriveFile): { readonly text: string; readonly hint: string } | undefined {
  const { mimeType, driveId, capabilities = {}, permissionIds = [] } = folder
  if (!isFolder(folder))
    return {
      text: `it is no folder, but a file of the type ${mimeType}`,
      hint: "The id is the last part of the folder's URL in a browser.",
    }
  if (permissionIds.some((id) => id === 'anyone' || id === 'anyoneWithLink'))
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
