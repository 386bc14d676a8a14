{{/* The program's configuration: that of the values, with what the chart sets itself. */}}

{{- define "lineage-collector.ledgerPath" -}}/var/lib/lineage-collector/lineage.db{{- end -}}

{{/* "true" with a ledger in PostgreSQL, else empty. */}}
{{- define "lineage-collector.onPostgres" -}}
{{- if (.Values.config.ledger | default dict).url }}true{{ end -}}
{{- end -}}

{{/* "true" or "false": whether the ledger is on a volume. By default a file is, and PostgreSQL is not. */}}
{{- define "lineage-collector.hasVolume" -}}
{{- ternary (not (include "lineage-collector.onPostgres" .)) .Values.persistence.enabled (kindIs "invalid" .Values.persistence.enabled) -}}
{{- end -}}

{{/* The settings of the ledger. libpq has one place for authorities, and reads it only if it is to verify. */}}
{{- define "lineage-collector.ledger" -}}
{{- $ledger := .Values.config.ledger | default dict -}}
{{- if include "lineage-collector.onPostgres" . -}}
{{- $ca := include "lineage-collector.caFile" . -}}
{{- if and $ca (regexMatch "[?&]sslmode=verify-(ca|full)(&|$)" $ledger.url) (not (regexMatch "[?&]sslrootcert=" $ledger.url)) -}}
{{- $ledger = merge (dict "url" (printf "%s&sslrootcert=%s" $ledger.url $ca)) $ledger -}}
{{- end -}}
{{- else -}}
{{- $ledger = merge (dict "path" (include "lineage-collector.ledgerPath" .)) $ledger -}}
{{- end -}}
{{- toYaml $ledger -}}
{{- end -}}

{{/* Not on the volume: some kinds of volumes do not support sockets. */}}
{{- define "lineage-collector.controlSocket" -}}/tmp/lineage-collector.sock{{- end -}}

{{- define "lineage-collector.listen" -}}{{ .Values.web.address }}:{{ .Values.web.port }}{{- end -}}

{{- define "lineage-collector.scheme" -}}
{{- ternary "https" "http" (ne (include "lineage-collector.tlsSecret" .) "") -}}
{{- end -}}

{{- define "lineage-collector.tlsSecret" -}}
{{- if .Values.web.tlsSecret -}}
{{- .Values.web.tlsSecret -}}
{{- else if .Values.web.certificate.enabled -}}
{{- include "lineage-collector.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* The web configuration file: the one of `web.configSecret`, or the chart's beside the configuration if there is TLS. */}}
{{- define "lineage-collector.webConfigFile" -}}
{{- if .Values.web.configSecret -}}
/run/secrets/web/web.yaml
{{- else if include "lineage-collector.tlsSecret" . -}}
/etc/lineage-collector/web.yaml
{{- end -}}
{{- end -}}

{{- define "lineage-collector.webConfig" -}}
tls_server_config:
  cert_file: /run/secrets/web-tls/tls.crt
  key_file: /run/secrets/web-tls/tls.key
{{- end -}}

{{/* The files of the ConfigMap. */}}
{{- define "lineage-collector.files" -}}
config.yaml: |
  {{- include "lineage-collector.config" . | nindent 2 }}
{{- if and (include "lineage-collector.tlsSecret" .) (not .Values.web.configSecret) }}
web.yaml: |
  {{- include "lineage-collector.webConfig" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.caFile" -}}
{{- if or .Values.caBundle.existingConfigMap .Values.caBundle.existingSecret -}}
/etc/lineage-collector-ca/{{ .Values.caBundle.key }}
{{- end -}}
{{- end -}}

{{- define "lineage-collector.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "sinks" ($config.sinks | default list) -}}
{{- $_ := set $config "ledger" (include "lineage-collector.ledger" . | fromYaml) -}}
{{- $http := dict "listen" (include "lineage-collector.listen" .) -}}
{{- with include "lineage-collector.webConfigFile" . -}}
{{- $_ := set $http "web_config_file" . -}}
{{- end -}}
{{- $_ := set $config "http" (merge $http ($config.http | default dict)) -}}
{{- $_ := set $config "control_socket" (include "lineage-collector.controlSocket" .) -}}
{{- $ca := include "lineage-collector.caFile" . -}}
{{- $proxy := .Values.proxy.url -}}
{{- range $source := $config.sources -}}
{{- include "lineage-collector.reach" (dict "target" $source "ca" $ca "proxy" $proxy) -}}
{{- end -}}
{{- range $sink := $config.sinks -}}
{{- if has $sink.type (list "marquez" "openlineage") -}}
{{- include "lineage-collector.reach" (dict "target" $sink "ca" $ca "proxy" (ternary $proxy "" (has $sink.name $.Values.proxy.sinks))) -}}
{{- else if and (eq $sink.type "kafka") $ca $sink.tls -}}
{{- $_ := set $sink "tls" (merge (ternary dict $sink.tls (kindIs "bool" $sink.tls)) (dict "ca_file" $ca)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Adds network settings to `target`, unless it has them (null counts as set). */}}
{{- define "lineage-collector.reach" -}}
{{- $network := .target.network | default dict -}}
{{- range $key, $value := dict "ca_file" .ca "proxy" .proxy -}}
{{- if and $value (not (hasKey $network $key)) -}}{{- $_ := set $network $key $value -}}{{- end -}}
{{- end -}}
{{- if $network -}}{{- $_ := set .target "network" $network -}}{{- end -}}
{{- end -}}

{{/* Seconds, rounded up, of a duration such as 1m30s. */}}
{{- define "lineage-collector.config.seconds" -}}
{{- $milliseconds := 0 -}}
{{- range $part := regexFindAll "[0-9]+(ms|d|h|m|s)" (toString .) -1 -}}
{{- $unit := regexFind "[a-z]+$" $part -}}
{{- $size := get (dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1) $unit -}}
{{- $milliseconds = add $milliseconds (mul (trimSuffix $unit $part | int64) $size) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end -}}

{{/* Longer than the program takes to stop. */}}
{{- define "lineage-collector.gracePeriod" -}}
{{- add 10 (include "lineage-collector.config.seconds" (.Values.config.stop_within | default "25s") | int64) -}}
{{- end -}}

{{/* Bytes of 1GiB, 1Gi, 500M, 10kB or a number. */}}
{{- define "lineage-collector.bytes" -}}
{{- $text := kindIs "string" . | ternary . (toString (int64 (ternary 0 . (kindIs "string" .)))) -}}
{{- $unit := regexFind "[A-Za-z]*$" $text | trimSuffix "B" -}}
{{- $sizes := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $sizes $unit | default 0 | int64) -}}
{{- end -}}

{{/* A quantity of Kubernetes, such as 384Mi, 0.5Gi, 50m, 1e9 or a number, as a plain number. */}}
{{- define "lineage-collector.amount" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+([eE][+]?[0-9]+)?" $text -}}
{{- $sizes := dict "" 1.0 "m" 0.001 "k" 1000.0 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (float64 $number) (get $sizes (trimPrefix $number $text)) -}}
{{- end -}}
