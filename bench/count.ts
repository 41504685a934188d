/** What `retention query` is compared with: DuckDB alone counts the rows of the same files, and says how many they are. */
import { DuckDBInstance } from '@duckdb/node-api'

const [files = ''] = process.argv.slice(2)
const instance = await DuckDBInstance.create(':memory:')
const connection = await instance.connect()
// With the options that retention reads them with.
const reader = await connection.runAndReadAll(
  `select count(*) from read_csv('${files.replaceAll("'", "''")}', header = true, all_varchar = true, delim = ',',
    quote = '"', escape = '"', new_line = '\\n', nullstr = '', allow_quoted_nulls = false, strict_mode = true,
    max_line_size = 16000000, buffer_size = 32000000)`,
)
process.stdout.write(`${String(reader.getRows()[0]?.[0])}\n`)
