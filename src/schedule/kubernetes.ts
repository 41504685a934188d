/** Kubernetes for people who schedule there: a CronJob for each schedule. */
import { applyArguments, jitterNote, named } from './command-line.ts'
import { cronLine, fieldsOf } from './fields.ts'
import type { ScheduleGroup } from './times.ts'

/**
 * The manifest, for `kubectl apply -f -`.
 * @throws RetentionError `USAGE` where Kubernetes cannot say a schedule
 */
export function kubernetesManifest(groups: readonly ScheduleGroup[]): string {
  const head = [
    '# Put your image in, and make the secret: kubectl create secret generic retention --from-env-file=FILE',
    '# with DATABASE_URL=… in the file. The image has the project in /app, and node_modules in it.',
    '# The file system is read-only and gone with the pod: archives go to S3, Google Drive or a volume that you add.',
    ...jitterNote(groups, 'Kubernetes'),
  ]
  const jobs = groups.map((group, index) => cronJob(group, named(groups, index)))
  return `${head.join('\n')}\n${jobs.join('---\n')}`
}

function cronJob(group: ScheduleGroup, name: string): string {
  const words = ['node_modules/.bin/retention', ...applyArguments(group.policies)]
  return `apiVersion: batch/v1
kind: CronJob
metadata:
  name: ${name}
spec:
  schedule: "${cronLine(fieldsOf(group))}"
  timeZone: "${group.schedule.timezone}"
  concurrencyPolicy: Forbid
  # A time that was missed is made up for within an hour.
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          # The running step may end.
          terminationGracePeriodSeconds: 120
          automountServiceAccountToken: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 1000
            runAsGroup: 1000
            fsGroup: 1000
            seccompProfile:
              type: RuntimeDefault
          containers:
            - name: retention
              image: registry.example.com/app:latest
              workingDir: /app
              command: ${JSON.stringify(words)}
              env:
                - name: DATABASE_URL
                  valueFrom:
                    secretKeyRef:
                      name: retention
                      key: DATABASE_URL
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: ["ALL"]
              volumeMounts:
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: tmp
              emptyDir: {}
`
}
