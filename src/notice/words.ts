/** The sentences of notices, in English and Korean. What errors and warnings say stays as it is. */
import type { PolicyStatus } from '../report.ts'

/** Numbers, sizes and times come as text. */
export interface Words {
  readonly number: (value: number) => string
  readonly seconds: (seconds: number) => string
  readonly status: Readonly<Record<PolicyStatus, string>>
  readonly title: (subject: string, database: string | undefined) => string
  readonly failed: (failed: number, all: number) => string
  readonly notBegun: string
  readonly overdueIn: (policies: number) => string
  readonly stopped: (rows: string) => string
  readonly archivedRows: (rows: string) => string
  readonly nothingDue: string
  readonly run: (run: string, time: string) => string
  readonly runAlone: (run: string) => string
  readonly archived: (rows: string, archives: number, size: string) => string
  readonly redacted: (rows: string, archives: number, size: string) => string
  readonly dueLeft: (rows: string) => string
  readonly held: (rows: string) => string
  readonly skipped: (rows: string) => string
  readonly hint: (hint: string) => string
  readonly warning: (text: string) => string
  readonly overdue: (rows: string, oldest: string | null) => string
  readonly unasked: (why: string) => string
  readonly more: (count: number) => string
  readonly test: { readonly subject: string; readonly text: string }
}

const one = (value: number | string, singular: string, plural = `${singular}s`): string =>
  `${value} ${String(value) === '1' ? singular : plural}`

const en: Words = {
  number: (value) => value.toLocaleString('en'),
  seconds: (value) =>
    value < 60
      ? `${value} s`
      : value < 3600
        ? `${Math.floor(value / 60)} min ${value % 60} s`
        : `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`,
  status: {
    applied: 'done',
    'nothing-due': 'nothing due',
    partial: 'stopped early',
    refused: 'refused',
    locked: 'left to another run',
    failed: 'failed',
    interrupted: 'interrupted',
  },
  title: (subject, database) => `Retention${database === undefined ? '' : ` (${database})`}: ${subject}`,
  failed: (failed, all) => `${failed} of ${one(all, 'policy', 'policies')} failed`,
  notBegun: 'the run could not begin',
  overdueIn: (policies) => `rows are overdue in ${one(policies, 'policy', 'policies')}`,
  stopped: (rows) => `stopped early, ${one(rows, 'row')} archived`,
  archivedRows: (rows) => `${one(rows, 'row')} archived`,
  nothingDue: 'nothing due',
  run: (run, time) => `Run ${run}, ${time}`,
  runAlone: (run) => `Run ${run}`,
  archived: (rows, archives, size) => `${one(rows, 'row')} archived and deleted: ${one(archives, 'archive')}, ${size}`,
  redacted: (rows, archives, size) => `${one(rows, 'row')} archived and redacted: ${one(archives, 'archive')}, ${size}`,
  dueLeft: (rows) => `${one(rows, 'due row')} left`,
  held: (rows) => `${one(rows, 'row')} held`,
  skipped: (rows) => `${one(rows, 'row')} skipped: another transaction holds them`,
  hint: (hint) => `What to do: ${hint}`,
  warning: (text) => `Warning: ${text}`,
  overdue: (rows, oldest) =>
    `Overdue: ${one(rows, 'due row')}${oldest === null ? '' : `, the oldest row of ${oldest}`}`,
  unasked: (why) => `Whether rows are overdue could not be learned: ${why}`,
  more: (count) => `and ${count} more`,
  test: {
    subject: 'a test',
    text: 'This is a test. Notices of runs arrive here.\n\nNothing was archived or changed.',
  },
}

const ko: Words = {
  number: (value) => value.toLocaleString('ko'),
  seconds: (value) =>
    value < 60
      ? `${value}초`
      : value < 3600
        ? `${Math.floor(value / 60)}분 ${value % 60}초`
        : `${Math.floor(value / 3600)}시간 ${Math.floor((value % 3600) / 60)}분`,
  status: {
    applied: '완료',
    'nothing-due': '대상 없음',
    partial: '일부만 처리하고 종료',
    refused: '거부됨',
    locked: '다른 실행이 처리 중',
    failed: '실패',
    interrupted: '중단됨',
  },
  title: (subject, database) => `Retention${database === undefined ? '' : `(${database})`}: ${subject}`,
  failed: (failed, all) => `정책 ${all}개 중 ${failed}개 실패`,
  notBegun: '실행을 시작하지 못했습니다',
  overdueIn: (policies) => `정책 ${policies}개에 기한이 지난 행이 남아 있습니다`,
  stopped: (rows) => `도중에 종료, ${rows}행 보관`,
  archivedRows: (rows) => `${rows}행을 보관했습니다`,
  nothingDue: '보관할 행이 없습니다',
  run: (run, time) => `실행 ${run}, 소요 시간 ${time}`,
  runAlone: (run) => `실행 ${run}`,
  archived: (rows, archives, size) => `${rows}행을 보관하고 삭제했습니다(아카이브 ${archives}개, ${size})`,
  redacted: (rows, archives, size) => `${rows}행을 보관하고 가림 처리했습니다(아카이브 ${archives}개, ${size})`,
  dueLeft: (rows) => `보관 대상 ${rows}행이 남았습니다`,
  held: (rows) => `${rows}행은 보존 조치로 남겨 두었습니다`,
  skipped: (rows) => `${rows}행은 다른 트랜잭션이 사용 중이어서 건너뛰었습니다`,
  hint: (hint) => `조치 방법: ${hint}`,
  warning: (text) => `경고: ${text}`,
  overdue: (rows, oldest) => `기한 초과: 보관 대상 ${rows}행${oldest === null ? '' : `, 가장 오래된 행 ${oldest}`}`,
  unasked: (why) => `기한이 지난 행이 있는지 확인하지 못했습니다: ${why}`,
  more: (count) => `외 ${count}개`,
  test: {
    subject: '테스트',
    text: '테스트 알림입니다. 실행 결과 알림이 이곳으로 전송됩니다.\n\n보관하거나 변경한 데이터는 없습니다.',
  },
}

export const words: Readonly<Record<'en' | 'ko', Words>> = { en, ko }

/** 1234567 bytes as 1.2 MB. */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  return `${(bytes / 1000 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`
}
