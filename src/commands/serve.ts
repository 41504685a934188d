/** `retention serve` */
import type { CommandModule } from 'yargs'

import { RetentionError } from '../errors.ts'
import { eventLine, openLog, type LogFormat, type LogLine } from '../log.ts'
import type { AnsweredRequest } from '../serve/app.ts'
import { given, logOption, numberOption, type CommonArguments } from './command.ts'
import { graceOption, untilStopped, type Signals } from './until-stopped.ts'

interface ServeArguments extends CommonArguments {
  port: number | undefined
  host: string | undefined
  grace: string
  'trust-proxy': boolean
  'log-format': LogFormat
}

export const serveCommand: CommandModule<CommonArguments, ServeArguments> = {
  command: 'serve',
  describe: 'Start runs, and tell how they go, over HTTP',
  builder: (parser) =>
    parser
      .option('port', numberOption('port', 'Where to listen; by default PORT, else 8080'))
      .option('host', {
        type: 'string',
        describe: 'Where to listen; by default HOST, else 127.0.0.1. Others need RETENTION_TOKEN',
        requiresArg: true,
      })
      .option('grace', graceOption)
      .option('trust-proxy', {
        type: 'boolean',
        default: false,
        describe: 'Take X-Forwarded-For for the address of who asks; only behind a proxy that sets it',
      })
      .option('log-format', logOption),
  handler: async (argv) => untilStopped(argv, (signals, grace) => serve(argv, signals, grace)),
}

async function serve(argv: ServeArguments, { first, second }: Signals, grace: number): Promise<void> {
  const { PORT, HOST, RETENTION_TOKEN: token } = process.env
  const { loadProject } = await import('../config/project.ts')
  const { startServer } = await import('../serve/server.ts')
  const { startSchedules } = await import('../serve/schedules.ts')
  const project = given({ config: argv.config, database: argv.database })
  // A mistake in config or policies is told now, not at the first run.
  const { policies } = await loadProject(project)
  const log = await openLog(argv['log-format'], argv.quiet)
  const server = await startServer({
    ...project,
    port: portOf(argv.port ?? PORT),
    host: argv.host ?? (HOST || '127.0.0.1'),
    token,
    trustProxy: argv['trust-proxy'],
    onRequest: (request) => log(requestLine(request)),
    onEvent: (event) => log(eventLine(event)),
  })
  const say = (msg: string): void => log({ level: 'info', msg })
  say(`Listening on ${server.address}`)
  const schedules = startSchedules({ project, policies, runs: server.runs, say })
  await first
  const schedulesEnded = schedules.stop()
  const { running } = server.runs
  say(running === undefined ? 'Stopping.' : `Stopping: run ${running} may end its step; once more rolls it back.`)
  void second.then(() => server.runs.rollBack())
  await server.close(grace)
  await schedulesEnded
}

function portOf(written: number | string | undefined): number {
  if (written === undefined || written === '') return 8080
  const port = Number(written)
  if (Number.isSafeInteger(port) && port >= 0 && port < 65_536) return port
  throw new RetentionError('USAGE', `The port is ${JSON.stringify(written)}; allowed: a number from 0 to 65535`)
}

function requestLine(request: AnsweredRequest): LogLine {
  const { method, path, status, milliseconds: time } = request
  const msg = `${method} ${path} ${status} ${time} ms`
  return { level: status < 500 ? 'info' : 'error', type: 'request', ...request, msg }
}
