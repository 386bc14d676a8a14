{{/* Names, labels and the image. */}}

{{- define "lineage-collector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | include "lineage-collector.labelValue" -}}
{{- end -}}

{{/* Up to 52 characters: the StatefulSet's controller appends 11 more for a label of 63. */}}
{{- define "lineage-collector.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The service that gives the pod its name in DNS. No monitor selects it: the port would be scraped twice. */}}
{{- define "lineage-collector.headlessName" -}}
{{- include "lineage-collector.fullname" . }}-headless
{{- end -}}

{{/* Kubernetes takes up to 52 characters for a CronJob. */}}
{{- define "lineage-collector.backupName" -}}
{{- include "lineage-collector.fullname" . | trunc 45 | trimSuffix "-" }}-backup
{{- end -}}

{{- define "lineage-collector.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* What never changes while the release lives. */}}
{{- define "lineage-collector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lineage-collector.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: collector
{{- end -}}

{{/* Labels of a hook's pod, which must not match the selectors of the other objects. */}}
{{- define "lineage-collector.hookSelectorLabels" -}}
{{- $labels := include "lineage-collector.selectorLabels" . | fromYaml -}}
{{- toYaml (set $labels "app.kubernetes.io/component" "hook") -}}
{{- end -}}

{{- define "lineage-collector.hookLabels" -}}
{{- $labels := include "lineage-collector.labels" . | fromYaml -}}
{{- toYaml (set $labels "app.kubernetes.io/component" "hook") -}}
{{- end -}}

{{/* A label is up to 63 characters long and ends with a letter or digit. */}}
{{- define "lineage-collector.labelValue" -}}
{{- regexReplaceAll "[^A-Za-z0-9]+$" (replace "+" "_" . | trunc 63) "" -}}
{{- end -}}

{{- define "lineage-collector.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | include "lineage-collector.labelValue")
  "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | include "lineage-collector.labelValue")
  "app.kubernetes.io/part-of" "lineage-collector"
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge (include "lineage-collector.selectorLabels" . | fromYaml) $own (.Values.commonLabels | default dict)) -}}
{{- end -}}

{{- define "lineage-collector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lineage-collector.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The service account of a hook before an upgrade: an account that this upgrade creates does not exist yet, and the pod would
never start. So the chart's account is used only if it exists in the cluster (`helm template` does not look). */}}
{{- define "lineage-collector.hookServiceAccountName" -}}
{{- $name := include "lineage-collector.serviceAccountName" . -}}
{{- $isThere := or (not .Values.serviceAccount.create) (lookup "v1" "ServiceAccount" (include "lineage-collector.namespace" .) $name) -}}
{{- ternary $name "default" (not (empty $isThere)) -}}
{{- end -}}

{{- define "lineage-collector.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $name := ternary .Values.image.repository (printf "%s/%s" $registry .Values.image.repository) (empty $registry) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
