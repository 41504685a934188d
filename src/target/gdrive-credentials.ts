/**
 * Signs in to Google: by a token of the environment, or as Google's own tools do, through `google-auth-library`, which is
 * loaded when it is first needed.
 */
import type { AuthClient } from 'google-auth-library'

import { codeOf, messageOf, RetentionError } from '../errors.ts'

/** Files that others made, the folder for one, are out of sight of any smaller one. */
const scope = 'https://www.googleapis.com/auth/drive'

/** Who has signed in, by the key file. */
const clients = new Map<string, Promise<AuthClient>>()

/**
 * The headers that a request needs.
 * @throws RetentionError `TARGET_UNUSABLE` when nobody can sign in, or the library is not installed
 */
export async function signedIn(): Promise<Record<string, string>> {
  const token = givenToken()
  if (token !== undefined) return { authorization: `Bearer ${token}` }
  const client = clients.get(keyFile()) ?? newClient()
  clients.set(keyFile(), client)
  try {
    const headers = await (await client).getRequestHeaders()
    return Object.fromEntries(headers)
  } catch (error) {
    clients.delete(keyFile())
    throw failure(error)
  }
}

/** Forgets a token that Drive does not take. @returns whether there can be another one */
export function renewToken(): boolean {
  clients.delete(keyFile())
  return givenToken() === undefined
}

function givenToken(): string | undefined {
  // A secret that a CI job does not have comes as an empty text.
  const token = process.env['RETENTION_GDRIVE_TOKEN']?.trim()
  return token === '' ? undefined : token
}

function keyFile(): string {
  return process.env['GOOGLE_APPLICATION_CREDENTIALS'] ?? ''
}

async function newClient(): Promise<AuthClient> {
  const { GoogleAuth } = await loadLibrary()
  return new GoogleAuth({ scopes: [scope] }).getClient()
}

async function loadLibrary(): Promise<typeof import('google-auth-library')> {
  try {
    return await import('google-auth-library')
  } catch (error) {
    if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new RetentionError('TARGET_UNUSABLE', 'Targets on Google Drive need the package google-auth-library', {
      hint: 'npm install google-auth-library, or set RETENTION_GDRIVE_TOKEN to a token.',
    })
  }
}

/** Why nobody could sign in. The library's errors stay behind: they hold the request, and with it the key's signature. */
function failure(error: unknown): RetentionError {
  if (error instanceof RetentionError) return error
  const hint =
    'Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or RETENTION_GDRIVE_TOKEN to a token.'
  return new RetentionError('TARGET_UNUSABLE', `Cannot sign in to Google: ${reasonOf(error)}`, { hint })
}

function reasonOf(error: unknown): string {
  // Node quotes what it cannot parse: a piece of the key.
  if (error instanceof SyntaxError) return `${keyFile() || 'the credentials file'} is not JSON`
  const { error: word, error_description: text } = answerOf(error)
  return word === undefined ? messageOf(error) : `${word}${text === undefined ? '' : `: ${text}`}`
}

/** What Google answered to a sign-in, where it is an error of the kind that OAuth describes. */
function answerOf(error: unknown): { error?: string; error_description?: string } {
  // The library puts it on its errors; whatever else is thrown has no such fields.
  const data: unknown = (error as { response?: { data?: unknown } } | null)?.response?.data
  const { error: word, error_description: text } = (typeof data === 'object' && data !== null ? data : {}) as {
    error?: unknown
    error_description?: unknown
  }
  return {
    ...(typeof word === 'string' ? { error: word } : {}),
    ...(typeof text === 'string' ? { error_description: text } : {}),
  }
}
