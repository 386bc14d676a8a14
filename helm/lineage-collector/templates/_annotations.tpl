{{- define "lineage-collector.podAnnotations" -}}
{{- $own := dict "checksum/config" (include "lineage-collector.files" . | sha256sum) "kubectl.kubernetes.io/default-container" "lineage-collector" -}}
{{- with include "lineage-collector.secretVersions" . -}}
{{- $_ := set $own "checksum/secrets" (sha256sum .) -}}
{{- end -}}
{{- if .Values.prometheusAnnotations.enabled -}}
{{- $_ := set $own "prometheus.io/scrape" "true" -}}
{{- $_ := set $own "prometheus.io/port" (toString .Values.web.port) -}}
{{- $_ := set $own "prometheus.io/path" "/metrics" -}}
{{- $_ := set $own "prometheus.io/scheme" (include "lineage-collector.scheme" .) -}}
{{- end -}}
{{- toYaml (merge $own (.Values.podAnnotations | default dict)) -}}
{{- end -}}

{{/* The versions of the secrets that come as environment variables, which only a new pod sees; empty where there is no
cluster to look them up in, as in `helm template`. Versions, because a hash of a secret could be guessed. */}}
{{- define "lineage-collector.secretVersions" -}}
{{- $namespace := include "lineage-collector.namespace" . -}}
{{- range $name, $from := .Values.secrets.env -}}
{{- with lookup "v1" "Secret" $namespace $from.existingSecret -}}
{{- $name }}={{ .metadata.resourceVersion }};
{{- end -}}
{{- end -}}
{{- end -}}
