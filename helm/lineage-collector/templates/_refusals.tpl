{{- define "lineage-collector.refusals" -}}
{{- end -}}
