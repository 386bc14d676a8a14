{{/* Keys that files/values.schema.json does not know, and texts that do not fit its patterns, one a line. Helm checks the rest of it
itself (values.schema.json), before any template, but could neither name the nearest key nor say what to write. */}}

{{- define "lineage-collector.valueRefusals" -}}
{{- $whole := .Files.Get "files/values.schema.json" | fromJson -}}
{{- with include "lineage-collector.kindMisfits" . | trim -}}
{{ . }}
{{- else -}}
{{- include "lineage-collector.misfits" (dict "definitions" (get $whole "$defs") "schema" $whole "node" .Values "path" "") }}
{{- end -}}
{{- end -}}

{{/* Platforms and types of sinks that are mistyped: they would be taken for a plug-in's, and their keys for unknown ones. */}}
{{- define "lineage-collector.kindMisfits" -}}
{{- range $kind, $of := dict "sources" (list "platform" "cdf" "dataprep" "wetransform") "sinks" (list "type" "file" "kafka" "marquez" "openlineage") }}
{{- range $index, $target := index $.Values.config $kind }}
{{- $word := get $target (first $of) }}
{{- $near := include "lineage-collector.nearest" (dict "word" $word "words" (rest $of)) }}
{{- $hasKeysOfOurs := or $target.project $target.auth $target.tenant $target.workspace $target.url $target.path $target.bootstrap_servers }}
{{- if and $near (not (has $word (rest $of))) $hasKeysOfOurs }}
config.{{ $kind }}[{{ $index }}].{{ first $of }}: {{ $word | quote }} is not built in; did you mean {{ $near }}?
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Takes a dict of `definitions`, and of a `schema` and the `node` to look at, whose place in the values is `path`. */}}
{{- define "lineage-collector.misfits" -}}
{{- $ := . -}}
{{- $schema := .schema -}}
{{- with get $schema "$ref" }}{{- $schema = get $.definitions (trimPrefix "#/$defs/" .) -}}{{- end -}}
{{- $here := dict "definitions" .definitions "schema" $schema "node" .node "path" .path -}}
{{- range index $schema "allOf" }}
{{- if eq (include "lineage-collector.applies" (dict "if" (get . "if") "node" $.node)) "true" }}
{{ include "lineage-collector.misfits" (dict "definitions" $.definitions "schema" (get . "then") "node" $.node "path" $.path) }}
{{- end }}
{{- end }}
{{- $good := false }}
{{- $faults := "" }}
{{- range index $schema "anyOf" }}
{{- $branch := dict "definitions" $.definitions "schema" . "node" $.node "path" $.path }}
{{- if hasKey $schema "examples" }}{{- $_ := set $branch "schema" (merge (dict "examples" $schema.examples) .) }}{{- end }}
{{- $found := include "lineage-collector.misfits" $branch | trim }}
{{- if $found }}{{- $faults = $found }}{{- else if eq (include "lineage-collector.hasKind" $branch) "true" }}{{- $good = true }}{{- end }}
{{- end }}
{{- if not $good }}
{{ $faults }}
{{- end }}
{{- if kindIs "map" .node }}
{{ include "lineage-collector.keyMisfits" $here }}
{{- else if kindIs "slice" .node }}
{{- range $index, $item := .node }}
{{ include "lineage-collector.misfits" (dict "definitions" $.definitions "schema" (index $schema "items" | default dict) "node" $item "path" (printf "%s[%d]" $.path $index)) }}
{{- end }}
{{- else if and (kindIs "string" .node) (hasKey $schema "pattern") }}
{{- if not (regexMatch $schema.pattern .node) }}
{{ .path }}: {{ include "lineage-collector.shown" . }} cannot be used here: {{ include "lineage-collector.advice" $schema }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The same for the keys of a mapping. */}}
{{- define "lineage-collector.keyMisfits" -}}
{{- $ := . -}}
{{- $known := get .schema "properties" | default dict -}}
{{- $patterns := get .schema "patternProperties" | default dict -}}
{{- $others := get .schema "additionalProperties" -}}
{{- range $key := get .schema "required" | default list }}
{{- if not (hasKey $.node $key) }}
{{ trimPrefix "." (printf "%s.%s" $.path $key) }} is missing
{{- end }}
{{- end }}
{{- range $key, $value := .node }}
{{- $path := trimPrefix "." (printf "%s.%s" $.path $key) }}
{{- $schema := get $known $key }}
{{- range $pattern, $its := $patterns }}{{- if regexMatch $pattern $key }}{{- $schema = $its }}{{- end }}{{- end }}
{{- if and (not $schema) (kindIs "map" $others) }}{{- $schema = $others }}{{- end }}
{{- if $schema }}
{{ include "lineage-collector.misfits" (dict "definitions" $.definitions "schema" $schema "node" $value "path" $path) }}
{{- else if and $patterns (not (hasKey $known $key)) }}
{{ $.path }}: {{ $key }} cannot be a name here: {{ include "lineage-collector.advice" (get $.schema "propertyNames") }}
{{- else if and (not (hasKey $known $key)) (kindIs "bool" $others) (not $others) }}
{{- $near := include "lineage-collector.nearest" (dict "word" $key "words" (keys $known)) }}
{{ $path }} is not a known key{{ if $near }}; did you mean {{ $near }}?{{ else }}; here are {{ keys $known | sortAlpha | join ", " }}{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether an `if` about one key of a mapping is true: that it is a constant, or none of an enumeration. */}}
{{- define "lineage-collector.applies" -}}
{{- $node := .node -}}
{{- range $key, $wanted := index .if "properties" -}}
{{- $value := get $node $key -}}
{{- if hasKey $wanted "const" -}}{{- eq (toString $wanted.const) (toString $value) -}}{{- else -}}{{- not (has $value (dig "not" "enum" list $wanted)) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the schema is for what the node is: a mapping, a list, a text or another thing. */}}
{{- define "lineage-collector.hasKind" -}}
{{- $schema := .schema -}}
{{- with get $schema "$ref" }}{{- $schema = get $.definitions (trimPrefix "#/$defs/" .) -}}{{- end -}}
{{- $kinds := dict "map" "object" "slice" "array" "string" "string" -}}
{{- $kind := get $kinds (kindOf .node) -}}
{{- ternary (eq $kind (toString (get $schema "type"))) (not (has (get $schema "type") (values $kinds))) (ne $kind "") -}}
{{- end -}}

