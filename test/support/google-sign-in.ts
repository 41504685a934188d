/** Google's sign-in for tests: takes the place of https://oauth2.googleapis.com in this process, and checks signatures. */
import { createVerify, generateKeyPairSync, randomBytes } from 'node:crypto'
import http from 'node:http'
import https from 'node:https'

const tokenUrl = 'https://oauth2.googleapis.com/token'

/** A running sign-in with one service account. */
export interface SignIn {
  /** What its key file holds. */
  readonly key: { readonly private_key: string } & Record<string, string>
  /** How many tokens it has given. */
  readonly tokens: number
  /** Whether the key is taken no more. */
  isRevoked: boolean
  stop(): Promise<void>
}

/** Starts a sign-in. @param known where it puts the tokens that it gives */
export async function startSignIn(known: Set<string>): Promise<SignIn> {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  const email = 'archiver@project.iam.gserviceaccount.com'
  let tokens = 0
  const signIn = {
    key: {
      type: 'service_account',
      project_id: 'p',
      client_email: email,
      private_key_id: '1',
      private_key: privateKey,
    },
    get tokens() {
      return tokens
    },
    isRevoked: false,
  }
  const server = http.createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const isGood = !signIn.isRevoked && isAssertion(new URLSearchParams(body), email, publicKey)
      if (isGood) tokens += 1
      const token = `ya29.${randomBytes(12).toString('hex')}`
      if (isGood) known.add(token)
      const answer = isGood
        ? { access_token: token, expires_in: 3599, token_type: 'Bearer' }
        : { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' }
      response.writeHead(isGood ? 200 : 400, { 'content-type': 'application/json' })
      response.end(JSON.stringify(answer))
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const listening = server.address()
  if (listening === null || typeof listening === 'string') throw new Error('no port')
  const here = `http://127.0.0.1:${listening.port}/token`
  const original = https.request
  https.request = ((url: string, ...rest: [http.RequestOptions]) =>
    url === tokenUrl ? http.request(here, ...rest) : original(url, ...rest)) as typeof https.request
  return Object.assign(signIn, {
    stop: async () => {
      https.request = original
      server.closeAllConnections()
      await new Promise((resolve) => {
        server.close(resolve)
      })
    },
  })
}

/** Whether a request is signed by the account's key, and says what it must (RFC 7523). */
function isAssertion(body: URLSearchParams, email: string, publicKey: string): boolean {
  const [head = '', claims = '', signature = ''] = (body.get('assertion') ?? '').split('.')
  const { iss, aud, scope, exp } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as Record<string, unknown>
  return (
    body.get('grant_type') === 'urn:ietf:params:oauth:grant-type:jwt-bearer' &&
    [iss, aud, scope].join(' ') === `${email} ${tokenUrl} https://www.googleapis.com/auth/drive` &&
    Number(exp) * 1000 > Date.now() &&
    createVerify('RSA-SHA256').update(`${head}.${claims}`).verify(publicKey, signature, 'base64url')
  )
}
