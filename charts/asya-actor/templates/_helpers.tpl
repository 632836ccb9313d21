{{/* All actors as a JSON list, defaults filled in; fails with what is missing. */}}
{{- define "actor.all" -}}
{{- $values := .Values -}}
{{- $actors := list -}}
{{- if $values.actors -}}
{{- if $values.name -}}{{- fail "set either `name` (one actor) or `actors` (several), not both" -}}{{- end -}}
{{- $actors = $values.actors -}}
{{- else -}}
{{- $single := dict -}}
{{- range $key := list "name" "namespace" "transport" "labels" "annotations" "image" "handler" "env" "resources" "serviceAccount" "scaling" "timeout" "sidecar" "workload" "retry" "limits" "queue" "runtime" "healthChecks" -}}
{{- if hasKey $values $key -}}{{- $_ := set $single $key (get $values $key) -}}{{- end -}}
{{- end -}}
{{- $_ := set $single "name" (default $.Release.Name $values.name) -}}
{{- $actors = list $single -}}
{{- end -}}
{{- $result := list -}}
{{- range $actor := $actors -}}
{{- $filled := deepCopy $actor -}}
{{- $_ := set $filled "namespace" (default $values.namespace $actor.namespace) -}}
{{- $_ := set $filled "transport" ($actor.transport | default $values.transport | default $values.default.transport) -}}
{{- if not $filled.transport -}}{{- fail (printf "actor %s has no transport: name one of the operator's transports in `transport` or `default.transport`" $actor.name) -}}{{- end -}}
{{- range $key := list "scaling" "timeout" "sidecar" "retry" "limits" "queue" "runtime" -}}
{{- if not (get $filled $key) -}}{{- $_ := set $filled $key (default dict (get $values.default $key)) -}}{{- end -}}
{{- end -}}
{{- $_ := set $filled "healthChecks" (mergeOverwrite (deepCopy $values.default.healthChecks) (default dict $actor.healthChecks)) -}}
{{- $_ := set $filled "workload" (include "actor.workload" (dict "actor" $actor "root" $) | fromJson) -}}
{{- $result = append $result $filled -}}
{{- end -}}
{{- toJson $result -}}
{{- end -}}

{{/* Environment written as a list, or as a map of names and values. */}}
{{- define "actor.env" -}}
{{- $env := list -}}
{{- if kindIs "map" . -}}
{{- range $name, $value := . -}}{{- $env = append $env (dict "name" $name "value" (toString $value)) -}}{{- end -}}
{{- else -}}
{{- $env = default list . -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* spec.workload of one actor, as JSON, with its short forms written into the container asya-runtime. */}}
{{- define "actor.workload" -}}
{{- $actor := .actor -}}
{{- $workload := deepCopy (default .root.Values.default.workload $actor.workload) -}}
{{- $template := default dict $workload.template -}}
{{- $pod := default dict $template.spec -}}
{{- $containers := default (list (dict "name" "asya-runtime")) $pod.containers -}}
{{- $all := list -}}
{{- range $container := $containers -}}
{{- if eq (default "" $container.name) "asya-runtime" -}}
{{- with $actor.image -}}{{- $_ := set $container "image" . -}}{{- end -}}
{{- with $actor.resources -}}{{- $_ := set $container "resources" . -}}{{- end -}}
{{- $handler := list -}}
{{- with $actor.handler -}}{{- $handler = list (dict "name" "ASYA_HANDLER" "value" .) -}}{{- end -}}
{{- if or $handler $actor.env -}}
{{- $_ := set $container "env" (include "asya.env" (dict "lists" (list (default list $container.env) $handler (include "actor.env" $actor.env | fromYamlArray))) | fromYamlArray) -}}
{{- end -}}
{{- end -}}
{{- $all = append $all $container -}}
{{- end -}}
{{- $_ := set $pod "containers" $all -}}
{{- with $actor.serviceAccount -}}{{- $_ := set $pod "serviceAccountName" . -}}{{- end -}}
{{- if and .root.Values.imagePullSecrets (not $pod.imagePullSecrets) -}}
{{- $_ := set $pod "imagePullSecrets" (include "asya.imagePullSecrets" .root | fromYaml).imagePullSecrets -}}
{{- end -}}
{{- $_ := set $template "spec" $pod -}}
{{- $_ := set $workload "template" $template -}}
{{- toJson $workload -}}
{{- end -}}
