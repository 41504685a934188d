import { defineConfig } from 'retention'

export default defineConfig({
  database: process.env.DATABASE_URL || 'sqlite:./local.db',
  policies: './policies',
  // `durable: true` says that this folder outlives the process, so that the demo also runs where the environment says
  // CI. A machine that is thrown away must never say so: its archives would be thrown away with it, and they are then
  // the only copy of the rows.
  archive: { to: './backups', durable: true },
  timezone: 'UTC',
})
