/** The socket of a connection: it reads into one buffer, instead of a new one for each piece that comes. */
import { Socket } from 'node:net'

/** So much can be read in one go. */
export const readBytes = 256 * 1024

/** One for all sockets: what was read has been dealt with before anything else is. */
const buffer = Buffer.allocUnsafeSlow(readBytes)

export class LendingSocket extends Socket {
  /** Is lent the bytes that come, until it returns. Where it is undefined they are given away, as events of `data`. */
  borrower: ((bytes: Buffer) => void) | undefined

  constructor() {
    // https://nodejs.org/api/net.html#new-netsocketoptions
    super({
      onread: {
        buffer,
        callback: (length) => {
          const bytes = buffer.subarray(0, length)
          if (this.borrower === undefined) this.emit('data', Buffer.from(bytes))
          else this.borrower(bytes)
          return true
        },
      },
    })
  }
}
