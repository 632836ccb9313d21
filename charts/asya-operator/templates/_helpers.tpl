{{/* Name of the operator's service account. */}}
{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "asya.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
Puts a tree under another one, as JSON: what the upper tree says holds, unless it only says what was shipped and the
lower tree says something else. Arguments: upper, lower, shipped.
*/}}
{{- define "operator.underlay" -}}
{{- $upper := .upper -}}{{- $shipped := default dict .shipped -}}
{{- $result := deepCopy $upper -}}
{{- range $key, $lower := .lower -}}
{{- $own := get $upper $key -}}{{- $default := get $shipped $key -}}
{{- if and (kindIs "map" $lower) (kindIs "map" $own) -}}
{{- $sub := dict "upper" $own "lower" $lower "shipped" (ternary $default dict (kindIs "map" $default)) -}}
{{- $_ := set $result $key (include "operator.underlay" $sub | fromJson) -}}
{{- else if or (not (hasKey $upper $key)) (eq (toJson $own) (toJson $default)) -}}
{{- $_ := set $result $key $lower -}}
{{- end -}}
{{- end -}}
{{- toJson $result -}}
{{- end -}}

{{/* The transports as JSON: `transports`, with `operator.transports` of older values under them. */}}
{{- define "operator.transports" -}}
{{- $old := default dict .Values.operator -}}
{{- $shipped := (.Files.Get "files/transports.yaml" | fromYaml).transports -}}
{{- include "operator.underlay" (dict "upper" (default dict .Values.transports) "lower" (default dict $old.transports) "shipped" $shipped) -}}
{{- end -}}

{{/* URL of the gateway: `gatewayURL`, then `gateway` and `operator.gatewayURL` of older values. */}}
{{- define "operator.gatewayURL" -}}
{{- $gateway := default dict .Values.gateway -}}
{{- $old := default dict .Values.operator -}}
{{- if .Values.gatewayURL -}}{{- .Values.gatewayURL -}}
{{- else if and $gateway.url (ne (toString (default true $gateway.enabled)) "false") (ne (toString $gateway.enabled) "false") -}}{{- $gateway.url -}}
{{- else -}}{{- default "" $old.gatewayURL -}}
{{- end -}}
{{- end -}}

{{/* Names of the Secrets that enabled transports refer to, as a JSON list. */}}
{{- define "operator.secretNames" -}}
{{- $names := list -}}
{{- range $name, $transport := include "operator.transports" . | fromJson -}}
{{- if and (kindIs "map" $transport) $transport.enabled -}}
{{- $config := default dict $transport.config -}}
{{- $credentials := default dict $config.credentials -}}
{{- range list $config.passwordSecretRef $credentials.accessKeyIdSecretRef $credentials.secretAccessKeySecretRef -}}
{{- if and (kindIs "map" .) .name -}}{{- $names = append $names .name -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (concat $names .Values.rbac.secretNames | uniq | sortAlpha) -}}
{{- end -}}

{{/* Path of the runtime script; empty for the one that the operator carries. */}}
{{- define "operator.runtimePath" -}}
{{- $local := default dict .Values.runtime.local -}}
{{- default "" (default $local.path .Values.runtime.localPath) -}}
{{- end -}}

{{/* Whether some enabled transport may ask for service accounts of actors: SQS, whose actors may name a role. */}}
{{- define "operator.makesAccounts" -}}
{{- range $name, $transport := include "operator.transports" . | fromJson -}}
{{- if and (kindIs "map" $transport) $transport.enabled (eq (default $name $transport.type) "sqs") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the operator does to objects of tenants: in a ClusterRole, or in a Role of each watched namespace. */}}
{{- define "operator.rules" -}}
- apiGroups: [asya.sh]
  resources: [asyncactors]
  verbs: [get, list, patch, watch]
- apiGroups: [asya.sh]
  resources: [asyncactors/status]
  verbs: [get, patch]
- apiGroups: [asya.sh]
  resources: [asyncactors/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects, scaledjobs, triggerauthentications]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [create, delete, get, list, patch, watch]
# Accounts are made for actors on SQS alone; those that it has made may be deleted later, too.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [{{ if include "operator.makesAccounts" . }}create, {{ end }}delete, get, list, {{ if include "operator.makesAccounts" . }}patch, {{ end }}watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- with include "operator.secretNames" . | fromJsonArray }}
# Secrets of the transports, by name; they cannot be listed.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
{{- end }}
{{- end -}}
