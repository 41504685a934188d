/** What all parts of a page share: its language, how it writes numbers and times, and where its links go. */
import { html } from 'hono/html'

import { ko } from './korean.ts'
import { en, type Texts } from './texts.ts'

/** Text that is safe as HTML: what is put into the `html` tag is escaped. */
export type Html = ReturnType<typeof html>

const languages = { en, ko }

type Language = keyof typeof languages

/** A page's surroundings. */
export interface View {
  readonly language: Language
  readonly texts: Texts
  /** In front of every link: where the service is mounted. */
  readonly base: string
  /** Which of several databases it is about; undefined where there is one alone. */
  readonly database: string | undefined
  readonly now: number
}

/** The language that is asked for: by `?lang=`, the cookie that remembers it, or `Accept-Language`. */
function languageOf(request: Request): Language {
  const asked = new URL(request.url).searchParams.get('lang') ?? ''
  const [, kept = ''] = /(?:^|; *)retention_lang=(\w\w)(?:;|$)/.exec(request.headers.get('cookie') ?? '') ?? []
  const accepted = (request.headers.get('accept-language') ?? '')
    .split(',')
    .map((part) => {
      const [tag = '', ...parameters] = part.trim().split(/\s*;\s*/)
      const quality = parameters.find((parameter) => parameter.startsWith('q='))
      return { language: tag.slice(0, 2).toLowerCase(), quality: quality === undefined ? 1 : Number(quality.slice(2)) }
    })
    .toSorted((one, other) => other.quality - one.quality)
    .map(({ language }) => language)
  return [asked, kept, ...accepted].find(isLanguage) ?? 'en'
}

function isLanguage(text: string): text is Language {
  return Object.hasOwn(languages, text)
}

/** The languages that there are, by what they call themselves. */
export const languageNames = Object.entries(languages).map(([language, { language: name }]) => ({ language, name }))

export function viewOf(request: Request, base: string, database: string | undefined): View {
  const language = languageOf(request)
  return { language, texts: languages[language], base, database, now: Date.now() }
}

/** 1234567 as 1,234,567. */
export function number({ language }: View, value: number): string {
  return value.toLocaleString(language)
}

/** 1234567 bytes as 1.2 MB. */
export function size({ language }: View, bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** step
  const digits = step === 0 || value >= 100 ? 0 : 1
  return `${value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${units[step]}`
}

/** An ISO timestamp to the minute, with all of it for who asks. */
export function moment(iso: string): Html {
  return html`<time datetime="${iso}" title="${iso}"
    >${iso.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*$/, '$1 $2')}</time
  >`
}

/** The day of an ISO timestamp, with all of it for who asks. */
export function day(iso: string): Html {
  return html`<time datetime="${iso}" title="${iso}">${iso.replace(/T.*$/, '')}</time>`
}

/** How long ago, as `45 days`; undefined where the time is none that can be computed with. */
export function age({ language, now }: View, iso: string): string | undefined {
  const length = lengthOf(now - timeOf(iso))
  return (
    length && Math.abs(length.value).toLocaleString(language, { style: 'unit', unit: length.unit, unitDisplay: 'long' })
  )
}

/** From now, as `in 3 hours` or `2 days ago`; undefined as with `age`. */
export function relative({ language, now, texts }: View, iso: string): string | undefined {
  const length = lengthOf(timeOf(iso) - now)
  if (length?.value === 0) return texts.justNow
  return length && new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(length.value, length.unit)
}

/** Times without a zone are taken for UTC. */
function timeOf(iso: string): number {
  return Date.parse(/(Z|[+-]\d\d:\d\d)$/i.test(iso) || iso.length <= 10 ? iso : `${iso}Z`)
}

const lengths = [
  { unit: 'minute', milliseconds: 60_000, upTo: 120 },
  { unit: 'hour', milliseconds: 3_600_000, upTo: 48 },
  { unit: 'day', milliseconds: 86_400_000, upTo: 120 },
  { unit: 'month', milliseconds: 30.44 * 86_400_000, upTo: 24 },
  { unit: 'year', milliseconds: 365.25 * 86_400_000, upTo: Infinity },
] as const

function lengthOf(milliseconds: number): { value: number; unit: (typeof lengths)[number]['unit'] } | undefined {
  const fitting = lengths.find((length) => Math.abs(milliseconds) < length.milliseconds * length.upTo)
  return fitting && { value: Math.trunc(milliseconds / fitting.milliseconds), unit: fitting.unit }
}
