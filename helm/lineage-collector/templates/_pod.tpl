{{/* What the program's container, the init container that checks and the hook's container have in common. */}}

{{- define "lineage-collector.container" -}}
image: {{ include "lineage-collector.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
# Relative paths in the configuration lie on the volume.
workingDir: /var/lib/lineage-collector
env:
  - name: LINEAGE_COLLECTOR_CONFIG
    value: /etc/lineage-collector/config.yaml
  {{- range $name, $from := .Values.secrets.env }}
  - name: {{ $name | quote }}
    valueFrom:
      secretKeyRef:
        name: {{ $from.existingSecret | quote }}
        key: {{ $from.key | quote }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/lineage-collector
    readOnly: true
  - name: data
    mountPath: /var/lib/lineage-collector
  - name: tmp
    mountPath: /tmp
  {{- range .Values.secrets.files }}
  # The whole folder: a mount by subPath would never see a secret rotate.
  - name: {{ include "lineage-collector.secretVolume" . }}
    mountPath: /run/secrets/{{ .name | default .existingSecret }}
    readOnly: true
  {{- end }}
  {{- with include "lineage-collector.tlsSecret" . }}
  - name: web-tls
    mountPath: /run/secrets/web-tls
    readOnly: true
  {{- end }}
  {{- with .Values.web.configSecret }}
  - name: web
    mountPath: /run/secrets/web
    readOnly: true
  {{- end }}
  {{- if include "lineage-collector.caFile" . }}
  - name: ca
    mountPath: /etc/lineage-collector-ca
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A volume's name is a DNS label. */}}
{{- define "lineage-collector.secretVolume" -}}
{{- $name := .name | default .existingSecret -}}
{{- printf "secret-%s" ($name | lower | replace "." "-" | replace "_" "-" | trunc 45 | trimSuffix "-") }}-{{ sha256sum $name | trunc 8 -}}
{{- end -}}

{{/* Without the volume of the ledger. `configMap` is the one with the configuration. */}}
{{- define "lineage-collector.volumes" -}}
{{- $ := .root -}}
- name: config
  configMap:
    name: {{ .configMap | quote }}
- name: tmp
  emptyDir:
    sizeLimit: 128Mi
{{- range $.Values.secrets.files }}
- name: {{ include "lineage-collector.secretVolume" . }}
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
    {{- with .items }}
    items: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if .optional }}
    optional: true
    {{- end }}
{{- end }}
{{- with include "lineage-collector.tlsSecret" $ }}
- name: web-tls
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with $.Values.web.configSecret }}
- name: web
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- if $.Values.caBundle.existingConfigMap }}
- name: ca
  configMap:
    name: {{ $.Values.caBundle.existingConfigMap | quote }}
    items:
      - key: {{ $.Values.caBundle.key | quote }}
        path: {{ $.Values.caBundle.key }}
{{- else if $.Values.caBundle.existingSecret }}
- name: ca
  secret:
    secretName: {{ $.Values.caBundle.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ $.Values.caBundle.key | quote }}
        path: {{ $.Values.caBundle.key }}
{{- end }}
{{- with $.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where a pod may run and how; the same for the StatefulSet's and the hooks' pods. */}}
{{- define "lineage-collector.placement" -}}
enableServiceLinks: {{ .Values.enableServiceLinks }}
{{- with .Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A probe: `path` unless the values name a handler. */}}
{{- define "lineage-collector.probe" -}}
{{- $probe := omit .probe "enabled" -}}
{{- if not (or $probe.exec $probe.httpGet $probe.tcpSocket $probe.grpc) -}}
{{- $_ := set $probe "httpGet" (dict "path" .path "port" "metrics" "scheme" (include "lineage-collector.scheme" .root | upper)) -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

