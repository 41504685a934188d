/** Of `parse-prometheus-text-format`, which has no types, what the tests use. */
declare module 'parse-prometheus-text-format' {
  export default function parsePrometheusTextFormat(text: string): {
    name: string
    type: string
    metrics: { value: string; labels?: Record<string, string> }[]
  }[]
}
