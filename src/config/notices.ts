/** Who is told how a run ended: `notices` and `ping` of the config. */
import * as v from 'valibot'

import type { NoticeFacts, NoticeMessage } from '../report.ts'
import { didYouMean, type Mistake } from './validate.ts'
import type { EnvReference } from './sealing.ts'

/** When a notice is sent. */
export type NoticeOn = 'success' | 'failure' | 'overdue' | 'always'

/** A signed request, as https://www.standardwebhooks.com has it. */
export interface WebhookInput {
  /** Where it is sent. An address that is itself a secret is `env('NAME')`. */
  readonly url: string | EnvReference
  /** `env('NAME')`: what the receiver checks the signature with, `whsec_` and base64; never the secret itself. */
  readonly secret: EnvReference
}

/** An e-mail. Needs the package nodemailer. */
export interface EmailInput {
  readonly to: string | readonly string[]
  readonly from: string
  /** `env('NAME')`: `smtps://user:password@host` or `smtp://user:password@host:587`. */
  readonly smtp: EnvReference
}

/** Somebody who is told: one of `webhook`, `email` and `slack`. */
export interface NoticeInput {
  webhook?: WebhookInput | undefined
  email?: EmailInput | undefined
  /** `env('NAME')`: the address of an incoming webhook of Slack's. Needs the package @slack/webhook. */
  slack?: EnvReference | undefined
  /**
   * After which runs. `failure`: a policy failed, was refused or interrupted, or the run could not begin; `overdue`: rows have been
   * due for more than two days; `success`: all that was due is archived; `always`: all of them, and runs that a limit or another
   * run stopped early. Default `['failure', 'overdue']`.
   */
  on?: NoticeOn | readonly NoticeOn[] | undefined
  /** Default `en`. What errors and warnings say is English in both. */
  language?: 'en' | 'ko' | undefined
  /** Of which policies. A run that could not begin is told whatever they are. Default: all. */
  policies?: readonly string[] | undefined
  /** Says what it says. @param usual what it would say without */
  template?: ((facts: NoticeFacts, usual: NoticeMessage) => NoticeMessage | Promise<NoticeMessage>) | undefined
}

const secretAllowed = "env('NAME'): the name of an environment variable, never the secret itself"
const urlAllowed = "an address that starts with https:// or http:// and has no user, password or query, or env('NAME')"
const onAllowed = '"success", "failure", "overdue" or "always", or a list of them'
const oneAllowed = 'one of webhook, email and slack'
const addressAllowed = 'an e-mail address, or a list of them'

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

const address = v.lazy((input): v.GenericSchema<unknown, string | EnvReference> =>
  typeof input === 'string' ? v.pipe(v.string(), v.check(isPlain, urlAllowed)) : reference(urlAllowed),
)
const mailbox = v.pipe(v.string(addressAllowed), v.regex(/^[^\r\n]*[^\s@]@[^\s@][^\r\n]*$/, addressAllowed))
const on = v.picklist(['success', 'failure', 'overdue', 'always'], onAllowed)

export const notices = v.array(
  v.pipe(
    v.strictObject({
      webhook: v.optional(v.strictObject({ url: address, secret: reference(secretAllowed) })),
      email: v.optional(
        v.strictObject({
          to: v.union([mailbox, v.pipe(v.array(mailbox), v.minLength(1))], addressAllowed),
          from: mailbox,
          smtp: reference(secretAllowed),
        }),
      ),
      slack: v.optional(reference(secretAllowed)),
      on: v.optional(v.union([on, v.array(on)], onAllowed)),
      language: v.optional(v.picklist(['en', 'ko'], '"en" or "ko"')),
      policies: v.optional(v.array(v.string(), 'a list of names of policies')),
      template: v.optional(
        v.custom<NonNullable<NoticeInput['template']>>((value) => typeof value === 'function', 'a function'),
      ),
    }),
    v.check(
      ({ webhook, email, slack }) => [webhook, email, slack].filter((channel) => channel !== undefined).length === 1,
      oneAllowed,
    ),
  ),
  "a list, such as [{ slack: env('SLACK_WEBHOOK_URL') }]",
)

export const ping = address

export const noticeFields = [
  'webhook',
  'url',
  'secret',
  'email',
  'to',
  'from',
  'smtp',
  'slack',
  'on',
  'language',
  'policies',
  'template',
] as const

/** Policies that a notice names and that do not exist: nobody would be told, and nobody would notice. */
export function noticeMistakes(told: readonly NoticeInput[], policies: readonly string[], file: string): Mistake[] {
  const named = told.flatMap((notice) => notice.policies ?? [])
  return named
    .filter((name) => !policies.includes(name))
    .map((name) => ({ file, text: `notices: no policy is called "${name}"${didYouMean(name, policies)}` }))
}
