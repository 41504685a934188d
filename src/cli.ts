/** The command line: which commands there are, and what becomes of mistakes in how they are called. */
import { setFlagsFromString } from 'node:v8'

import yargs from 'yargs'

import { applyCommand } from './commands/apply.ts'
import { catCommand } from './commands/cat.ts'
import { fail, keepOutputErrors, type CommonArguments } from './commands/command.ts'
import { eraseCommand } from './commands/erase.ts'
import { getCommand } from './commands/get.ts'
import { holdCommand } from './commands/hold.ts'
import { initCommand } from './commands/init.ts'
import { moveCommand } from './commands/move.ts'
import { planCommand } from './commands/plan.ts'
import { pruneCommand } from './commands/prune.ts'
import { queryCommand } from './commands/query.ts'
import { restoreCommand } from './commands/restore.ts'
import { serveCommand } from './commands/serve.ts'
import { scheduleCommand } from './commands/schedule.ts'
import { statusCommand } from './commands/status.ts'
import { verifyCommand } from './commands/verify.ts'
import { workerCommand } from './commands/worker.ts'
import { RetentionError } from './errors.ts'
import { toolVersion } from './version.ts'

/** Runs one command line; sets the process's exit code. */
export async function main(args: readonly string[]): Promise<void> {
  keepMemorySmall()
  quietTypeScriptWarnings()
  keepOutputErrors()
  const parser = yargs([...args])
    .scriptName('retention')
    .usage('$0 <command>\n\nArchives rows past their time to CSV, verifies, deletes, and puts them back.')
    .parserConfiguration({ 'duplicate-arguments-array': false })
    .option('config', {
      type: 'string',
      describe: 'The config file; by default retention.config.ts is looked for',
      requiresArg: true,
    })
    .option('database', {
      type: 'string',
      describe: 'The one of several databases, by its name in the config; by default all',
      requiresArg: true,
    })
    .option('json', { type: 'boolean', default: false, describe: 'Print one JSON document on stdout' })
    .option('quiet', { type: 'boolean', default: false, describe: 'Print nothing but errors' })
    .command(initCommand)
    .command(planCommand)
    .command(applyCommand)
    .command(statusCommand)
    .command(restoreCommand)
    .command(verifyCommand)
    .command(catCommand)
    .command(getCommand)
    .command(queryCommand)
    .command(holdCommand)
    .command(eraseCommand)
    .command(pruneCommand)
    .command(moveCommand)
    .command(serveCommand)
    .command(workerCommand)
    .command(scheduleCommand)
    .demandCommand(1, 'Name a command.')
    .strict()
    .recommendCommands()
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .version(toolVersion)
    .help()
    .exitProcess(false)
    .fail((message, error) => {
      // Commands report their own errors; what yargs has to say is about how one was called.
      if (error !== undefined && error.name !== 'YError') throw error
      throw new RetentionError('USAGE', message, { hint: 'See "retention --help".' })
    })
  try {
    await parser.parseAsync()
  } catch (error) {
    const logsJson = args.includes('--log-format=json') || args[args.indexOf('--log-format') + 1] === 'json'
    fail(error, {
      json: args.includes('--json'),
      ...(logsJson ? { 'log-format': 'json' } : {}),
    } satisfies Pick<CommonArguments, 'json' | 'log-format'>)
  }
}

/**
 * Rows that stream through become garbage at once. V8 would let the space for new objects grow with them; kept small, a
 * process that archives a million rows takes 35 MB less, and a tenth more time.
 */
function keepMemorySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** Node, in its older versions, warns on stderr that it takes types away. That is of no use to somebody who runs us. */
function quietTypeScriptWarnings(): void {
  const listeners = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', (warning) => {
    if (/type stripping/i.test(warning.message)) return
    for (const listener of listeners) listener(warning)
  })
}
