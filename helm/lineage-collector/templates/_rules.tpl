{{/* The alert rules: rules/alerts.yaml with the values in place of each <name>. */}}

{{/* A duration as PromQL writes it, such as 1h30m, in seconds. */}}
{{- define "lineage-collector.seconds" -}}
{{- $units := dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[smhdw]" . -1 -}}
{{- $sum = add $sum (mul (trimSuffix (substr (sub (len .) 1 | int) (len .) .) . | int64) (get $units (substr (sub (len .) 1 | int) (len .) .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* The series of this release alone: both kinds of monitor put these two labels on them. In long names of a Deployment's pods
Kubernetes leaves the second hyphen out. */}}
{{- define "lineage-collector.rules.selector" -}}
{{- $ending := ternary "[a-z0-9]{1,10}-?[a-z0-9]{5}" "[0-9]+" (eq (include "lineage-collector.onPostgres" .) "true") -}}
{{- printf "namespace=%q, pod=~%q" (include "lineage-collector.namespace" .) (printf "%s-%s" (include "lineage-collector.fullname" .) $ending) -}}
{{- end -}}

{{/* The replacement of each <name>, for all alerts. */}}
{{- define "lineage-collector.rules.words" -}}
{{- $own := include "lineage-collector.rules.selector" . -}}
{{- $rule := .Values.prometheusRule -}}
{{- $selector := ternary $own $rule.selector (kindIs "invalid" $rule.selector) -}}
{{- $target := ternary $own $rule.targetSelector (kindIs "invalid" $rule.targetSelector) -}}
{{- dict "selector" $selector "target" $target "by" (join ", " $rule.aggregateBy) | toYaml -}}
{{- end -}}

{{/* A text with its words filled in. Takes a dict of `text`, `words`. */}}
{{- define "lineage-collector.rules.filled" -}}
{{- $text := .text -}}
{{- range $name, $value := .words -}}
{{- $text = $text | replace (printf "<%s>" $name) (toString $value) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* The groups of rules, but for those that have none. */}}
{{- define "lineage-collector.rules.groups" -}}
{{- $settings := .Values.prometheusRule -}}
{{- $common := include "lineage-collector.rules.words" . | fromYaml -}}
{{- range .Files.Get "rules/alerts.yaml" | fromYamlArray -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $page := .page -}}
{{- $alert := get $settings.rules .alert -}}
{{- if $alert.enabled -}}
{{- $words := deepCopy $common -}}
{{- range $name, $value := omit $alert "enabled" "for" "severity" "labels" "annotations" -}}
{{- $_ := set $words $name $value -}}
{{- if kindIs "string" $value -}}
{{- $_ := set $words (printf "%s.seconds" $name) (include "lineage-collector.seconds" $value) -}}
{{- end -}}
{{- end -}}
{{- $expr := include "lineage-collector.rules.filled" (dict "text" .expr "words" $words) | replace "{, " "{" | replace "{}" "" -}}
{{- $labels := merge (dict "severity" $alert.severity) ($alert.labels | default dict) ($settings.ruleLabels | default dict) (dict "service" (include "lineage-collector.fullname" $)) -}}
{{- $told := dict
  "summary" .summary
  "description" (include "lineage-collector.rules.filled" (dict "text" .description "words" $words))
  "runbook_url" (printf "%s/%s.md" (trimSuffix "/" $settings.runbookUrl) .alert) -}}
{{- with $settings.pagesUrl -}}
{{- $_ := set $told "page_url" (printf "%s%s" (trimSuffix "/" .) $page) -}}
{{- end -}}
{{- $rules = append $rules (dict
  "alert" .alert
  "expr" $expr
  "for" $alert.for
  "labels" $labels
  "annotations" (merge (deepCopy ($alert.annotations | default dict)) $told ($settings.ruleAnnotations | default dict))) -}}
{{- end -}}
{{- end -}}
{{- if $rules }}
- name: {{ .group }}
  {{- with $settings.interval }}
  interval: {{ . }}
  {{- end }}
  rules: {{- toYaml $rules | nindent 4 }}
{{- end }}
{{- end -}}
{{- with $settings.additionalGroups }}
{{ toYaml . }}
{{- end -}}
{{- end -}}
