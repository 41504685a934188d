import { definePolicy } from 'retention'

// Rows of the conversation log live 30 days; older ones are archived to CSV, verified and deleted.
export default definePolicy({
  table: 'conversation_log',
  column: 'created_at',
  // `||` and not `??`: an empty variable must not become 0 days.
  days: Number(process.env.LOG_RETENTION_DAYS || 30),
})
