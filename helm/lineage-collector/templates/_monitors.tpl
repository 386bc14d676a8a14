{{/* One endpoint, the same for both kinds of monitors: `monitor` are their values. */}}
{{- define "lineage-collector.endpoint" -}}
{{- $ := .root -}}
{{- $secret := include "lineage-collector.tlsSecret" $ -}}
- port: metrics
  path: /metrics
  scheme: {{ include "lineage-collector.scheme" $ }}
  honorLabels: {{ .monitor.honorLabels }}
  {{- with .monitor.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .monitor.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- if $secret }}
  tlsConfig:
    {{- if .monitor.tlsConfig }}
    {{- toYaml .monitor.tlsConfig | nindent 4 }}
    {{- else }}
    ca:
      secret:
        name: {{ $secret | quote }}
        key: ca.crt
    serverName: {{ include "lineage-collector.host" $ | quote }}
    {{- end }}
  {{- end }}
  {{- with $.Values.web.credentialsSecret }}
  basicAuth:
    username:
      name: {{ . | quote }}
      key: username
    password:
      name: {{ . | quote }}
      key: password
  {{- end }}
  {{- with .monitor.relabelings }}
  relabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.metricRelabelings }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The service's name inside the cluster. */}}
{{- define "lineage-collector.host" -}}
{{ include "lineage-collector.fullname" . }}.{{ include "lineage-collector.namespace" . }}.svc
{{- end -}}

{{- define "lineage-collector.monitorMetadata" -}}
{{- $ := .root -}}
name: {{ include "lineage-collector.fullname" $ | quote }}
namespace: {{ .monitor.namespace | default (include "lineage-collector.namespace" $) | quote }}
labels: {{- merge (include "lineage-collector.labels" $ | fromYaml) (.monitor.labels | default dict) | toYaml | nindent 2 }}
{{- with .monitor.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
