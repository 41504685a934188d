/** `action` and `set` of a policy: what they may be, and what does not go together with them. */
import * as v from 'valibot'

import type { SetValue, TableName } from './fields.ts'
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
      const others = all.slice(0, index).filter((one) => mayBeSameTable(one.table, policy.table))
      const [other] = others.flatMap(({ name, set: theirs = {} }) =>
        Object.entries(theirs)
          .filter(([theirColumn, theirValue]) => isSameName(theirColumn, column) && theirValue !== value)
          .map(([, theirValue]) => ({ name, value: theirValue })),
      )
      if (other === undefined) return []
      const text = `"set" sets "${column}" to ${JSON.stringify(value)}, and policy "${other.name}" sets it to ${JSON.stringify(other.value)} in the same table; allowed: the same value, or schemas in both names if the tables are two`
      return [{ file: policy.file, text }]
    }),
  )
}

/** Without a schema, a name may stand for the table of any. */
function mayBeSameTable(a: TableName, b: TableName): boolean {
  const isSameSchema = a.schema === undefined || b.schema === undefined || isSameName(a.schema, b.schema)
  return isSameSchema && isSameName(a.name, b.name)
}

/** To SQLite letter case is no difference. */
function isSameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}
