/** `check`: every mistake of every file at once, without a database and without a connection; what is not set here is told. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

import { check } from '../src/index.ts'
import { TestProject } from './support/project.ts'

const test = suite('check')
const policy = { table: 'log', column: 'at', days: 30 }

test('policies are told in a line each, without any address; variables that are not set are warned of', async () => {
  const made = new TestProject({}, { a: { ...policy, schedule: '@daily' } })
  try {
    made.write(
      'retention.config.ts',
      `export default {
        databases: { eu: process.env.CHECK_NOT_SET, us: 'postgres://me:hidden@nowhere.invalid/x' },
        archive: { to: 's3://bucket/p', encrypt: { zip: { password: { env: 'CHECK_PASSWORD' } } } },
      }`,
    )
    made.write('policies/b.yaml', 'table: log\ncolumn: at\ndays: 7\naction: redact\nset: { ip: null }\n')
    const report = await check({ cwd: made.folder })
    assert.equal(report.policies, [
      {
        policy: 'a',
        table: 'log',
        column: 'at',
        days: 30,
        action: 'archive',
        targets: ['s3://bucket/p/eu', 's3://bucket/p/us'],
        schedule: '@daily',
      },
      {
        policy: 'b',
        table: 'log',
        column: 'at',
        days: 7,
        action: 'redact',
        targets: ['s3://bucket/p/eu', 's3://bucket/p/us'],
        schedule: null,
      },
    ])
    assert.equal(report.warnings, ['There is no address here for eu', 'CHECK_PASSWORD is not set here'])
    const run = await made.run(['check'], { env: { CHECK_PASSWORD: 'secret', CHECK_NOT_SET: 'sqlite:./none.db' } })
    assert.is(run.code, 0, run.stderr)
    assert.match(
      run.stdout,
      /2 policies, and nothing wrong in retention\.config\.ts\n.*\n +a +log\.at +30 days +archive/,
    )
    assert.not.match(run.stdout, 'hidden')
    assert.not.match(run.stdout, 'not set here')
    assert.equal(made.list('.').includes('none.db'), false)
  } finally {
    made.remove()
  }
})

test('all mistakes are told at once, those of several databases once', async () => {
  const made = new TestProject({}, { a: { ...policy, days: 0 } })
  try {
    made.write('retention.config.ts', `export default { databases: { eu: '', us: 'mysql://x' }, timezone: 'Mars' }`)
    made.write('policies/b.json', '{ "table": "log", "column": "at", "day": 3 }')
    const run = await made.run(['check', '--json'])
    assert.is(run.code, 2)
    const { error } = run.json<{ error: { code: string; message: string } }>()
    assert.is(error.code, 'CONFIG_INVALID')
    for (const [text, times] of [
      ['"Mars"', 1],
      ['mysql://x', 1],
      ['field "days" is 0', 1],
      ['unknown field "day" (did you mean "days"?)', 1],
    ] as const)
      assert.is(error.message.split(text).length - 1, times, `${text}: ${error.message}`)
  } finally {
    made.remove()
  }
})

test.run()
