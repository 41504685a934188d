/** Makes the target that a config or policy names, or an address on the command line. */
import path from 'node:path'

import type { TargetConfig } from '../config/fields.ts'
import { gdriveAddressAllowed, isGdrive, parseGdriveAddress } from '../config/gdrive-address.ts'
import { isS3, parseS3Address } from '../config/s3-address.ts'
import { RetentionError } from '../errors.ts'
import { DriveTarget } from './gdrive.ts'
import { LocalTarget } from './local.ts'
import { S3Target } from './s3.ts'
import type { Target } from './target.ts'

/**
 * The target of a config or policy.
 * @param folder where a relative path starts
 * @throws RetentionError `TARGET_UNUSABLE` when it is an address that means nothing: one of the ledger's, of a newer version
 */
export function openTarget(config: TargetConfig, folder: string): Target {
  if (isGdrive(config.to)) return openDrive(config.to, 'TARGET_UNUSABLE')
  if (!isS3(config.to)) return new LocalTarget(config.to, path.resolve(folder, config.to), config.durable)
  const address = parseS3Address(config.to)
  if (address === undefined) throw new RetentionError('TARGET_UNUSABLE', 'The address of a target on S3 cannot be read')
  return new S3Target(config.to, address, config)
}

/** Whether a target is the same one wherever its name is read: an address, and no folder. */
export function isAddress(to: string): boolean {
  return isS3(to) || isGdrive(to)
}

/** The name of the file that a path or an address leads to. */
export function fileNameOf(file: string): string {
  return path.basename(isS3(file) ? file.replace(/\?.*$/s, '') : file)
}

/**
 * The target in which a file lies that somebody names by its path or address.
 * @param cwd where a relative path starts
 * @param known targets as configs write them: an address may leave out what one of them says of its service
 * @throws RetentionError `USAGE` when it is no address
 */
export function targetOfFile(file: string, cwd: string, known: readonly string[]): Target {
  if (isGdrive(file)) return openDrive(file.replace(/\/[^/]*$/, ''), 'USAGE')
  if (!isS3(file)) {
    const folder = path.dirname(path.resolve(cwd, file))
    return new LocalTarget(folder, folder, true)
  }
  const [location = '', ...query] = file.split('?')
  const name = [location.replace(/\/[^/]*$/, ''), ...query].join('?')
  const address = parseS3Address(name)
  if (address === undefined)
    throw new RetentionError(
      'USAGE',
      'This is no address of a file on S3; allowed: s3://bucket/prefix/file, and "?region=…" and the like',
    )
  const same = known.find((one) => {
    const other = parseS3Address(one)
    return other !== undefined && other.bucket === address.bucket && other.prefix === address.prefix
  })
  const own = query.length > 0 ? undefined : same
  return new S3Target(own ?? name, (own === undefined ? undefined : parseS3Address(own)) ?? address)
}

function openDrive(to: string, code: 'TARGET_UNUSABLE' | 'USAGE'): Target {
  const address = parseGdriveAddress(to)
  if (address !== undefined) return new DriveTarget(to, address)
  throw new RetentionError(code, `This is no address on Google Drive; allowed: ${gdriveAddressAllowed}`)
}
