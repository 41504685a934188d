/** A notice in Slack, by an incoming webhook. */
import type { EnvReference } from '../config/sealing.ts'
import { messageOf, RetentionError } from '../errors.ts'
import type { NoticeMessage } from '../report.ts'
import type { Answer, Deliver } from './attempts.ts'
import { addressOf, answerOf, unanswered } from './http.ts'

/** What Slack takes in one message. */
const mostBlocks = 50
const mostHeader = 150
const mostText = 3000

/** @throws RetentionError `PACKAGE_MISSING`, `CONFIG_INVALID` where the variable holds no address */
export async function slack(address: EnvReference, message: NoticeMessage): Promise<Deliver> {
  const { IncomingWebhook } = await loadSlack()
  const url = addressOf(address)
  return async (signal) => {
    // The package tells of an answer less than is needed: whether, and when, to try again.
    let answer: Answer | undefined
    const webhook = new IncomingWebhook(url, {
      fetch: async (to, init) => {
        const response = await fetch(to, { ...init, signal })
        answer = answerOf(response)
        return response
      },
    })
    try {
      await webhook.send({ text: escaped(message.subject), blocks: blocksOf(message) })
      return { again: false, after: 0 }
    } catch {
      return answer?.error === undefined ? unanswered(signal) : answer
    }
  }
}

/** Plain text: nothing in a name or an error message can call a channel or become a link. */
function blocksOf({ subject, text }: NoticeMessage) {
  const plain = (words: string, most: number) => ({ type: 'plain_text' as const, text: cut(words, most), emoji: false })
  const paragraphs = text.split(/\n{2,}/).filter((paragraph) => paragraph.trim() !== '')
  return [
    { type: 'header' as const, text: plain(subject, mostHeader) },
    ...paragraphs
      .slice(0, mostBlocks - 1)
      .map((paragraph) => ({ type: 'section' as const, text: plain(paragraph, mostText) })),
  ]
}

function cut(words: string, most: number): string {
  return words.length > most ? `${words.slice(0, most - 1)}…` : words || '–'
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

async function loadSlack(): Promise<typeof import('@slack/webhook')> {
  try {
    return await import('@slack/webhook')
  } catch (error) {
    throw new RetentionError('PACKAGE_MISSING', `Notices in Slack need a package: ${messageOf(error)}`, {
      hint: 'npm install @slack/webhook',
      cause: error,
    })
  }
}
