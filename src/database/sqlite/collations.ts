/** The collations that a table's columns are declared with: SQLite tells them by the table's statement alone. */

/** Comments, whatever is in quotes, words, and single characters. */
const tokens =
  /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$\u0080-\uffff]+|\S/g

/**
 * Reads them from a CREATE TABLE that SQLite has taken.
 * @returns for each column, in their order, the collation's name, or undefined where it is BINARY; constraints may follow
 */
export function declaredCollations(statement: string): (string | undefined)[] {
  const found: (string | undefined)[] = [undefined]
  let depth = 0
  let isNext = false
  for (const [token] of statement.matchAll(tokens)) {
    if (token.startsWith('--') || token.startsWith('/*')) continue
    if (isNext) {
      const name = unquoted(token)
      // Of several, the last is taken.
      found[found.length - 1] = name.toUpperCase() === 'BINARY' ? undefined : name
    }
    // Deeper are expressions, and the columns of keys, which may have collations of their own.
    isNext = depth === 1 && token.toUpperCase() === 'COLLATE'
    if (token === '(') depth += 1
    if (token === ')') depth -= 1
    if (token === ',' && depth === 1) found.push(undefined)
    if (token === ')' && depth === 0) break
  }
  return found
}

/** Whether SQLite brings a collation itself; others come from programs, and none is ever registered here. */
export function isBuiltIn(collation: string): boolean {
  return ['BINARY', 'NOCASE', 'RTRIM'].includes(collation.toUpperCase())
}

function unquoted(name: string): string {
  const [quote = ''] = name
  if (quote === '[') return name.slice(1, -1)
  return ['"', "'", '`'].includes(quote) ? name.slice(1, -1).replaceAll(quote + quote, quote) : name
}
