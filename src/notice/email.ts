/** A notice as an e-mail, as text and as simple HTML. */
import { randomUUID } from 'node:crypto'

import type { EmailInput } from '../config/notices.ts'
import { codeOf, messageOf, RetentionError } from '../errors.ts'
import type { NoticeMessage } from '../report.ts'
import type { Answer, Deliver } from './attempts.ts'
import { valueOf } from './http.ts'

/** @throws RetentionError `PACKAGE_MISSING`, `CONFIG_INVALID` where the variable holds no address of a mail server */
export async function email({ to, from, smtp }: EmailInput, message: NoticeMessage): Promise<Deliver> {
  const { createTransport } = await loadNodemailer()
  const address = valueOf(smtp)
  const url = URL.parse(address)
  if (url === null || !/^smtps?:$/.test(url.protocol))
    throw new RetentionError(
      'CONFIG_INVALID',
      `the environment variable ${smtp.env} holds no "smtps://…" or "smtp://…"`,
    )
  const isHere = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)
  const mail = {
    to: typeof to === 'string' ? to : [...to],
    from,
    subject: message.subject,
    text: message.text,
    html: htmlOf(message),
    // The same in all attempts, so that mailboxes can tell that it came twice.
    messageId: `<${randomUUID()}@retention.invalid>`,
    disableFileAccess: true,
    disableUrlAccess: true,
  }
  return async (signal) => {
    // Never a password in the clear: a server elsewhere must take up TLS.
    const transport = createTransport({ url: address, requireTLS: !isHere })
    try {
      await transport.sendMail({ ...mail, signal })
      return { again: false, after: 0 }
    } catch (error) {
      return signal.aborted ? { error: 'no answer in time', again: true, after: 0 } : answerOf(error)
    } finally {
      transport.close()
    }
  }
}

/** What servers answer may quote what was sent, so it is told by its code. */
function answerOf(error: unknown): Answer {
  const status =
    typeof error === 'object' && error !== null && 'responseCode' in error ? Number(error.responseCode) : undefined
  const again = status === undefined || Number.isNaN(status) || (status >= 400 && status < 500)
  if (codeOf(error) === 'EAUTH')
    return { error: 'user and password were not taken', again: again && status !== undefined, after: 0 }
  if (status !== undefined && status > 0) return { error: `answered ${status}`, again, after: 0 }
  if (/certificate|self-signed/i.test(messageOf(error)))
    return { error: 'its certificate is not trusted', again: false, after: 0 }
  if (codeOf(error) === 'ETLS') return { error: 'it offers no TLS', again: false, after: 0 }
  return { error: 'could not be reached', again: true, after: 0 }
}

function htmlOf({ subject, text }: NoticeMessage): string {
  const paragraphs = text.split(/\n{2,}/).map((paragraph) => `<p>${escaped(paragraph).replaceAll('\n', '<br>\n')}</p>`)
  return `<!doctype html>\n<meta charset="utf-8">\n<h3>${escaped(subject)}</h3>\n${paragraphs.join('\n')}\n`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

async function loadNodemailer(): Promise<typeof import('nodemailer')> {
  try {
    return await import('nodemailer')
  } catch (error) {
    throw new RetentionError('PACKAGE_MISSING', `Notices by e-mail need a package: ${messageOf(error)}`, {
      hint: 'npm install nodemailer',
      cause: error,
    })
  }
}
