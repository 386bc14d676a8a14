{{/* Values that cannot work are refused here, all of them at once, with what to do. A schema could only report that a value
does not fit, and would show a secret that was written into the values. */}}

{{- define "lineage-collector.refusals" -}}
{{- $misfits := include "lineage-collector.lines" (dict "root" . "parts" (list "valueRefusals")) -}}
{{- /* What follows from values that mean nothing is not worth a line. */ -}}
{{- $found := $misfits | default (include "lineage-collector.lines" (dict "root" . "parts" (list "configRefusals" "secretRefusals" "referenceRefusals" "ledgerRefusals" "volumeRefusals" "backupRefusals" "clashRefusals" "amountRefusals" "otherRefusals"))) -}}
{{- if $found -}}
{{- fail (printf "\n\nThese values cannot work:\n%s\n" $found) -}}
{{- end -}}
{{- if $misfits -}}
{{- /* `helm lint` passes over what fails, as a chart's defaults may; this is no YAML. */ -}}
{ These values cannot work: see above
{{- end -}}
{{- end -}}

{{/* What these templates find, one a line, each once. */}}
{{- define "lineage-collector.lines" -}}
{{- $ := . -}}
{{- $found := list -}}
{{- range $part := .parts -}}
{{- range $line := include (printf "lineage-collector.%s" $part) $.root | splitList "\n" -}}
{{- with trim $line -}}{{- $found = append $found (printf "  - %s" .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- uniq $found | join "\n" -}}
{{- end -}}

{{- define "lineage-collector.configRefusals" -}}
{{- $config := .Values.config -}}
{{- if not $config.sources }}
config.sources is empty: name at least one account whose runs are to be watched, as in {{ .Chart.Home }}/blob/main/docs/quickstart.md
{{- end }}
{{- range $kind := list "sources" "sinks" }}
{{- $names := list }}
{{- range get $config $kind | default list }}
{{- if and .name (has .name $names) }}
config.{{ $kind }}: two have the name {{ .name }}: give each its own name
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- if omit ($config.http | default dict) "listen" }}
config.http is set by the chart: use web.tlsSecret and web.configSecret
{{- end }}
{{- $listen := include "lineage-collector.listen" . }}
{{- if ne (dig "http" "listen" $listen $config) $listen }}
config.http.listen is set by the chart, to {{ $listen }}: use web.address and web.port
{{- end }}
{{- $socket := include "lineage-collector.controlSocket" . }}
{{- if ne ($config.control_socket | default $socket) $socket }}
config.control_socket is set by the chart, to {{ $socket }}: leave it out
{{- end }}
{{- range .Values.extraEnv }}
{{- if regexMatch "^LINEAGE_COLLECTOR__(LEDGER__PATH|LEDGER__URL|HTTP__.*|CONTROL_SOCKET|STOP_WITHIN)$" (upper .name) }}
extraEnv: {{ .name }} would override a setting that the chart relies on: use config or web
{{- end }}
{{- end }}
{{- $writable := include "lineage-collector.writable" . | fromYamlArray }}
{{- $shared := include "lineage-collector.onPostgres" . }}
{{- range $sink := $config.sinks }}
{{- if and (eq $sink.type "file") (ternary (ne (toString $sink.path) "-") (hasPrefix "/" (toString $sink.path)) (eq $shared "true")) }}
{{- $good := false }}
{{- range $writable }}
{{- if hasPrefix (printf "%s/" .) (clean $sink.path) }}{{- $good = true }}{{- end }}
{{- end }}
{{- if not $good }}
config.sinks: {{ $sink.path }} of {{ $sink.name }} is in a folder that {{ if $shared }}would be lost with the pod: use - for the log, or a volume of extraVolumeMounts that all replicas share{{ else }}cannot be written: use a relative path, which lies beside the ledger, or - for the log, or a volume of extraVolumeMounts{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.writable" -}}
{{- $found := ternary list (list "/var/lib/lineage-collector" "/tmp") (eq (include "lineage-collector.onPostgres" .) "true") -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not .readOnly -}}{{- $found = append $found (clean .mountPath) -}}{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* The keys are those of the program's configuration that have a twin with _file. */}}
{{- define "lineage-collector.secretKeys" -}}api_key client_secret hint_secret password token webhook_secret{{- end -}}

{{- define "lineage-collector.secretRefusals" -}}
{{- include "lineage-collector.literals" (dict "node" (dict "sources" .Values.config.sources "sinks" .Values.config.sinks "hints" .Values.config.hints) "path" "config") }}
{{- include "lineage-collector.literals" (dict "node" (dict "password" (.Values.config.ledger | default dict).password) "path" "config.ledger") }}
{{- include "lineage-collector.literals" (dict "node" (dict "url" .Values.proxy.url) "path" "proxy") }}
{{- range $name, $from := .Values.secrets.env }}
{{- if has $name (include "lineage-collector.envNames" $ | fromYamlArray) }}
secrets.env.{{ $name }} is in extraEnv too
{{- end }}
{{- end }}
{{- $folders := list "web" "web-tls" "kubernetes.io" }}
{{- range .Values.secrets.files }}
{{- $folder := .name | default .existingSecret }}
{{- if has $folder $folders }}
secrets.files: the folder {{ $folder }} is in use already: give {{ .existingSecret }} another name
{{- end }}
{{- $folders = append $folders $folder }}
{{- range .items }}
{{- if regexMatch "^/|(^|/)\\.\\.(/|$)" .path }}
secrets.files: {{ .path }} of {{ .key }} leaves the folder {{ $folder }}: write a path within it, such as {{ .key }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Walks `node`; never shows a value. */}}
{{- define "lineage-collector.literals" -}}
{{- $path := .path -}}
{{- $keys := splitList " " (include "lineage-collector.secretKeys" .) -}}
{{- if kindIs "map" .node -}}
{{- range $key, $value := .node }}
{{- if and (has $key $keys) (kindIs "string" $value) }}
{{- if not (regexMatch "^\\$\\{env:[A-Za-z_][A-Za-z0-9_]*\\}$" $value) }}
{{ $path }}.{{ $key }} contains the secret itself, which everybody could read in a ConfigMap: put it into a Secret, and write ${env:NAME} with secrets.env, or use {{ $key }}_file with secrets.files
{{- end }}
{{- else if and (has $key (list "url" "base_url" "token_url" "proxy")) (kindIs "string" $value) }}
{{- if and (not (hasPrefix "${" $value)) (regexMatch "[@?#]" $value) }}
{{ $path }}.{{ $key }} contains a credential or a query, which everybody could read in a ConfigMap: remove it{{ if or (eq $key "proxy") (eq $path "proxy") }}, or put the whole URL into a Secret and write ${env:NAME}{{ end }}
{{- end }}
{{- else }}
{{- include "lineage-collector.literals" (dict "node" $value "path" (printf "%s.%s" $path $key)) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .node -}}
{{- range $index, $value := .node }}
{{- include "lineage-collector.literals" (dict "node" $value "path" (printf "%s[%d]" $path $index)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Each reference to a secret has a target. */}}
{{- define "lineage-collector.referenceRefusals" -}}
{{- $config := toJson (dict "config" .Values.config "proxy" .Values.proxy.url) -}}
{{- $variables := concat (keys (.Values.secrets.env | default dict)) (include "lineage-collector.envNames" . | fromYamlArray) -}}
{{- range $reference := regexFindAll "\\$\\{env:[A-Za-z_][A-Za-z0-9_]*\\}" $config -1 | uniq }}
{{- $name := $reference | trimPrefix "${env:" | trimSuffix "}" }}
{{- if not (or (has $name $variables) $.Values.extraEnvFrom) }}
config refers to {{ $reference }}, but that variable is not set: add secrets.env.{{ $name }} with existingSecret and key
{{- end }}
{{- end }}
{{- range $file := concat (regexFindAll "ssl(rootcert|cert|key)=/run/secrets/[^\"&\\\\]+" $config -1) (regexFindAll "\"[a-z_]+_file\":\"/run/secrets/[^\"]+\"" $config -1) | uniq }}
{{- $path := regexFind "/run/secrets/[^\"]+" $file }}
{{- if not (eq (include "lineage-collector.isMounted" (dict "root" $ "path" $path)) "true") }}
config refers to {{ $path }}, but no secret is mounted there: add to secrets.files its existingSecret with the name {{ index (splitList "/" $path) 3 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.envNames" -}}
{{- $names := list -}}
{{- range .Values.extraEnv -}}{{- $names = append $names .name -}}{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{- define "lineage-collector.isMounted" -}}
{{- $path := .path -}}
{{- $found := false -}}
{{- range .root.Values.extraVolumeMounts -}}
{{- if or (eq $path .mountPath) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $path) -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- range .root.Values.secrets.files -}}
{{- $folder := printf "/run/secrets/%s/" (.name | default .existingSecret) -}}
{{- if hasPrefix $folder $path -}}
{{- if .items -}}
{{- range .items -}}
{{- if eq (trimPrefix $folder $path) .path -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- else -}}
{{- $found = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{- define "lineage-collector.ledgerRefusals" -}}
{{- $ledger := .Values.config.ledger | default dict -}}
{{- $path := include "lineage-collector.ledgerPath" . -}}
{{- if include "lineage-collector.onPostgres" . }}
{{- if $ledger.path }}
config.ledger has both path and url: leave path out, the ledger is in PostgreSQL
{{- end }}
{{- if regexMatch "^[^/]*//[^/@]*:[^/@]*@|[?&]password=" $ledger.url }}
config.ledger.url contains a password, which everybody could read in a ConfigMap: remove it, and use config.ledger.password_file with secrets.files, or config.ledger.password: ${env:NAME} with secrets.env
{{- else if not (regexMatch "^postgres(ql)?://[^/?]+/[^?]+" $ledger.url) }}
config.ledger.url is not the address of a database in PostgreSQL: write postgresql://user@host:5432/database
{{- end }}
{{- if or .Values.persistence.enabled .Values.persistence.existingClaim }}
persistence: with the ledger in PostgreSQL (config.ledger.url) no pod has a volume: leave persistence.enabled and persistence.existingClaim out
{{- end }}
{{- if eq .Values.updateStrategy.type "OnDelete" }}
updateStrategy.type: OnDelete is for the StatefulSet of a ledger on a volume; with the ledger in PostgreSQL use RollingUpdate or Recreate
{{- end }}
{{- else }}
{{- if and $ledger.path (ne $ledger.path $path) }}
config.ledger.path is set by the chart, to {{ $path }} on the volume: leave it out
{{- end }}
{{- range $key := list "password" "password_file" "schema" "notify" }}
{{- if get $ledger $key }}
config.ledger.{{ $key }} is for a ledger in PostgreSQL: set config.ledger.url too, or leave it out
{{- end }}
{{- end }}
{{- if gt (int .Values.replicas) 1 }}
replicas: {{ .Values.replicas }} pods cannot share a ledger on a volume, which has one writer: put the ledger into PostgreSQL (config.ledger.url), or leave replicas at 1
{{- end }}
{{- if eq .Values.updateStrategy.type "Recreate" }}
updateStrategy.type: Recreate is for a ledger in PostgreSQL (config.ledger.url); the StatefulSet has RollingUpdate or OnDelete
{{- end }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.volumeRefusals" -}}
{{- if not (include "lineage-collector.onPostgres" .) -}}
{{- $onVolume := eq (include "lineage-collector.hasVolume" .) "true" -}}
{{- $limit := include "lineage-collector.bytes" (dig "ledger" "max_size" "1GiB" .Values.config) | int64 -}}
{{- $size := ternary .Values.persistence.size .Values.persistence.emptyDirSize $onVolume -}}
{{- if and (not (and $onVolume .Values.persistence.existingClaim)) (lt (mul 4 (include "lineage-collector.bytes" $size | int64)) (mul 5 $limit)) }}
the ledger may grow to {{ dig "ledger" "max_size" "1GiB" .Values.config }} (config.ledger.max_size), and its volume has {{ $size }} (persistence.{{ ternary "size" "emptyDirSize" $onVolume }}): a full volume stops everything, so it needs at least a quarter more; to enlarge a volume in use, see {{ .Chart.Home }}/blob/main/docs/operations.md
{{- end }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.backupRefusals" -}}
{{- if and .Values.backup.enabled (include "lineage-collector.onPostgres" .) }}
backup: the ledger is in PostgreSQL, which has its own means, such as pg_dump: leave backup.enabled out
{{- else if .Values.backup.enabled }}
{{- if not .Values.backup.existingClaim }}
backup.existingClaim is empty: create a claim for the backup and name it
{{- else if eq .Values.backup.existingClaim .Values.persistence.existingClaim }}
backup.existingClaim is the ledger's own: a backup on the same volume is lost with it
{{- end }}
{{- include "lineage-collector.scheduleRefusals" . }}
{{- if ne (include "lineage-collector.hasVolume" .) "true" }}
backup: without a volume (persistence.enabled) no other pod can read the ledger
{{- else if has "ReadWriteOncePod" .Values.persistence.accessModes }}
backup: ReadWriteOncePod lets no second pod mount the ledger's volume, not even on its node; use ReadWriteOnce
{{- end }}
{{- end }}
{{- end -}}

{{/* The five fields of a cron expression, as Kubernetes takes them: 7 is not a day of the week there. */}}
{{- define "lineage-collector.scheduleRefusals" -}}
{{- $fields := list (list "minute" 0 59 "") (list "hour" 0 23 "") (list "day of the month" 1 31 "") (list "month" 1 12 "jan feb mar apr may jun jul aug sep oct nov dec") (list "day of the week" 0 6 "sun mon tue wed thu fri sat") -}}
{{- $schedule := .Values.backup.schedule -}}
{{- if not (hasPrefix "@" $schedule) }}
{{- range $at, $field := splitList " " $schedule }}
{{- $name := index $fields $at 0 }}{{- $lowest := index $fields $at 1 }}{{- $highest := index $fields $at 2 }}{{- $words := index $fields $at 3 }}
{{- $number := ternary "[0-9]{1,2}" (printf "(?:[0-9]{1,2}|%s)" (replace " " "|" $words)) (eq $words "") }}
{{- $good := regexMatch (printf "^(?i:(\\*|\\?|%s(-%s)?)(/[1-9][0-9]?)?)(,(?i:(\\*|\\?|%s(-%s)?)(/[1-9][0-9]?)?))*$" $number $number $number $number) $field }}
{{- range regexFindAll "[0-9]+" (regexReplaceAll "/[0-9]+" $field "") -1 }}
{{- if or (lt (int .) $lowest) (gt (int .) $highest) }}{{- $good = false }}{{- end }}
{{- end }}
{{- range regexFindAll "[0-9]+-[0-9]+" $field -1 }}
{{- if gt (splitList "-" . | first | int) (splitList "-" . | last | int) }}{{- $good = false }}{{- end }}
{{- end }}
{{- if not $good }}
backup.schedule: {{ $field }} in "{{ $schedule }}" cannot be the {{ $name }}, which goes from {{ $lowest }} to {{ $highest }}: write for example "17 3 * * *", minute and hour first
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Amounts of memory and time with which no pod would ever run. */}}
{{- define "lineage-collector.amountRefusals" -}}
{{- $resources := .Values.resources | default dict -}}
{{- $limits := $resources.limits | default dict -}}
{{- with $limits.memory }}
{{- if lt (include "lineage-collector.amount" . | float64) 134217728.0 }}
resources.limits.memory: with {{ . }} the program would be ended before it is ready: give it 384Mi, and 128Mi at the least
{{- end }}
{{- end }}
{{- with $limits.cpu }}
{{- if lt (include "lineage-collector.amount" . | float64) 0.05 }}
resources.limits.cpu: with {{ . }} the program would not be ready within minutes: give it 500m or no limit, and 50m at the least
{{- end }}
{{- end }}
{{- range $name, $request := $resources.requests }}
{{- $limit := get $limits $name }}
{{- if and (ne (toString $limit) "") (gt (include "lineage-collector.amount" $request | float64) (include "lineage-collector.amount" $limit | float64)) }}
resources.requests.{{ $name }}: {{ $request }} is more than the limit, {{ $limit }}, which Kubernetes refuses: raise resources.limits.{{ $name }}
{{- end }}
{{- end }}
{{- if and (include "lineage-collector.onPostgres" .) (ge (int .Values.minReadySeconds) 600) }}
minReadySeconds: {{ .Values.minReadySeconds }} is longer than the 600 seconds that a roll-out may take: write 599 or less
{{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" }}
{{- if gt (dig "successThreshold" 1 (get $.Values $probe | default dict) | int) 1 }}
{{ $probe }}.successThreshold: Kubernetes takes nothing but 1 here: leave it out
{{- end }}
{{- end }}
{{- end -}}

{{/* What Kubernetes, or the Prometheus operator, would refuse only later or without a message. */}}
{{- define "lineage-collector.clashRefusals" -}}
{{- $variables := list "LINEAGE_COLLECTOR_CONFIG" -}}
{{- $secret := printf "__(%s)$" (include "lineage-collector.secretKeys" . | upper | replace " " "|") -}}
{{- range .Values.extraEnv }}
{{- if has .name $variables }}
extraEnv: {{ .name }} is set already: remove one of the two
{{- end }}
{{- $variables = append $variables .name }}
{{- if and .value (regexMatch (printf "^LINEAGE_COLLECTOR__.*%s" $secret) (upper .name)) (not (hasPrefix "${env:" .value)) }}
extraEnv: {{ .name }} contains the secret itself, which everybody could read in the {{ ternary "Deployment" "StatefulSet" (eq (include "lineage-collector.onPostgres" $) "true") }}: put it into a Secret, and use valueFrom.secretKeyRef
{{- end }}
{{- end }}
{{- $volumes := list "config" "data" "tmp" "web" "web-tls" "ca" "backups" }}
{{- range .Values.extraVolumes }}
{{- if has .name $volumes }}
extraVolumes: the name {{ .name }} is in use already: choose another
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- $paths := list "/tmp" "/etc/lineage-collector" "/etc/lineage-collector-ca" "/var/lib/lineage-collector" "/var/backups" "/run/secrets/web" "/run/secrets/web-tls" }}
{{- range .Values.secrets.files }}
{{- $paths = append $paths (printf "/run/secrets/%s" (.name | default .existingSecret)) }}
{{- $volumes = append $volumes (include "lineage-collector.secretVolume" .) }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (hasPrefix "/" .mountPath) }}
extraVolumeMounts: {{ .mountPath }} is not an absolute path
{{- else if has (clean .mountPath) $paths }}
extraVolumeMounts: {{ .mountPath }} is in use already: choose another
{{- end }}
{{- $paths = append $paths (clean .mountPath) }}
{{- if not (has .name $volumes) }}
extraVolumeMounts: no volume is named {{ .name }}; add it to extraVolumes
{{- end }}
{{- end }}
{{- $containers := list "lineage-collector" "check-config" }}
{{- range concat (.Values.initContainers | default list) (.Values.extraContainers | default list) }}
{{- if has .name $containers }}
initContainers or extraContainers: the name {{ .name }} is in use already: choose another
{{- end }}
{{- $containers = append $containers .name }}
{{- end }}
{{- range $kind := list "serviceMonitor" "podMonitor" }}
{{- with get $.Values $kind }}
{{- if and .enabled .interval .scrapeTimeout (gt (include "lineage-collector.config.seconds" .scrapeTimeout | int64) (include "lineage-collector.config.seconds" .interval | int64)) }}
{{ $kind }}.scrapeTimeout, {{ .scrapeTimeout }}, is longer than its interval, {{ .interval }}: the operator would scrape nothing
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lineage-collector.otherRefusals" -}}
{{- $name := include "lineage-collector.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{ $name }} cannot be the name of a Service, which is of small letters, digits and hyphens and begins with a letter: set fullnameOverride
{{- end }}
{{- if and .Values.caBundle.existingConfigMap .Values.caBundle.existingSecret }}
caBundle: give either existingConfigMap or existingSecret
{{- end }}
{{- if and .Values.web.certificate.enabled (not (.Values.web.certificate.issuerRef).name) }}
web.certificate.issuerRef.name is missing: name the issuer of the certificate
{{- end }}
{{- with .Values.web.certificate.duration }}
{{- if lt (include "lineage-collector.config.seconds" . | int64) 3600 }}
web.certificate.duration: {{ . }} is shorter than the hour that cert-manager requires: write for example 2160h
{{- end }}
{{- end }}
{{- $http := list }}
{{- range .Values.config.sinks }}
{{- if has .type (list "marquez" "openlineage") }}{{- $http = append $http .name }}{{- end }}
{{- end }}
{{- range $name := .Values.proxy.sinks }}
{{- if not (has $name $http) }}
proxy.sinks: {{ $name }} is not a sink that is reached over HTTP
{{- end }}
{{- end }}
{{- if and .Values.proxy.sinks (not .Values.proxy.url) }}
proxy.sinks names sinks that use a proxy, but proxy.url is empty: set it
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
serviceMonitor and podMonitor are both enabled: everything would be scraped and counted twice: disable one
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.hosts is empty: name at least one host
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.parentRefs is empty: name at least one gateway
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $several := gt (int $.Values.replicas) 1 }}
{{- $good := ternary "^[1-9][0-9]*%?$" "^([1-9][0-9]*|100%)$" $several }}
{{- if and (or .enabled (and $several (kindIs "invalid" .enabled))) (or (hasKey . "minAvailable") (not (regexMatch $good (toString .maxUnavailable)))) }}
podDisruptionBudget: {{ ternary "such a budget may" "there is one pod, so this budget would" $several }} block every drain of {{ ternary "a" "its" $several }} node; leave minAvailable out and maxUnavailable at 1
{{- end }}
{{- end }}
{{- end -}}
