/** Who is told how a run ended: `notices` of the config. */
import * as v from 'valibot'

import type { EnvReference } from './sealing.ts'

/** A signed request, as https://www.standardwebhooks.com has it. */
export interface NoticeInput {
  webhook: {
    /** Where it is sent. An address that is itself a secret is `env('NAME')`. */
    readonly url: string | EnvReference
    /** `env('NAME')`: what the receiver checks the signature with, `whsec_` and base64; never the secret itself. */
    readonly secret: EnvReference
  }
  /** After which runs. Default `failure`. */
  on?: 'success' | 'failure' | 'always' | undefined
}

const secretAllowed = "env('NAME'): the name of an environment variable, never the secret itself"
const urlAllowed = "an address that starts with https:// or http:// and has no user, password or query, or env('NAME')"

const reference = (allowed: string) =>
  v.strictObject(
    {
      env: v.pipe(
        v.string(allowed),
        v.check((name) => /^[a-z_][a-z0-9_]*$/i.test(name), allowed),
      ),
    },
    allowed,
  )

/** Whether an address may stand in a config: what is in its user, password or query may be a secret. */
function isPlain(address: string): boolean {
  const url = URL.parse(address)
  return url !== null && /^https?:$/.test(url.protocol) && `${url.username}${url.password}${url.search}` === ''
}

export const notices = v.array(
  v.strictObject({
    webhook: v.strictObject({
      url: v.lazy((input): v.GenericSchema<unknown, string | EnvReference> =>
        typeof input === 'string' ? v.pipe(v.string(), v.check(isPlain, urlAllowed)) : reference(urlAllowed),
      ),
      secret: reference(secretAllowed),
    }),
    on: v.optional(v.picklist(['success', 'failure', 'always'], '"success", "failure" or "always"')),
  }),
  "a list, such as [{ webhook: { url: 'https://…', secret: env('NAME') } }]",
)

export const noticeFields = ['webhook', 'url', 'secret', 'on'] as const
