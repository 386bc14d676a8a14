{{/* What works but is risky, one a line. */}}
{{- define "lineage-collector.warnings" -}}
{{- $shared := include "lineage-collector.onPostgres" . }}
{{- $onVolume := eq (include "lineage-collector.hasVolume" .) "true" }}
{{- if $shared }}
{{- if eq (int .Values.replicas) 1 }}
  - There is one replica: while its pod is replaced or its node is away nothing is watched. Set replicas to 2 or 3.
{{- end }}
{{- if not (regexMatch "[?&]sslmode=(require|verify-ca|verify-full)(&|$)" .Values.config.ledger.url) }}
  - The connection to PostgreSQL may go unencrypted: add sslmode=verify-full to config.ledger.url, and name its authority in caBundle.
{{- end }}
{{- else if not $onVolume }}
  - WITHOUT A VOLUME (persistence.enabled: false), events that were not delivered are lost when the pod is replaced, and runs
    that ended meanwhile are found only within each source's initial_lookback.
{{- end }}
{{- if and $onVolume (eq .Values.persistence.retentionPolicy.whenDeleted "Delete") (not .Values.persistence.existingClaim) }}
  - Uninstalling deletes the ledger with its volume (persistence.retentionPolicy.whenDeleted: Delete).
{{- end }}
{{- if and $onVolume (eq .Values.persistence.retentionPolicy.whenScaled "Delete") (not .Values.persistence.existingClaim) }}
  - Scaling the StatefulSet to 0, as docs/operations.md does for a restore or a move, deletes the ledger with its volume
    (persistence.retentionPolicy.whenScaled: Delete).
{{- end }}
{{- if and $onVolume (has "ReadWriteMany" .Values.persistence.accessModes) }}
  - ReadWriteMany volumes are mostly NFS or SMB, on which SQLite's locks do not hold: use block storage.
{{- end }}
{{- $kinds := list }}
{{- range .Values.config.sinks }}{{ $kinds = append $kinds .type }}{{ end }}
{{- if not $kinds }}
  - There are no sinks: runs are counted in the metrics, and their events are sent nowhere.
{{- else if eq (uniq $kinds | join ",") "file" }}
  - The only sinks are files. On the ledger's volume they fill it: set rotate_at and keep, or ship them elsewhere.
{{- end }}
{{- include "lineage-collector.headerWarnings" (dict "node" (dict "sources" .Values.config.sources "sinks" .Values.config.sinks) "path" "config") }}
{{- if .Values.secrets.env }}
  - Secrets in environment variables ({{ keys .Values.secrets.env | sortAlpha | join ", " }}) change only with a new pod; those of secrets.files rotate by themselves.
{{- end }}
{{- if not (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled .Values.prometheusAnnotations.enabled) }}
  - Its metrics are not scraped: enable serviceMonitor, podMonitor or prometheusAnnotations.
{{- else if not .Values.prometheusRule.enabled }}
  - There are no alerts when it fails: enable prometheusRule.
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.ingress.namespaces) (not .Values.networkPolicy.ingress.from) }}
  - The network policy blocks all incoming connections: name Prometheus' namespace in networkPolicy.ingress.namespaces.
{{- end }}
{{- if and .Values.networkPolicy.enabled (hasPrefix "${env:" (.Values.proxy.url | default "")) (not .Values.networkPolicy.egress.ports) }}
  - The network policy cannot know the proxy's port: add it to networkPolicy.egress.ports.
{{- end }}
{{- if and .Values.web.configSecret (not .Values.web.credentialsSecret) (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled) }}
  - If {{ .Values.web.configSecret }} requires a password, monitors and `helm test` need web.credentialsSecret.
{{- end }}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not (regexMatch "(webhook|hint)_secret" (toJson .Values.config.sources))) }}
  - /hints/ is open to the outside, and no source has a hint_secret or webhook_secret: every message is answered 404.
{{- end }}
{{- if and (not (.Values.resources).limits) (not (.Values.resources).requests) }}
  - No resources are set: a good start is in values.yaml.
{{- end }}
{{- end -}}

{{/* Headers may contain anything, so a name like that of a secret only gives a warning. */}}
{{- define "lineage-collector.headerWarnings" -}}
{{- $path := .path -}}
{{- if kindIs "map" .node -}}
{{- range $key, $value := .node }}
{{- if and (hasSuffix ".headers" $path) (kindIs "string" $value) (regexMatch "(?i)auth|cookie|key|password|secret|token" $key) (not (hasPrefix "${env:" (toString $value))) }}
  - {{ $path }}.{{ $key }} looks like a secret, and everybody may read it in the ConfigMap: write ${env:NAME} and use secrets.env.
{{- else }}
{{- include "lineage-collector.headerWarnings" (dict "node" $value "path" (printf "%s.%s" $path $key)) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .node -}}
{{- range $index, $value := .node }}
{{- include "lineage-collector.headerWarnings" (dict "node" $value "path" (printf "%s[%d]" $path $index)) }}
{{- end }}
{{- end }}
{{- end -}}
