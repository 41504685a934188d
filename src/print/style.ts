/** How text for people looks: colours, numbers, sizes, dates, tables. */
import { styleText } from 'node:util'

import Table from 'cli-table3'

import type { Finding } from '../database/database.ts'

type Style = Parameters<typeof styleText>[0]

/** Text in a style, where stdout shows any. */
export function style(format: Style, text: string): string {
  return styleText(format, text, { stream: process.stdout })
}

/** 1234567 as 1,234,567. */
export function number(value: number): string {
  return value.toLocaleString('en')
}

/** `1 row`, `2 rows`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${number(value)} ${value === 1 ? one : many}`
}

/** 1234567 bytes as 1.2 MB. */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** step
  return `${value.toFixed(step === 0 || value >= 100 ? 0 : 1)} ${units[step]}`
}

/** 12345 milliseconds as 12 s, 1234 as 1.2 s. */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 1 : 0)} s`
}

/** An ISO timestamp to the minute, or the day where that is all there is. */
export function moment(iso: string): string {
  return iso.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*$/, '$1 $2')
}

/** A cutoff: the day, where it begins at midnight UTC. */
export function day(iso: string): string {
  return iso.replace(/T00:00:00Z$/, '').replace(/^(.*)T(\d\d:\d\d):00Z$/, '$1 $2 UTC')
}

/** Rows of cells under a header; the columns named in `right` are aligned to the right. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = [],
): string {
  const none = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ]
  const drawn = new Table({
    head: head.map((title) => style('dim', title)),
    colAligns: head.map((title) => (right.includes(title) ? 'right' : 'left')),
    chars: { ...Object.fromEntries(none.map((name) => [name, ''])), middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  })
  for (const row of rows) drawn.push([...row])
  return indent(drawn.toString().replaceAll(/ +$/gm, ''))
}

/** Warnings and what to do about them. */
export function warnings(findings: readonly Finding[]): string {
  return findings
    .map(({ text, hint }) => `${style('yellow', '!')} ${text}${hint === undefined ? '' : `\n  ${style('dim', hint)}`}`)
    .map((text) => `${indent(text)}\n`)
    .join('')
}

/** Every line moved to the right. */
export function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '  ')
}
