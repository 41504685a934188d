/** `s3://bucket/prefix?region=…&endpoint=…`: what such an address says. */

/** A folder of a bucket, and the service that has it. */
export interface S3Address {
  readonly bucket: string
  /** What the keys of all files here begin with: nothing, or a path that ends with a slash. */
  readonly prefix: string
  /** Undefined: as the environment has it. */
  readonly region: string | undefined
  /** The service's own address; undefined: AWS. */
  readonly endpoint: string | undefined
  /** Whether the bucket's name is a part of the path, and not of the host. */
  readonly pathStyle: boolean
}

/** What an address may be, in words. */
export const s3AddressAllowed =
  '"s3://bucket/prefix", and after a "?" no more than region=…, endpoint=http(s)://… and pathStyle=true|false: credentials come from the environment'

/** Whether a target is meant to be one on S3. */
export function isS3(to: string): boolean {
  return /^s3:/i.test(to)
}

/** What an address says; undefined where it is none. */
export function parseS3Address(text: string): S3Address | undefined {
  const [, bucket, path = '', query = ''] = /^s3:\/\/([\w.-]{3,255})(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(text) ?? []
  if (bucket === undefined) return undefined
  const folders = path.split('/').filter((part) => part !== '')
  if (folders.some((part) => part === '.' || part === '..' || part.includes('\0'))) return undefined
  const prefix = folders.map((part) => `${part}/`).join('')
  // A key has 1024 bytes at most, and a file's name up to 255 of them.
  if (Buffer.byteLength(prefix) > 700) return undefined
  const parameters = [...new URLSearchParams(query)]
  const names = parameters.map(([name]) => name)
  if (new Set(names).size < names.length || names.some((name) => !parameterNames.has(name))) return undefined
  const { region, endpoint, pathStyle } = Object.fromEntries(parameters) as Partial<Record<string, string>>
  if (region !== undefined && !/^[a-z0-9-]+$/i.test(region)) return undefined
  if (pathStyle !== undefined && !['true', 'false'].includes(pathStyle)) return undefined
  const service = endpoint === undefined ? undefined : parseEndpoint(endpoint)
  if (endpoint !== undefined && service === undefined) return undefined
  // Services of one's own seldom have a host name for each bucket.
  const isInPath = pathStyle === undefined ? service !== undefined : pathStyle === 'true'
  return { bucket, prefix, region, endpoint: service, pathStyle: isInPath }
}

const parameterNames: ReadonlySet<string> = new Set(['region', 'endpoint', 'pathStyle'])

/** A service's address without a closing slash; undefined where it is none, or holds more than an address. */
function parseEndpoint(text: string): string | undefined {
  if (!/^https?:\/\/[^/?#@]/i.test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  const hasMore = [url.username, url.password, url.search, url.hash].some((part) => part !== '')
  return hasMore ? undefined : url.href.replace(/\/+$/, '')
}
