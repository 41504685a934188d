/** Turns what a schema finds wrong in a file into sentences that name the field, its value and what is allowed. */
import { closest, distance } from 'fastest-levenshtein'
import * as v from 'valibot'

import { withoutSecrets } from '../errors.ts'

/** One thing that is wrong in a file. */
export interface Mistake {
  readonly file: string
  readonly text: string
}

/** What a schema made of a file's content: the value, or the mistakes in it. */
export type Checked<T> = { readonly value: T } | { readonly mistakes: readonly Mistake[] }

/** Checks what a file exports against a schema; all mistakes at once. */
export function check<Schema extends v.GenericSchema>(
  schema: Schema,
  input: unknown,
  file: string,
  fields: readonly string[],
): Checked<v.InferOutput<Schema>> {
  const result = v.safeParse(schema, input)
  if (result.success) return { value: result.output }
  // One value may break several rules that say the same.
  const texts = new Set(result.issues.map((issue) => sentence(issue, schema, fields)))
  return { mistakes: [...texts].map((text) => ({ file, text })) }
}

/** `" (did you mean "x"?)"` where one of the names is close to what was written, else nothing. */
export function didYouMean(written: string, names: readonly string[]): string {
  if (names.length === 0) return ''
  const nearest = closest(
    written.toLowerCase(),
    names.map((name) => name.toLowerCase()),
  )
  const name = names.find((candidate) => candidate.toLowerCase() === nearest)
  const near = distance(written.toLowerCase(), nearest) <= Math.max(2, Math.floor(written.length / 3))
  return near && name !== undefined ? ` (did you mean "${name}"?)` : ''
}

/** A value as a person would write it, cut to a readable length, without secrets. */
function quote(value: unknown): string {
  if (typeof value === 'string') return shorten(JSON.stringify(withoutSecrets(value)))
  if (typeof value === 'number' || typeof value === 'bigint' || value === null || value === undefined) {
    return String(value)
  }
  if (typeof value === 'function') return 'a function'
  if (value instanceof Promise) return 'a promise'
  try {
    return shorten(withoutSecrets(JSON.stringify(value)))
  } catch {
    return `a value of type ${typeof value}`
  }
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

function sentence(issue: v.BaseIssue<unknown>, schema: v.GenericSchema, fields: readonly string[]): string {
  const path = v.getDotPath(issue)
  if (path === null) return `exports ${quote(issue.input)}; allowed: ${issue.message}`
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    const field = path.split('.').at(-1) ?? path
    const others = fields.filter((name) => name !== field)
    return `unknown field "${path}"${didYouMean(field, others)}; allowed: ${fields.join(', ')}`
  }
  if (issue.type === 'strict_object' && issue.received === 'undefined') {
    // The issue is the object's; what the field should be, its own schema says.
    return `field "${path}" is missing; allowed: ${allowed(schema, path) ?? issue.message}`
  }
  const value = mayBeSecret(path.split('.'), issue.input) ? 'not as it should be' : quote(issue.input)
  return `field "${path}" is ${value}; allowed: ${issue.message}`
}

const secretFields = ['encrypt', 'webhook', 'email', 'slack', 'ping']

/** Somebody may have written a secret where its name should be. */
function mayBeSecret(path: readonly string[], input: unknown): boolean {
  return secretFields.some((field) => path.includes(field)) || (path[0] === 'notices' && typeof input === 'object')
}

function allowed(schema: v.GenericSchema, field: string): string | undefined {
  const entry = 'entries' in schema && isRecord(schema.entries) ? schema.entries[field] : undefined
  return isRecord(entry) && typeof entry['message'] === 'string' ? entry['message'] : undefined
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
