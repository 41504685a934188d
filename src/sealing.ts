/** How archives of a policy are sealed: what the configuration says, with the secrets that it only names. */
import { sealerOf, type Sealer } from './archive/seal.ts'
import type { Config } from './config/config.ts'
import { sealingPassword } from './config/keys.ts'
import type { Policy } from './config/policy.ts'
import type { Sealing } from './config/sealing.ts'

/**
 * What seals a policy's archives; undefined where they are stored as they are.
 * @throws RetentionError `KEY_MISSING`, `CONFIG_INVALID`, `PACKAGE_MISSING`
 */
export async function policySealer(
  { archive }: Pick<Policy, 'archive'>,
  config: Pick<Config, 'archive'>,
): Promise<Sealer | undefined> {
  const { compress = false, encrypt = false }: Sealing = archive ?? config.archive
  if (encrypt === false) return sealerOf({ compress, encrypt })
  if ('age' in encrypt) return sealerOf({ compress, encrypt })
  const { password, level } = encrypt.zip
  return sealerOf({ compress: false, encrypt: { zip: { password: sealingPassword(password.env), level } } })
}
