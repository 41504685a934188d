/** Makes the target that a config or policy names. */
import path from 'node:path'

import type { TargetConfig } from '../config/fields.ts'
import { LocalTarget } from './local.ts'
import type { Target } from './target.ts'

/**
 * The target of a config or policy.
 * @param folder where a relative path starts
 */
export function openTarget(config: TargetConfig, folder: string): Target {
  return new LocalTarget(config.to, path.resolve(folder, config.to), config.durable)
}
