/** Plans that are asked for: one at a time, and one for all who ask for the same. */
import { plan } from '../apply/apply.ts'
import type { ProjectOptions } from '../config/project.ts'
import type { ApplyReport } from '../report.ts'

/** A plan counts and cuts what is due, which takes its time on a large table: no two are made side by side. */
export class Plans {
  readonly #project: ProjectOptions
  #making: { readonly key: string; readonly report: Promise<ApplyReport> } | undefined

  constructor(project: ProjectOptions) {
    this.#project = project
  }

  /**
   * What apply would do.
   * @param policies their names; none: all
   * @returns undefined where another plan is being made
   * @throws as `plan`
   */
  async get(policies: readonly string[]): Promise<ApplyReport | undefined> {
    const key = JSON.stringify(policies.toSorted())
    if (this.#making !== undefined) return this.#making.key === key ? this.#making.report : undefined
    const report = plan({ ...this.#project, policies }).finally(() => {
      this.#making = undefined
    })
    this.#making = { key, report }
    return report
  }
}
