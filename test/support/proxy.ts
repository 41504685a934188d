/** A connection that breaks when a test wants it to: a proxy before Postgres that reads what passes. */
import { connect, createServer, type Server, type Socket } from 'node:net'

/** What becomes of the first commit of a connection that has sent a certain text. */
export type Cut =
  /** The connection breaks before the server hears of it. */
  | 'before'
  /** The server commits, and the connection breaks before its answer is heard. */
  | 'after'

/** A running proxy. */
export interface Proxy {
  /** The database's address, through the proxy. */
  readonly address: string
  /** Whether the connection has been broken. */
  readonly hasCut: boolean
  stop(): Promise<void>
}

/**
 * Starts a proxy before a database.
 * @param text what a connection must have sent for its commit to be cut
 * @param staysDown whether nobody gets through any more after that
 */
export async function startProxy(address: string, cut: Cut, text: string, staysDown = false): Promise<Proxy> {
  const url = new URL(address)
  const { hostname, port } = url
  const sockets = new Set<Socket>()
  let hasCut = false
  const server: Server = createServer((client) => {
    if (hasCut && staysDown) return void client.destroy()
    const upstream = connect(Number(port), hostname)
    const both = [client, upstream]
    let isWanted = false
    let isCutting = false
    for (const socket of both) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        for (const other of both) other.destroy()
      })
    }
    client.on('data', (chunk: Buffer) => {
      isWanted ||= chunk.includes(text)
      // A simple query: its letter, its length, its text. https://www.postgresql.org/docs/current/protocol-message-formats.html
      if (isWanted && !hasCut && chunk.includes('COMMIT\0')) {
        hasCut = true
        if (cut === 'before') return void client.destroy()
        isCutting = true
      }
      upstream.write(chunk)
    })
    upstream.on('data', (chunk: Buffer) => {
      if (isCutting) client.destroy()
      else client.write(chunk)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const listening = server.address()
  if (listening === null || typeof listening === 'string') throw new Error('no port')
  url.port = String(listening.port)
  return {
    address: url.href,
    get hasCut() {
      return hasCut
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => {
        server.close(resolve)
      })
    },
  }
}
