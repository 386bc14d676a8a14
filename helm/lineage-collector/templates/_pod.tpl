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
# Relative paths in the configuration lie here: on the volume, if there is one.
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
  {{- if not (include "lineage-collector.onPostgres" .) }}
  - name: data
    mountPath: /var/lib/lineage-collector
  {{- end }}
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

{{/* The pod that runs the program, of the StatefulSet or of the Deployment. */}}
{{- define "lineage-collector.podTemplate" -}}
metadata:
  labels: {{- merge (include "lineage-collector.labels" . | fromYaml) (.Values.podLabels | default dict) | toYaml | nindent 4 }}
  annotations: {{- include "lineage-collector.podAnnotations" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "lineage-collector.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  terminationGracePeriodSeconds: {{ include "lineage-collector.gracePeriod" . }}
  {{- include "lineage-collector.placement" . | nindent 2 }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "lineage-collector.spread" . | fromYamlArray }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  initContainers:
    {{- with .Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    - name: check-config
      args: [check, --config, /etc/lineage-collector/config.yaml, --offline]
      {{- include "lineage-collector.container" . | nindent 6 }}
  containers:
    - name: lineage-collector
      args: {{- concat (list "run" "--config" "/etc/lineage-collector/config.yaml") (.Values.extraArgs | default list) | toYaml | nindent 8 }}
      {{- include "lineage-collector.container" . | nindent 6 }}
      ports:
        - name: metrics
          containerPort: {{ .Values.web.port }}
          protocol: TCP
      {{- if (.Values.startupProbe).enabled }}
      startupProbe: {{- include "lineage-collector.probe" (dict "root" . "probe" .Values.startupProbe "path" "/healthz") | nindent 8 }}
      {{- end }}
      {{- if (.Values.livenessProbe).enabled }}
      livenessProbe: {{- include "lineage-collector.probe" (dict "root" . "probe" .Values.livenessProbe "path" "/healthz") | nindent 8 }}
      {{- end }}
      {{- if (.Values.readinessProbe).enabled }}
      readinessProbe: {{- include "lineage-collector.probe" (dict "root" . "probe" .Values.readinessProbe "path" "/readyz") | nindent 8 }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "lineage-collector.volumes" (dict "root" . "configMap" (include "lineage-collector.fullname" .)) | nindent 4 }}
    {{- if include "lineage-collector.onPostgres" . }}
    {{- else if ne (include "lineage-collector.hasVolume" .) "true" }}
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.persistence.emptyDirSize }}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | quote }}
    {{- end }}
{{- end -}}

{{/* Replicas keep apart where they can, by zone and by node, unless the values say otherwise; each version for itself, or the
pods of the old one would push the new ones together. */}}
{{- define "lineage-collector.spread" -}}
{{- if .Values.topologySpreadConstraints -}}
{{- toYaml .Values.topologySpreadConstraints -}}
{{- else if gt (int .Values.replicas) 1 -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "lineage-collector.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}
{{- end -}}
