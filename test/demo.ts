/**
 * `npm run demo`: makes `local.db` with months of a conversation log, and shows the main job on it with this
 * repository's own config and policy. Run again, it starts afresh: `local.db` and its archives are made anew.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, chmodSync, rmSync } from 'node:fs'
import path from 'node:path'
import { styleText } from 'node:util'

import Sqlite from 'better-sqlite3'

const repository = path.join(import.meta.dirname, '..')
const bin = path.join(repository, 'dist/bin.js')

const messages: readonly (readonly [role: string, body: string | null])[] = [
  ['user', '안녕하세요, 지난달 청구서를 다시 받을 수 있을까요?'],
  ['assistant', '물론입니다! 이메일로 보내 드렸어요 📧'],
  ['user', 'She said "call me back", then hung up.'],
  ['assistant', 'Here is a list:\n- first\n- second\r\n- third, with a comma'],
  ['user', ''],
  ['user', null],
  ['user', '👩‍👩‍👧‍👦 emoji, 한글 and "quotes", all in one line'],
  ['assistant', '=SUM(A1:A9) is data here, and stays data'],
  ['user', "it's -- not a comment; drop table conversation_log"],
  ['assistant', 'NULL is a word; the value has no quotes around it.'],
  ['system', '{"event": "handover", "to": "지원팀"}'],
]

if (!existsSync(bin)) throw new Error('Build it first: npm run build')
clear()
seed()
retention('plan', 'what would be archived; changes nothing')
retention('apply', 'archive, verify, delete, record')
retention('status --archives', 'what is left, and what the ledger knows')
retention('apply', 'again: nothing to do')
const [archive = ''] = archives()
retention(`restore ${path.basename(archive)}`, 'the down migration')
retention('status', 'restored rows are past their time still, and so are held')
retention('verify', 'every archive is what the ledger says')

function clear(): void {
  for (const file of [...globSync('local.db*', { cwd: repository }), ...archives()]) rmSync(path.join(repository, file))
}

function archives(): string[] {
  return globSync('backups/conversation_log_backup_*', { cwd: repository }).toSorted()
}

/** Thousands of messages over four months, with everything that a careless CSV trips over. */
function seed(): void {
  mkdirSync(path.join(repository, 'backups'), { recursive: true })
  // A folder that git made is open to everybody; archives are not.
  chmodSync(path.join(repository, 'backups'), 0o700)
  const db = new Sqlite(path.join(repository, 'local.db'))
  db.exec(`
    create table conversation_log (
      id integer primary key autoincrement,
      user_id integer not null,
      role text not null,
      body text,
      tokens integer,
      cost real,
      created_at text not null
    );
    create index conversation_log_created_at on conversation_log (created_at);
  `)
  const insert = db.prepare(
    'insert into conversation_log (user_id, role, body, tokens, cost, created_at) values (?, ?, ?, ?, ?, ?)',
  )
  const minutes = 25
  const rows = (120 * 24 * 60) / minutes
  const start = Date.now() - rows * minutes * 60_000
  db.transaction(() => {
    for (let row = 0; row < rows; row += 1) {
      const [role, body] = messages[(row * 7) % messages.length] ?? ['user', '']
      const at = new Date(start + row * minutes * 60_000 + ((row * 7919) % 60) * 1000).toISOString()
      insert.run(
        1 + ((row * 31) % 97),
        role,
        body,
        body === null ? null : BigInt(body.length),
        body === null ? null : body.length * 0.000_02,
        at,
      )
    }
  })()
  db.close()
  console.log(`local.db: conversation_log with ${rows.toLocaleString('en')} rows over 120 days\n`)
}

/** Runs a command as a user would, and shows it. */
function retention(command: string, why: string): void {
  console.log(`${styleText('cyan', `$ retention ${command}`)}  ${styleText('dim', `# ${why}`)}`)
  const { status } = spawnSync(process.execPath, [bin, ...command.split(' ')], {
    cwd: repository,
    stdio: 'inherit',
    // The demo is on its own database, whatever the environment of whoever runs it says.
    env: { ...process.env, DATABASE_URL: '', LOG_RETENTION_DAYS: '' },
  })
  if (status !== 0) throw new Error(`retention ${command} ended with ${status}`)
  console.log()
}
