/** What hangs on a policy's table, as a tree. */
import type { PolicyReport } from '../report.ts'
import { counted, indent, number, style } from './style.ts'

/** The tables that hang on a policy's, each under the first that it hangs on; nothing without children. */
export function childLines({ table, children = [] }: Pick<PolicyReport, 'table' | 'children'>): string {
  const seen = new Set<string>()
  const under = (parent: string): string =>
    children
      .filter((child) => child.via[0]?.table === parent && !seen.has(child.table))
      .map((child) => {
        seen.add(child.table)
        const keys = child.via.map((via) => `${via.columns.join(', ')} → ${via.table}`).join('; ')
        const set = child.references > 0 ? `, ${counted(child.references, 'reference')} set to something else` : ''
        const line = `└ ${child.table}  ${counted(child.rows, 'row')}${set}  ${style('dim', keys)}\n`
        return `${line}${indent(under(child.table))}`
      })
      .join('')
  return children.length === 0 ? '' : indent(under(table))
}

/** `, and 12 rows of 3 tables that hang on them`; nothing where there are none. */
export function alongText({ children = [] }: Pick<PolicyReport, 'children'>): string {
  const rows = children.reduce((sum, child) => sum + child.rows, 0)
  const tables = children.filter((child) => child.rows > 0).length
  if (rows === 0) return ''
  return `, and ${number(rows)} ${rows === 1 ? 'row' : 'rows'} of ${counted(tables, 'table')} along with them`
}
