{{/* Environment that stores results, as a YAML list. */}}
{{- define "crew.resultsEnv" -}}
{{- with .Values.results -}}
{{- $env := list -}}
{{- range $name, $value := dict "ASYA_RESULTS_URL" .url "ASYA_S3_BUCKET" .s3.bucket "ASYA_S3_ENDPOINT" .s3.endpoint "ASYA_S3_REGION" .s3.region "ASYA_S3_RESULTS_PREFIX" .s3.resultsPrefix "ASYA_S3_ERRORS_PREFIX" .s3.errorsPrefix -}}
{{- with $value -}}{{- $env = append $env (dict "name" $name "value" .) -}}{{- end -}}
{{- end -}}
{{- with .s3.credentialsSecret -}}
{{- $env = append $env (dict "name" "ASYA_S3_ACCESS_KEY" "valueFrom" (dict "secretKeyRef" (dict "name" . "key" $.Values.results.s3.accessKeyIdKey))) -}}
{{- $env = append $env (dict "name" "ASYA_S3_SECRET_KEY" "valueFrom" (dict "secretKeyRef" (dict "name" . "key" $.Values.results.s3.secretAccessKeyKey))) -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}
{{- end -}}

{{/*
spec.workload of one end actor, as JSON: what values say, whole, with image and environment filled in. Arguments: role,
settings, root.
*/}}
{{- define "crew.workload" -}}
{{- $workload := deepCopy (default dict .settings.workload) -}}
{{- $template := default dict $workload.template -}}
{{- $pod := default dict $template.spec -}}
{{- $containers := default (list dict) $pod.containers -}}
{{- $position := 0 -}}
{{- range $index, $container := $containers -}}
{{- if eq (default "" $container.name) "asya-runtime" -}}{{- $position = $index -}}{{- end -}}
{{- end -}}
{{- $all := list -}}
{{- $role := .role -}}{{- $root := .root -}}
{{- $handler := ternary "handlers.end_handlers.happy_end_handler" "handlers.end_handlers.error_end_handler" (eq $role "happy-end") -}}
{{- $runtime := $workload.runtime -}}
{{- range $index, $container := $containers -}}
{{- if eq $index $position -}}
{{- if not $runtime -}}{{- $runtime = ternary "python" "native" (ne "" (default "" $container.image)) -}}{{- end -}}
{{- if not $container.name -}}{{- $_ := set $container "name" "asya-runtime" -}}{{- end -}}
{{- if not $container.image -}}{{- $_ := set $container "image" (include "asya.image" (dict "image" $root.Values.image "default" "asya-crew" "root" $root)) -}}{{- end -}}
{{- if not $container.imagePullPolicy -}}{{- $_ := set $container "imagePullPolicy" $root.Values.image.pullPolicy -}}{{- end -}}
{{- $base := list (dict "name" "ASYA_HANDLER" "value" $handler) (dict "name" "ASYA_HANDLER_MODE" "value" "envelope") (dict "name" "ASYA_ENABLE_VALIDATION" "value" "false") -}}
{{- $lists := list $base (include "crew.resultsEnv" $root | fromYamlArray) $root.Values.env (default list $container.env) -}}
{{- $_ := set $container "env" (include "asya.env" (dict "lists" $lists) | fromYamlArray) -}}
{{- if and (eq $runtime "native") (not $container.securityContext) -}}
{{- $_ := set $container "securityContext" (dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) "readOnlyRootFilesystem" true "runAsNonRoot" true "runAsUser" 1000 "seccompProfile" (dict "type" "RuntimeDefault")) -}}
{{- end -}}
{{- end -}}
{{- $all = append $all $container -}}
{{- end -}}
{{- $_ := set $pod "containers" $all -}}
{{- with include "asya.imagePullSecrets" $root | fromYaml -}}
{{- if and .imagePullSecrets (not $pod.imagePullSecrets) -}}{{- $_ := set $pod "imagePullSecrets" .imagePullSecrets -}}{{- end -}}
{{- end -}}
{{- $_ := set $template "spec" $pod -}}
{{- $_ := set $workload "template" $template -}}
{{- if eq $runtime "python" -}}{{- $_ := unset $workload "runtime" -}}{{- else -}}{{- $_ := set $workload "runtime" $runtime -}}{{- end -}}
{{- if and (not (kindIs "invalid" .settings.replicas)) (not (hasKey $workload "replicas")) -}}{{- $_ := set $workload "replicas" .settings.replicas -}}{{- end -}}
{{- toJson $workload -}}
{{- end -}}
