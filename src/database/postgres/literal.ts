/** The one place that puts values into SQL text: for COPY, which takes no parameters, and for several statements at once. */
import { PostgresQueryCompiler, createQueryId } from 'kysely'
import { escapeLiteral } from 'pg'

import type { Sql } from '../database.ts'

/** A query's text with its values in it, each quoted by the driver. */
export function withLiterals(query: Sql): string {
  return new LiteralCompiler().compileQuery(query.toOperationNode(), createQueryId()).sql
}

class LiteralCompiler extends PostgresQueryCompiler {
  protected override appendValue(value: unknown): void {
    if (value === null) this.append('null')
    else if (typeof value === 'string' && !value.includes('\0')) this.append(escapeLiteral(value))
    else throw new TypeError(`a ${typeof value} cannot stand in SQL text`)
  }
}
