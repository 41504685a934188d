/** The bounds of partitions, as Postgres writes them. */

/** A value in a bound: a number, a keyword or a quoted text. */
const literal = String.raw`(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|MINVALUE|MAXVALUE|NULL|true|false)`
const list = String.raw`\(${literal}(?:, ${literal})*\)`
const range = new RegExp(`^FOR VALUES FROM \\((${literal})(?:, ${literal})*\\) TO \\((${literal})(?:, ${literal})*\\)$`)
const any = new RegExp(
  String.raw`^(?:FOR VALUES (?:FROM ${list} TO ${list}|IN ${list}|WITH \(modulus \d+, remainder \d+\))|DEFAULT)$`,
)

/** The first values of a range, as text; null where it has no such end. Undefined where it is no range. */
export function rangeOf(bounds: string): { from: string | null; to: string | null } | undefined {
  const [, from, to] = range.exec(bounds) ?? []
  return from === undefined || to === undefined ? undefined : { from: textOf(from), to: textOf(to) }
}

/** Whether a text is bounds and nothing else: it may have come with an archive from elsewhere. */
export function isBounds(text: string): boolean {
  return any.test(text)
}

function textOf(value: string): string | null {
  return value.startsWith("'") ? value.slice(1, -1).replaceAll("''", "'") : null
}
