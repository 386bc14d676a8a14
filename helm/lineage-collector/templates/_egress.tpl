{{/* The TCP ports that the configured sources, sinks, the topic of hints and PostgreSQL are reached on, in order. Every platform and
every preset of a provider is on 443 unless a URL says otherwise. */}}
{{- define "lineage-collector.egressPorts" -}}
{{- $config := include "lineage-collector.config" . | fromYaml -}}
{{- $ports := list -}}
{{- if $config.sources -}}{{- $ports = append $ports 443 -}}{{- end -}}
{{- range $port := include "lineage-collector.portsIn" (list $config.sources $config.sinks $config.hints) | splitList "\n" -}}
{{- with trim $port -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- end -}}
{{- with $config.ledger.url -}}
{{- range splitList "," (regexReplaceAll "^[a-z]+://([^/@]*@)?([^/?]*).*$" . "${2}") -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432" | int) -}}
{{- end -}}
{{- end -}}
{{- range .Values.networkPolicy.egress.ports -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- $padded := list -}}
{{- range uniq $ports -}}{{- $padded = append $padded (printf "%05d" .) -}}{{- end -}}
{{- range sortAlpha $padded }}
- {{ trimPrefix "0" . | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" }}
{{- end -}}
{{- end -}}

{{/* One a line, of the addresses in a tree of settings. */}}
{{- define "lineage-collector.portsIn" -}}
{{- if kindIs "slice" . -}}
{{- range . }}
{{ include "lineage-collector.portsIn" . }}
{{- end }}
{{- else if kindIs "map" . -}}
{{- range $key, $value := . }}
{{- if and (has $key (list "base_url" "url" "token_url" "proxy")) (kindIs "string" $value) }}
{{- if regexMatch "^https?://" $value }}
{{ regexFind ":[0-9]+$" (get (urlParse $value) "host") | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https://" $value)) }}
{{- end }}
{{- else if eq $key "bootstrap_servers" }}
{{- range splitList "," (ternary $value (join "," $value) (kindIs "string" $value)) }}
{{ regexFind ":[0-9]+$" (trim .) | trimPrefix ":" }}
{{- end }}
{{- else }}
{{ include "lineage-collector.portsIn" $value }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}