{{/* The value as text, where it can be no secret. */}}
{{- define "lineage-collector.shown" -}}
{{- $key := regexFind "[^.]+$" .path -}}
{{- $hidden := concat (list "url" "base_url" "token_url" "web_url" "proxy") (include "lineage-collector.secretKeys" . | splitList " ") -}}
{{- if or (has $key $hidden) (regexMatch "\\.headers\\." .path) -}}what is written there{{- else -}}{{ .node | trunc 60 | quote }}{{- end -}}
{{- end -}}

{{/* What to write, of a schema: its examples, else its description and its pattern. */}}
{{- define "lineage-collector.advice" -}}
{{- with get . "examples" -}}
write for example {{ . | join " or " }}
{{- else -}}
{{ with get . "description" }}{{ . }} {{ end }}It must match {{ get . "pattern" }}
{{- end -}}
{{- end -}}

{{/* The one of `words` that has most letters in common with `word`, in their order; empty where that is less than three of five. */}}
{{- define "lineage-collector.nearest" -}}
{{- $best := "" -}}
{{- $most := 599 -}}
{{- $word := lower .word -}}
{{- range $other := sortAlpha .words -}}
{{- $row := list -}}
{{- range until (add1 (len $other) | int) -}}{{- $row = append $row 0 -}}{{- end -}}
{{- range $letter := splitList "" $word -}}
{{- $next := list 0 -}}
{{- range $at, $its := splitList "" (lower $other) -}}
{{- $next = append $next (ternary (add1 (index $row $at)) (max (last $next) (index $row (add1 $at | int))) (eq $letter $its)) -}}
{{- end -}}
{{- $row = $next -}}
{{- end -}}
{{- $share := div (mul 2000 (last $row)) (add (len $word) (len $other)) -}}
{{- if gt $share $most -}}{{- $most = $share -}}{{- $best = $other -}}{{- end -}}
{{- end -}}
{{- $best -}}
{{- end -}}
