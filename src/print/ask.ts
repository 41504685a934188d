/** Asks, on a terminal, what the first policy should be. */
import { confirm, intro, isCancel, outro, password, select, text } from '@clack/prompts'

import type { Candidate } from '../database/database.ts'
import { RetentionError } from '../errors.ts'
import type { KeyKind } from '../config/keys.ts'
import { formatTableName } from '../config/fields.ts'
import type { InitChoice } from '../init.ts'
import type { Repair } from '../report.ts'
import { candidateTable } from './init.ts'
import { counted, number } from './style.ts'

/** @throws RetentionError `INTERRUPTED` when the questions are left unanswered. */
export async function askForPolicy(candidates: readonly Candidate[]): Promise<InitChoice | undefined> {
  if (candidates.length === 0) return undefined
  process.stdout.write(`${candidateTable(candidates)}\n\n`)
  intro('A first policy')
  const candidate = answered(
    await select({
      message: 'Which table should forget its old rows?',
      options: candidates.map((one) => ({
        value: one,
        label: formatTableName(one.table),
        hint: counted(one.rows, 'row'),
      })),
    }),
  )
  const column = answered(
    await text({ message: 'Which column says how old a row is?', initialValue: candidate.column }),
  )
  const known = candidate.due.map(({ days, rows }) => `${days} days: ${number(rows)} rows`).join(' · ')
  const days = answered(
    await text({
      message: `How many days does a row live? (due now, after ${known})`,
      initialValue: '90',
      validate: (value) => (/^[1-9]\d*$/.test(value ?? '') ? undefined : 'A whole number, at least 1'),
    }),
  )
  outro('Writing it down')
  return { table: formatTableName(candidate.table), column, days: Number(days) }
}

/** @throws RetentionError `INTERRUPTED` when the question is left unanswered. */
export async function askToRepair({ location, action, text: why }: Repair): Promise<boolean> {
  const questions = { forget: 'Is it gone for good?', 'set-aside': 'Set it aside?' }
  const question = action === 'forget' || action === 'set-aside' ? questions[action] : 'Record it in the ledger?'
  return answered(await confirm({ message: `${location}\n${why}. ${question}`, initialValue: false }))
}

/** @throws RetentionError `INTERRUPTED` when the question is left unanswered. */
export async function askForKey(kind: KeyKind): Promise<string> {
  const message = kind === 'password' ? 'The password of the zip archives' : 'The private key of age, AGE-SECRET-KEY-1…'
  // stdout may be for an archive's CSV. Not even how long it is can be seen.
  const answer = answered(await password({ message, mask: '', output: process.stderr, clearOnError: true }))
  // An empty one is no answer, and undefined in spite of its type.
  return answer ?? ''
}

function answered<T>(answer: T): Exclude<T, symbol> {
  if (isCancel(answer)) throw new RetentionError('INTERRUPTED', 'Left without writing anything')
  // Nothing but the cancel symbol is a symbol here.
  return answer as Exclude<T, symbol>
}
