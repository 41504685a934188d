/** The schedulers that a file can be written for. */
export const scheduleKinds = ['cron', 'systemd', 'kubernetes', 'github', 'render'] as const

/** A scheduler that a file can be written for. */
export type ScheduleKind = (typeof scheduleKinds)[number]
