/**
 * Puts a plan's report on its pull request: as a comment, which takes the place of its own earlier one. Without a token, or where the
 * token may not write (a pull request from a fork), the job's summary alone has it.
 */
import { appendFile, readFile } from 'node:fs/promises'

const {
  GITHUB_API_URL: api = 'https://api.github.com',
  GITHUB_EVENT_PATH: eventFile = '',
  GITHUB_REPOSITORY: repository = '',
  GITHUB_STEP_SUMMARY: summary = '',
  RETENTION_AUTHOR: author = '',
  RETENTION_REPORT: report = '',
  RETENTION_TOKEN: token = '',
} = process.env

/** Nobody sees it; a report cannot contain it, as all its `<` are written as numbers. */
const marker = '<!-- retention plan -->'
/** GitHub takes 65 536. */
const longest = 60_000

const cut = report.length > longest ? `${report.slice(0, report.lastIndexOf('\n', longest))}\n\n…` : report
const number = JSON.parse(await readFile(eventFile, 'utf8')).pull_request?.number

if (report.trim() === '') {
  console.error('There is no report to comment: the input "report" is empty.')
  process.exitCode = 2
} else {
  const reason = await commentOrReason()
  if (reason !== undefined) {
    if (summary !== '') await appendFile(summary, `${cut}\n`)
    console.log(`No comment: ${reason}. The job's summary has the report.`)
  }
}

/** Comments. Where that cannot be, says why. */
async function commentOrReason() {
  if (!Number.isSafeInteger(number)) return 'this event is about no pull request'
  if (token === '') return 'there is no token'
  const comments = `/repos/${repository}/issues/${number}/comments`
  const earlier = await earlierComment(comments)
  const body = JSON.stringify({ body: `${marker}\n${cut}` })
  const answer =
    earlier === undefined
      ? await request('POST', comments, body)
      : await request('PATCH', `/repos/${repository}/issues/comments/${earlier}`, body)
  // The token of a pull request from a fork only reads.
  if (answer.status === 403) return 'the token may not write on pull requests'
  if (!answer.ok) throw new Error(`GitHub answered ${answer.status} to ${answer.url}`)
  return undefined
}

/** The number of our own comment, if there is one: others may write the marker too. */
async function earlierComment(comments) {
  for (let page = 1; ; page += 1) {
    const answer = await request('GET', `${comments}?per_page=100&page=${page}`)
    if (!answer.ok) throw new Error(`GitHub answered ${answer.status} to ${answer.url}`)
    const list = await answer.json()
    const own = list.find(({ body, user }) => user?.login === author && body?.startsWith(marker))
    if (own !== undefined) return own.id
    if (list.length < 100) return undefined
  }
}

async function request(method, path, body) {
  return fetch(`${api}${path}`, {
    method,
    headers: {
      accept: 'application/vnd.github+json',
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'user-agent': 'retention',
      'x-github-api-version': '2022-11-28',
    },
    signal: AbortSignal.timeout(30_000),
    ...(body === undefined ? {} : { body }),
  })
}
