/** Where the keys of sealed archives come from: the environment, or somebody who is asked. They are never written down. */
import { readFile } from 'node:fs/promises'

import { messageOf, RetentionError } from '../errors.ts'

/** What somebody can be asked for. */
export type KeyKind = 'password' | 'identity'

/** Asks somebody for a key; undefined where there is nobody to ask, or no answer. */
export type AskForKey = (kind: KeyKind) => Promise<string | undefined>

const passwordVariableDefault = 'RETENTION_ZIP_PASSWORD'
const identityVariable = 'RETENTION_AGE_IDENTITY'
const identityFileVariable = 'RETENTION_AGE_IDENTITY_FILE'

/** Gives the keys that archives are opened with. */
export class Keys {
  readonly #variables: () => Promise<readonly (string | undefined)[]>
  readonly #ask: AskForKey | undefined
  /** Nobody is asked twice. */
  readonly #asked = new Map<KeyKind, Promise<string | undefined>>()

  /** @param variables environment variables in which passwords of zips are, beside the usual one */
  constructor(variables: () => Promise<readonly (string | undefined)[]>, ask: AskForKey | undefined) {
    this.#variables = variables
    this.#ask = ask
  }

  /** The passwords of zips: archives of different policies may have different ones. @throws RetentionError `KEY_MISSING` */
  async zipPasswords(): Promise<readonly string[]> {
    const named = (await this.#variables()).filter((name) => name !== undefined)
    const variables = [...new Set([...named, passwordVariableDefault])]
    const passwords = variables.map((name) => process.env[name] ?? '').filter((password) => password !== '')
    if (passwords.length > 0) return [...new Set(passwords)]
    const password = await this.#askOnce('password')
    if (password !== undefined && password !== '') return [password]
    throw new RetentionError('KEY_MISSING', 'A password is needed to open zip archives', {
      hint: `Set ${variables.join(' or ')} in the environment; on a terminal you are asked.`,
    })
  }

  /** The private keys of age. @throws RetentionError `KEY_MISSING` */
  async ageIdentities(): Promise<readonly string[]> {
    const { [identityVariable]: identity = '', [identityFileVariable]: file = '' } = process.env
    const text =
      identity !== '' ? identity : file === '' ? ((await this.#askOnce('identity')) ?? '') : await readIdentities(file)
    // As age-keygen writes them: comments and empty lines between keys.
    const identities = text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'))
    if (identities.length > 0) return identities
    throw new RetentionError('KEY_MISSING', 'A private key is needed to open age archives', {
      hint: `Set ${identityVariable} to the key, or ${identityFileVariable} to the path of its file; on a terminal you are asked.`,
    })
  }

  async #askOnce(kind: KeyKind): Promise<string | undefined> {
    const asked = this.#asked.get(kind) ?? Promise.resolve(this.#ask?.(kind))
    this.#asked.set(kind, asked)
    return asked
  }
}

async function readIdentities(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new RetentionError(
      'KEY_MISSING',
      `${identityFileVariable} names a file that cannot be read: ${messageOf(error)}`,
      { cause: error },
    )
  }
}

/**
 * The password that archives are sealed with.
 * @throws RetentionError `KEY_MISSING`, also where zip programs would take it for different ones
 */
export function sealingPassword(variable: string): string {
  const password = process.env[variable] ?? ''
  if (password === '') {
    throw new RetentionError(
      'KEY_MISSING',
      `Archives are to be sealed with the password in ${variable}, which is empty`,
      {
        hint: `Set ${variable} in the environment of whoever runs retention.`,
      },
    )
  }
  if (/^[\x20-\x7e]+$/.test(password)) return password
  throw new RetentionError(
    'KEY_MISSING',
    `The password in ${variable} has letters that zip programs read in different ways`,
    {
      hint: 'Use letters without accents, digits and signs of ASCII.',
    },
  )
}
