/** `action` and `set` of a policy: what they may be, and what does not go together with them. */
import * as v from 'valibot'

import { formatTableName, type SetValue, type TableName } from './fields.ts'
import type { Mistake } from './validate.ts'

const setAllowed = "an object of columns and what they are set to, such as { email: null, name: 'removed' }"
const valueAllowed = 'null, a text, a number, true or false'

/** What is done with due rows. */
export const action = v.optional(v.picklist(['archive', 'redact'], '"archive" or "redact"'), 'archive')

/** Columns, and what they are set to. */
export const set = v.pipe(
  v.record(
    v.string(setAllowed),
    v.nullable(v.union([v.string(), v.pipe(v.number(), v.finite()), v.boolean()], valueAllowed)),
    setAllowed,
  ),
  v.check((columns) => Object.keys(columns).length > 0, setAllowed),
)

/** What does not go together in one policy, each as a sentence. */
export function redactionMistakes(policy: {
  readonly action: 'archive' | 'redact'
  readonly set?: unknown
  readonly children?: unknown
  readonly partitions?: 'drop' | 'rows' | undefined
}): string[] {
  const { children, partitions } = policy
  if (policy.action === 'archive') {
    return policy.set === undefined ? [] : [`field "set" is for action "redact"; allowed: action: 'redact' beside it`]
  }
  const stays = 'with action "redact" rows stay'
  return [
    ...(policy.set === undefined
      ? [`field "set" is missing, which action "redact" needs; allowed: ${setAllowed}`]
      : []),
    ...(children === undefined ? [] : [`field "children" is for rows that go; ${stays}`]),
    ...(partitions === 'drop' ? [`field "partitions" is "drop"; ${stays}; allowed: "rows"`] : []),
  ]
}

/** A policy as far as another can contradict it. */
interface Redacting {
  readonly name: string
  readonly file: string
  readonly table: TableName
  readonly where: string | undefined
  readonly set: Readonly<Record<string, SetValue>> | undefined
}

/** Policies that would overwrite each other's values, every time anew. With a `where`, they may mean different rows. */
export function contradictions(policies: readonly Redacting[]): Mistake[] {
  const all = policies.filter(({ where }) => where === undefined)
  return all.flatMap((policy, index) =>
    Object.entries(policy.set ?? {}).flatMap(([column, value]) => {
      const other = all
        .slice(0, index)
        .find(
          (one) =>
            isSameTable(one, policy) &&
            one.set !== undefined &&
            Object.hasOwn(one.set, column) &&
            one.set[column] !== value,
        )
      if (other === undefined) return []
      const theirs = JSON.stringify(other.set?.[column] ?? null)
      const text = `"set" sets "${column}" to ${JSON.stringify(value)}, and policy "${other.name}" sets it to ${theirs} in the same table; allowed: the same value`
      return [{ file: policy.file, text }]
    }),
  )
}

function isSameTable(a: Redacting, b: Redacting): boolean {
  return formatTableName(a.table) === formatTableName(b.table)
}
