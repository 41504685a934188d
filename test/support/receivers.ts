/** Real receivers of notices: over HTTP, and a mail server with TLS and passwords. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'

import { generate } from 'selfsigned'
import { SMTPServer } from 'smtp-server'

/** A request as it came. */
export interface Received {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Answers one status after another, then 200; keeps what it was sent. */
export class HttpReceiver {
  readonly received: Received[] = []
  statuses: number[] = []
  headers: Record<string, string> = {}
  /** Never answers. */
  hangs = false
  readonly #server = createServer((request, response) => {
    void request.toArray().then((parts) => {
      const { method = '', url: path = '', headers } = request
      this.received.push({ method, path, headers, body: Buffer.concat(parts).toString() })
      if (!this.hangs) response.writeHead(this.statuses.shift() ?? 200, this.headers).end('ok')
      return undefined
    })
  })

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

/** Takes mail from "ops" with the password "se:cret" alone, over TLS. */
export class MailReceiver {
  readonly mails: string[] = []
  #server: SMTPServer | undefined
  #authority = ''

  /** The address, without user and password. */
  async listen(): Promise<string> {
    const names = [{ type: 2 as const, value: 'localhost' }]
    const extensions = [
      { name: 'subjectAltName' as const, altNames: names },
      { name: 'basicConstraints' as const, cA: true },
    ]
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }], { extensions })
    this.#authority = cert
    const server = new SMTPServer({
      secure: true,
      key,
      cert,
      onAuth: ({ username, password }, _session, done) =>
        username === 'ops' && password === 'se:cret'
          ? done(null, { user: username })
          : done(new Error(`no such user as ${username} with ${password}`)),
      onData: (stream, _session, done) => {
        const parts: Buffer[] = []
        stream.on('data', (part: Buffer) => void parts.push(part))
        stream.on('end', () => {
          this.mails.push(Buffer.concat(parts).toString())
          done()
        })
      },
    })
    // A client that does not trust it hangs up.
    server.on('error', () => {})
    this.#server = server
    const listening = server.listen(0, 'localhost')
    await once(listening, 'listening')
    return `localhost:${(listening.address() as AddressInfo).port}`
  }

  /** From now on this process trusts it. */
  trust(): void {
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), this.#authority])
  }

  close(): void {
    this.#server?.close()
  }
}
