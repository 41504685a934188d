/** What every answer has: headers that keep browsers and caches from harm, and errors in one form. */
import type { ReportedError } from '../report.ts'

/** On every answer. A page that needs more of `Content-Security-Policy` sets its own. */
export const securityHeaders: Readonly<Record<string, string>> = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
}

/** A JSON answer. */
export function json(body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${JSON.stringify(body)}\n`, {
    status,
    headers: { ...securityHeaders, 'Content-Type': 'application/json; charset=utf-8', ...headers },
  })
}

/** An error as an answer: `{error: {code, message, hint}}`. */
export function refusal(
  status: number,
  { code, message, hint }: ReportedError,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return json({ error: { code, message, ...(hint === undefined ? {} : { hint }) } }, status, headers)
}
